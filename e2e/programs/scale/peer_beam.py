"""The work of `jobs outcome` in Beam for Python on its embedded runner: synthetic responses, their outcomes, and advantages
relative to their prompt's group (GRPO). peer_beam.py VERIFIER RECORDS GROUPS RESPONSES TOKENS [WORKERS MODE] prints the rows it
counted and one JSON object; MODE is multi_threading or multi_processing.

VERIFIER is boxed, the last \\boxed{} read as a number, or math-verify, the package of that name, which like the verifier it is
compared with reads expressions. An element is a response; those of a prompt come together in a GroupByKey.
"""
import json
import re
import resource
import sys
import time

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

VERIFIER = sys.argv[1]
RECORDS, GROUPS, RESPONSES, TOKENS = map(int, sys.argv[2:6])
WORKERS, MODE = int(sys.argv[6]) if sys.argv[6:] else 1, sys.argv[7] if sys.argv[7:] else "in_memory"
BOXED = re.compile(r"\\boxed\{([^{}]*)\}")


def boxed(row):
    found = BOXED.findall(row["response"])
    return bool(found) and float(found[-1]) == float(row["answer"])


def math_verify(row):
    from math_verify import parse, verify
    return verify(parse(row["answer"], parsing_timeout=None), parse(row["response"], parsing_timeout=None), timeout_seconds=None)


class Source(beam.DoFn):
    def process(self, index):
        rng = np.random.default_rng([2, index])
        for g in range(GROUPS):
            a, b = (int(x) for x in rng.integers(100, 1000, 2))
            prompt = f"A shop sells {a} pens on Monday and {b} pens on Tuesday. How many pens does it sell on both days?"
            for _ in range(RESPONSES):
                n = TOKENS // 2 + int(rng.integers(0, TOKENS + 1))
                text, size = [], 0
                while size < 4 * n - 40:
                    text.append(f"Step {len(text) + 1}: take {a} pens and add {b} pens, which may be done in parts. ")
                    size += len(text[-1])
                text.append(f"So the answer is \\boxed{{{a + b + int(rng.integers(0, 2))}}}.")
                yield index * GROUPS + g, {"prompt": prompt, "answer": str(a + b), "response": "".join(text), "finish_reason": "stop",
                                           "tokens": rng.integers(0, 49152, n, dtype=np.int32),
                                           "old_logp": -4 * rng.random(n, dtype=np.float32)}


def label(element):
    key, row = element
    right = math_verify(row) if VERIFIER == "math-verify" else boxed(row)
    return key, {**row, "outcome": float(right), "verdict": "correct" if right else "incorrect"}


def advantage(element):
    _, rows = element
    rows = list(rows)
    outcome = np.array([r["outcome"] for r in rows])
    mean, std = outcome.mean(), outcome.std()
    for row, x in zip(rows, outcome):
        if 0 < mean < 1:
            n = len(row["tokens"])
            row = {**row, "advantage": np.full(n, (x - mean) / (std + 1e-6), dtype=np.float32), "token_mask": np.ones(n, dtype=np.int32)}
        yield row


def processor():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


start, cpu = time.time(), processor()
with beam.Pipeline(runner="FnApiRunner", options=PipelineOptions([f"--direct_num_workers={WORKERS}", f"--direct_running_mode={MODE}"])) as pipeline:
    (pipeline | beam.Create(range(RECORDS)) | beam.Reshuffle() | beam.ParDo(Source()) | beam.Map(label) | beam.GroupByKey()
     | beam.FlatMap(advantage) | beam.combiners.Count.Globally() | beam.Map(print))
seconds, cpu = time.time() - start, processor() - cpu
print(json.dumps({"runner": f"beam python {beam.__version__}, {VERIFIER}" + (f", {MODE} {WORKERS}" if WORKERS > 1 else ""), "rows": RECORDS * GROUPS * RESPONSES, "seconds": seconds, "cpu_seconds": cpu}))
