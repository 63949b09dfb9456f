"""slime is in no registry: its Sample is written here after slime/utils/types.py at commit 624b824, decoded strictly, and put into the
file that its trainer loads with --load-debug-rollout-data, as docs/export.md says."""
import sys
from typing import Literal

import msgspec
import numpy as np
import torch

from tiny import path, rows, same


class Sample(msgspec.Struct, forbid_unknown_fields=True):
    status: Literal["pending", "completed", "truncated", "aborted", "failed"]
    group_index: int | None = None
    index: int | None = None
    rollout_id: int | None = None
    prompt: str | list[dict[str, str]] = ""
    tokens: list[int] = []
    response: str = ""
    response_length: int = 0
    label: str | None = None
    reward: float | dict | None = None
    loss_mask: list[int] | None = None
    rollout_log_probs: list[float] | None = None
    metadata: dict = {}


sys.path.insert(0, path("converters"))
from millrace_slime import save

for of in "math", "chat":
    truth = [r for r in rows(of) if r["outcome"] is not None]
    with open(path(of, "slime", "samples.jsonl"), "rb") as f:
        samples = [msgspec.json.decode(line, type=Sample) for line in f]
    same("samples", len(samples), len(truth))
    same("indices", [s.index for s in samples], list(range(len(samples))))
    groups = [s.group_index for s in samples]
    assert groups == sorted(groups) and groups[0] == 0
    for s in samples:
        r = next(r for r in truth if r["prompt_tokens"] + r["response_tokens"] == s.tokens and r["outcome"] == s.reward)
        same("response", (s.response, s.response_length, s.label), (r["response"], len(r["response_tokens"]), r["answer"]))
        same("mask", len(s.loss_mask), s.response_length)
        if of == "math":
            assert any(np.array_equal(np.float32(s.rollout_log_probs), np.float32(r["old_logp"])) for r in truth
                       if r["prompt_tokens"] + r["response_tokens"] == s.tokens)
    save(path(of, "slime", "samples.jsonl"), path(of, "slime", "{rollout_id}.pt"))
    loaded = []
    for iteration in sorted({s.metadata["iteration"] for s in samples}):
        file = torch.load(path(of, "slime", f"{iteration}.pt"), weights_only=False)
        same("rollout", file["rollout_id"], iteration)
        loaded += file["samples"]
    same("saved", [s["tokens"] for s in loaded], [s.tokens for s in samples])
    print(f"{of}: {len(samples)} samples, {groups[-1] + 1} groups")
print("msgspec", msgspec.__version__)
