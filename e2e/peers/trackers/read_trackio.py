"""trackio reads what the script has sent it: read_trackio.py PROJECT RUN"""
import glob
import json
import os
import sys

import trackio

project, path = sys.argv[1:]
(run,) = trackio.Api().runs(project)
assert run.name == os.path.basename(path) and run.config["kind"] == "policy", (run, run.config)
lines = [json.loads(line) for file in sorted(glob.glob(path + "/iter-*/metrics.jsonl")) for line in open(file)]
logs = trackio.SQLiteStorage.get_logs(project, run.name)
assert [log["step"] for log in logs] == [line["iterations"] for line in lines], [log["step"] for log in logs]
assert logs[-1]["pass@8"] == lines[-1]["evaluation"]["pass_at"][-1]["mean"]
tables = 0
for log, line in zip(logs, lines, strict=True):
    for name, value in line["metrics"].items():
        assert log[name] == value, (name, log[name], value)
    if "samples" in log:
        tables += 1
        rows = log["samples"]["_value"]
        assert log["samples"]["_type"] == "trackio.table" and 0 < len(rows) <= 20, rows
        assert all(row["prompt"] and row["verdict"] and row["outcome"] in (0, 1, None) for row in rows), rows
assert tables == len(glob.glob(path + "/iter-*")), tables
print(f"trackio {trackio.__version__}: {len(logs)} steps, {tables} tables")
