"""Sends a run to trackio or to W&B: python send.py trackio|wandb RUN [PROJECT]"""
import importlib
import json
import os
import pathlib
import sys
import uuid

import pyarrow.parquet as parquet
import yaml

COLUMNS, ROWS, CHARACTERS = ["prompt", "response", "outcome", "verdict", "reward", "advantage"], 20, 2000
tracker, run, project = importlib.import_module(sys.argv[1]), pathlib.Path(sys.argv[2]).absolute(), (sys.argv[3:] or ["millrace"])[0]


def cell(x):
    if isinstance(x, list):  # of tokens
        return sum(x) / len(x) if x else None
    return x[:CHARACTERS] if isinstance(x, str) else x


def samples(iteration):
    rows = parquet.ParquetFile(min(iteration.glob("batch-*.parquet")))
    columns = [c for c in COLUMNS if c in rows.schema_arrow.names]
    first = next(rows.iter_batches(ROWS, columns=columns)).to_pylist()
    return tracker.Table(columns=columns, data=[[cell(row[c]) for c in columns] for row in first])


if tracker.__name__ == "trackio":  # it keeps projects in files, which say what is there already
    last, more = tracker.SQLiteStorage.get_max_step_for_run(project, run.name), {}
else:  # one id for a run; where nobody says otherwise nothing leaves this machine
    last, more = None, {"id": uuid.uuid5(uuid.NAMESPACE_URL, str(run)).hex, "mode": os.environ.get("WANDB_MODE", "offline")}
told = tracker.init(project=project, name=run.name, config=yaml.safe_load((run / "config.yaml").read_text()), resume="allow", **more)
for manifest in sorted(run.glob("iter-*/manifest.json")):  # which an iteration has once it is committed
    measured = [json.loads(line) for line in (manifest.parent / "metrics.jsonl").read_text().splitlines()]
    for m in measured:
        if last is None or m["iterations"] > last:
            table = {"samples": samples(manifest.parent)} if m is measured[-1] else {}
            passes = {f"pass@{p['k']}": p["mean"] for p in m.get("evaluation", {}).get("pass_at", [])}
            told.log(m["metrics"] | passes | table, step=m["iterations"])
told.finish()
