"""Loads model directories that Millrace wrote with Hugging Face transformers and compares logits.

Usage: check.py DIR...

Every DIR holds a model and, beside it, logits.json: {"tokens": [ids], "logits": [[V numbers] per token], "tolerance": x}.
Prints one JSON object a directory; exit status 1 when one differs, or when a tensor is missing or unexpected.
Needs torch and transformers (and peft where DIR holds an adapter).
"""
import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM


def load(path):
    if os.path.exists(os.path.join(path, "adapter_config.json")):
        from peft import PeftModel
        base = json.load(open(os.path.join(path, "adapter_config.json")))["base_model_name_or_path"]
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return PeftModel.from_pretrained(model, path), {}
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, output_loading_info=True)


failed = False
for path in sys.argv[1:]:
    want = json.load(open(os.path.join(path, "logits.json")))
    model, info = load(path)
    problems = {k: sorted(map(str, v)) for k, v in info.items() if v and k in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    allowed = set(want.get("extra_tensors", []))
    problems = {k: [x for x in v if x not in allowed] for k, v in problems.items()}
    problems = {k: v for k, v in problems.items() if v}
    with torch.no_grad():
        got = model.eval()(input_ids=torch.tensor([want["tokens"]])).logits[0].double()
    difference = (got - torch.tensor(want["logits"], dtype=torch.float64)).abs().max().item()
    ok = difference <= want["tolerance"] and not problems
    failed |= not ok
    print(json.dumps({"dir": os.path.basename(path), "max_difference": difference, "ok": ok, **problems}))
sys.exit(1 if failed else 0)
