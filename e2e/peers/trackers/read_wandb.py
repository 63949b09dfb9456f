"""W&B's own records are read from the file of an offline run: read_wandb.py FOLDER RUN, where wandb has written to FOLDER/wandb."""
import glob
import json
import os
import struct
import sys

import wandb
from wandb.proto import wandb_internal_pb2

folder, path = sys.argv[1:]


def records(file):
    """The file is a log of records in blocks of 32 KiB, each piece with a checksum, its length and whether it is a whole or a part."""
    raw, at, held = open(file, "rb").read(), 7, b""
    while at < len(raw):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, part = struct.unpack("<IHB", raw[at : at + 7])
        held += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if part in (1, 4):
            yield wandb_internal_pb2.Record.FromString(held)
            held = b""


(file,) = glob.glob(folder + "/wandb/offline-run-*/*.wandb")
history, config, name = [], {}, ""
for record in records(file):
    if record.HasField("run"):
        name = record.run.display_name
        config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
    if record.HasField("history"):
        history.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item})
assert name == os.path.basename(path) and config["kind"] == "policy", (name, config)
lines = [json.loads(line) for part in sorted(glob.glob(path + "/iter-*/metrics.jsonl")) for line in open(part)]
assert [step["_step"] for step in history] == [line["iterations"] for line in lines], [step["_step"] for step in history]
assert history[-1]["pass@8"] == lines[-1]["evaluation"]["pass_at"][-1]["mean"]
tables = 0
for step, line in zip(history, lines, strict=True):
    for key, value in line["metrics"].items():
        assert step[key] == value, (key, step.get(key), value)
    if "samples" in step or any(key.startswith("samples") for key in step):
        tables += 1
files = glob.glob(os.path.dirname(file) + "/files/media/table/samples_*.table.json")
assert tables == len(files) == len(glob.glob(path + "/iter-*")), (tables, files)
for table in map(json.load, map(open, files)):
    assert table["columns"][:4] == ["prompt", "response", "outcome", "verdict"] and 0 < len(table["data"]) <= 20, table
print(f"wandb {wandb.__version__}: {len(history)} steps, {tables} tables")
