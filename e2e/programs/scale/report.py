"""Tables of the lines that scale.sh prints: report.py FILE. Figures are minima over the rounds."""
import collections
import json
import sys

runs = collections.defaultdict(list)
for line in open(sys.argv[1]):
    r = json.loads(line)
    runs[r["job"], r["runner"], r.get("slots", 0)].append(r)


def cpu(r):
    c = r["cpu_seconds"]
    return c if isinstance(c, float) else c["driver"] + c.get("workers", 0) + c.get("task_managers", 0)


print("| job | runner | slots | rows | s | rows/s | tokens/s | CPU s | rows/CPU s | peak MB: driver, workers, TaskManagers |\n|---|---|---|---|---|---|---|---|---|---|")
for (job, runner, slots), rs in runs.items():
    s, c, r = min(x["seconds"] for x in rs), min(map(cpu, rs)), rs[0]
    peak = r.get("peak_rss_mb", {})
    print(f"| {job} | {runner} | {slots or ''} | {r['rows']} | {s:.1f} | {r['rows'] / s:.0f} | {r.get('tokens', 0) / s:.0f} | {c:.2f} | {r['rows'] / max(c, 0.01):.0f} | "
          + ", ".join(f"{peak[k]:.0f}" for k in ("driver", "workers", "task_managers") if k in peak) + " |")

# A stage counts the seconds it works, added over its slots; with as many rows on each that is so many times what a clock shows.
places = [("prism", 0, "embedded runner")] + [("flink", n, f"Flink, {n} slot{'s' if n > 1 else ''}") for n in (1, 2, 4)]
print("\n| job | stage | " + " | ".join(f"{title}: rows/s, tokens/s" for _, _, title in places) + " |\n|---|---|" + "---|" * len(places))
for job in dict.fromkeys(job for job, _, _ in runs):
    for name in sorted({s["name"] for (j, r, _), rs in runs.items() if j == job and r in ("prism", "flink") for s in rs[0]["stages"]}):
        cells = []
        for runner, slots, _ in places:
            seen = [(s, r) for r in runs.get((job, runner, slots), []) for s in r["stages"] if s["name"] == name and s["seconds"] > 0]
            if not seen:
                cells.append("")
                continue
            s, r = min(seen, key=lambda x: x[0]["seconds"])
            rate = s["rows"] * max(slots, 1) / s["seconds"]
            cells.append(f"{rate:,.0f}, {rate * r['tokens'] / r['rows']:,.0f}")
        if any(cells):
            print(f"| {job} | {name} | " + " | ".join(cells) + " |")

print("\n| job | stage, called | rows/CPU s | tokens/CPU s |\n|---|---|---|---|")
for (job, runner, _), rs in runs.items():
    if runner != "none":
        continue
    tokens = rs[0]["tokens"] / rs[0]["rows"]
    for k, stage in enumerate(rs[0]["stages"]):
        c = min(x["stages"][k].get("cpu", 0) for x in rs)
        if c > 0:
            print(f"| {job} | {stage['name']} | {stage['rows'] / c:.0f} | {stage['rows'] * tokens / c:.0f} |")
