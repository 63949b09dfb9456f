"""TRL: SFT, DPO, KTO and GRPO take a step on what was exported. Prompts that a chat template was applied to are those that the run read."""
import glob
import json
import sys

import numpy as np
from datasets import load_dataset
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

import trl
from tiny import lines, model, path, rows, same, settings, step, tokenizer

t = tokenizer()


def data(of, name):
    return load_dataset("json", data_files=path(of, name, "train.jsonl"), split="train")


for of in "math", "chat":
    truth = rows(of)
    sft = SFTTrainer(model=model(t), args=SFTConfig(**settings(max_length=256)), train_dataset=data(of, "trl-sft"), processing_class=t)
    read = [r["input_ids"] for r in sft.train_dataset]
    right = [r for r in truth if r["outcome"] == 1]
    same("right responses", len(read), len(right))
    step(f"{of} SFT", sft)
    step(f"{of} DPO", DPOTrainer(model=model(t), ref_model=model(t), args=DPOConfig(**settings(max_length=256)),
                                 train_dataset=data(of, "trl-dpo"), processing_class=t))
    kto = data(of, "trl-kto")
    same("labels", sorted(kto["label"]), sorted(r["outcome"] == 1 for r in truth if r["outcome"] is not None))
    step(f"{of} KTO", KTOTrainer(model=model(t), ref_model=model(t), args=KTOConfig(**settings(max_length=256)), train_dataset=kto,
                                 processing_class=t))

    seen = []

    def reward(prompts, completions, answer, **more):
        seen.extend(answer)
        return [float(len(str(c)) % 7) for c in completions]

    step(f"{of} GRPO", GRPOTrainer(model=model(t), reward_funcs=reward, train_dataset=data(of, "trl-grpo"), processing_class=t,
                                   args=GRPOConfig(**settings(num_generations=2, max_completion_length=8))))
    assert seen and set(seen) <= {r["answer"] for r in truth}, seen

# A template is applied once: to the messages of the run that had one, with the ids that the run read, and to no text.
wanted = {tuple(r["prompt_tokens"]) for r in rows("chat")}
for record in lines("chat", "trl-grpo", "train.jsonl"):
    ids = t.apply_chat_template(record["prompt"], add_generation_prompt=True, tokenize=True, return_dict=False)
    assert tuple(ids) in wanted, record
for record in lines("math", "trl-grpo", "train.jsonl"):
    assert isinstance(record["prompt"], str), record

# The rollout_func of docs/export.md answers with the ids and log-probs that the run keeps.
sys.path.insert(0, path("converters"))
from millrace_trl import Rollouts

files, given = sorted(glob.glob(path("run", "iter-*", "batch-*.parquet"))), []
stored = Rollouts(path("math", "trl-grpo", "train.jsonl"), files)


def rollouts(prompts, trainer):
    out = stored(prompts, trainer)
    given.extend(zip(out["prompt_ids"], out["completion_ids"], out["logprobs"], strict=True))
    return out


trainer = GRPOTrainer(model=model(t), reward_funcs=lambda completions, **more: [float(i) for i, _ in enumerate(completions)],
                      train_dataset=data("math", "trl-grpo"), processing_class=t, rollout_func=rollouts,
                      args=GRPOConfig(**settings(num_generations=2, max_completion_length=64)))
step("GRPO on stored responses", trainer)
assert given
for p, c, logp in given:
    same_ids = [r for r in rows("math") if (r["prompt_tokens"], r["response_tokens"]) == (p, c)]
    assert any(np.array_equal(np.float32(r["old_logp"]), np.float32(logp)) for r in same_ids), (p, c)
trainer.args.temperature = 0.7
try:
    stored([lines("math", "trl-grpo", "train.jsonl")[0]["prompt"]], trainer)
    raise SystemExit("log-probs of another temperature are taken")
except ValueError as e:
    assert "temperature" in str(e), e
print("trl", trl.__version__)
