"""prime-rl is in no registry: its wire type is written here after src/prime_rl/transports/rollouts/types.py at commit 559b447. The bytes
are decoded as its trainer does, and hold the rows of the run. Unknown or misplaced fields, wrong types and lengths are errors of msgspec."""
import glob
import os

import msgspec
import numpy as np

from tiny import path, rows, same


class MicroBatch(msgspec.Struct, array_like=True, omit_defaults=True):
    input_ids: list[int]
    loss_mask: list[bool]
    advantages: list[float]
    inference_logprobs: list[float]
    position_ids: list[int]
    sequence_lengths: list[int]
    temperatures: list[float]
    env_names: list[str]
    seq_lens: list[int]
    ref_logprobs: list[float] | None = None
    routed_experts: list | None = None
    mm_kwargs: dict | None = None
    mm_token_type_ids: list[int] | None = None
    rl_weights: list[float] | None = None
    ce_weights: list[float] | None = None
    ref_kl_weights: list[float] | None = None


RANKS, SEQ_LEN = 3, 256
decode = msgspec.msgpack.Decoder(type=list[MicroBatch], strict=True).decode
learned = {(tuple(r["prompt_tokens"]), tuple(r["response_tokens"])): r for r in rows("math") if r["advantage"] is not None}
read, total = set(), 0
same("steps", sorted(os.listdir(path("math", "prime-rl", "rollouts"))), ["step_0", "step_1"])
for step in glob.glob(path("math", "prime-rl", "rollouts", "step_*")):
    same("ranks", sorted(os.listdir(step)), [f"rank_{i}.bin" for i in range(RANKS)])
    ranks = [decode(open(os.path.join(step, f"rank_{i}.bin"), "rb").read()) for i in range(RANKS)]
    assert len({len(r) for r in ranks}) == 1 and len(ranks[0]) > 0, [len(r) for r in ranks]
    for batch in (b for r in ranks for b in r):
        n = len(batch.input_ids)
        assert n <= SEQ_LEN and sum(batch.sequence_lengths) == n == sum(batch.seq_lens)
        for field in "loss_mask advantages inference_logprobs position_ids temperatures env_names".split():
            same(field, len(getattr(batch, field)), n)
        same("temperatures", set(batch.temperatures), {1.0})
        at = 0
        for length in batch.sequence_lengths:
            part = slice(at, at + length)
            at += length
            same("positions", batch.position_ids[part], list(range(length)))
            if not any(batch.loss_mask[part]):
                same("what teaches nothing", set(batch.advantages[part]), {0.0})
                continue
            first = batch.loss_mask[part].index(True)
            ids = batch.input_ids[part]
            key = (tuple(ids[:first]), tuple(ids[first:]))
            r = learned[key]
            assert np.array_equal(np.float32(batch.inference_logprobs[part][first:]), np.float32(r["old_logp"]))
            assert np.array_equal(np.float32(batch.advantages[part][first:]), np.float32(r["advantage"]))
            same("mask", batch.loss_mask[part][first:], [m != 0 for m in r["token_mask"]])
            read.add(key)
            total += 1
same("responses", read, set(learned))
print(f"{total} responses in microbatches; msgspec", msgspec.__version__)
