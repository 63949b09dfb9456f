"""The same job in Beam for Python on its embedded runner: peer.py ROWS.jsonl OUT. JSON lines in, verdicts of math-verify, Parquet out."""
import json
import resource
import sys
import time

import apache_beam as beam
import pyarrow


def judge(line):
    from math_verify import parse, verify
    row = json.loads(line)
    right = verify(parse(row["answer"], parsing_timeout=None), parse(row["response"], parsing_timeout=None), timeout_seconds=None)
    return {"id": row["id"], "question": row["question"], "answer": row["answer"], "response": row["response"], "outcome": float(right)}


schema = pyarrow.schema([("id", pyarrow.int64()), ("question", pyarrow.string()), ("answer", pyarrow.string()), ("response", pyarrow.string()),
                         ("outcome", pyarrow.float32())])
start = time.time()
with beam.Pipeline(runner="FnApiRunner") as pipeline:
    pipeline | beam.io.ReadFromText(sys.argv[1]) | beam.Map(judge) | beam.io.WriteToParquet(sys.argv[2], schema)
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps({"program": f"beam python {beam.__version__}, math-verify", "seconds": round(time.time() - start, 1),
                  "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in used), 1), "peak_mb": max(u.ru_maxrss for u in used) // 1024}))
