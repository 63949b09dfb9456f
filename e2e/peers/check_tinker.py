"""Tinker's own types hold every Datum, as the loader of docs/export.md makes it."""
import importlib.metadata
import sys

import numpy as np
import tinker

from tiny import path, rows, same

sys.path.insert(0, path("converters"))
from millrace_tinker import data

learned = [r for r in rows("math") if r["advantage"] is not None]
read = data(path("math", "tinker", "data.jsonl"))
same("rows", len(read), len(learned))
for d, r in zip(read, learned, strict=True):
    assert isinstance(d, tinker.Datum)
    prompt, response = r["prompt_tokens"], r["response_tokens"]
    same("input", d.model_input.to_ints(), (prompt + response)[:-1])
    inputs = {k: v.to_numpy() for k, v in d.loss_fn_inputs.items()}
    same("keys", sorted(inputs), ["advantages", "logprobs", "target_tokens"])
    same("targets", inputs["target_tokens"].tolist(), (prompt + response)[1:])
    same("types", [str(inputs[k].dtype) for k in sorted(inputs)], ["float32", "float32", "int64"])
    at = len(prompt) - 1
    assert np.array_equal(inputs["logprobs"][at:], np.float32(r["old_logp"])) and not inputs["logprobs"][:at].any()
    assert np.array_equal(inputs["advantages"][at:], np.float32(r["advantage"]) * r["token_mask"]) and not inputs["advantages"][:at].any()
print(f"{len(read)} data; tinker", importlib.metadata.version("tinker"))
