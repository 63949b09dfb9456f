"""verl's RLHFDataset reads the prompts; the rollouts are those of the run, and the converter of docs/export.md makes a DataProto of them."""
import glob
import importlib.metadata
import json
import sys

import numpy as np
import torch
from omegaconf import OmegaConf
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

from tiny import lines, path, rows, same, tokenizer

t = tokenizer()
for of in "math", "chat":
    truth = rows(of)
    answers = {r["prompt_id"]: r["answer"] for r in truth}
    data = RLHFDataset(path(of, "verl", "prompts.parquet"), t, OmegaConf.create({"cache_dir": path(of, "cache"), "max_prompt_length": 256}))
    same("prompts", len(data), len(answers))
    batch = collate_fn([data[i] for i in range(len(data))])
    same("indices", list(batch["index"]), list(range(len(data))))
    for i in range(len(data)):
        prompt = data[i]["extra_info"]["prompt_id"]
        same("answer", data[i]["reward_model"], {"style": "rule", "ground_truth": answers[prompt]})
        same("roles", [m["role"] for m in data[i]["raw_prompt"]][-1], "user")
        if of == "chat":
            ids = t.apply_chat_template(data[i]["raw_prompt"], add_generation_prompt=True, tokenize=True, return_dict=False)
            assert ids in [r["prompt_tokens"] for r in truth if r["prompt_id"] == prompt], data[i]
    judged = {r["response_id"]: r for r in truth if r["outcome"] is not None}
    written = [json.loads(line) for name in glob.glob(path(of, "verl", "rollouts", "*.jsonl")) for line in open(name, encoding="utf-8")]
    same("rollouts", {w["response_id"] for w in written}, set(judged))
    for w in written:
        r = judged[w["response_id"]]
        same("rollout", (w["output"], w["gts"], w["score"]), (r["response"], r["answer"], r["outcome"]))

sys.path.insert(0, path("converters"))
from millrace_verl import data_proto

files = sorted(glob.glob(path("run", "iter-00001", "batch-*.parquet")))
proto = data_proto(files, pad=0)
learned = [r for r in rows("last") if r["advantage"] is not None]
same("rows", list(proto.non_tensor_batch["uid"]), [r["prompt_id"] for r in learned])
for i, r in enumerate(learned):
    n = len(r["response_tokens"])
    b = proto.batch[i]
    same("ids", b["responses"][:n].tolist(), r["response_tokens"])
    same("prompt", b["prompts"][b["prompts"].shape[0] - len(r["prompt_tokens"]):].tolist(), r["prompt_tokens"])
    same("mask", b["response_mask"].tolist(), r["token_mask"] + [0] * (b["responses"].shape[0] - n))
    assert torch.equal(b["old_log_probs"][:n], torch.from_numpy(np.float32(r["old_logp"]))), r
    assert torch.equal(b["advantages"][:n], torch.from_numpy(np.float32(r["advantage"]))), r
    same("attention", int(b["attention_mask"].sum()), len(r["prompt_tokens"]) + n)
    same("first position", b["position_ids"][b["attention_mask"].bool()][0].item(), 0)
same("temperature", proto.meta_info["temperature"], 1.0)
print(f"DataProto of {len(proto)} rows; verl", importlib.metadata.version("verl"))
