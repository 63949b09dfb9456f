"""TRL's PRMTrainer takes a step on judged steps, and reads a label at the end of each."""
from datasets import load_dataset
from trl.experimental.prm import PRMConfig, PRMTrainer

import trl
from tiny import lines, model, path, rows, same, settings, step, tokenizer

t = tokenizer()
records = lines("math", "trl-prm", "train.jsonl")
trainer = PRMTrainer(model=model(t, "LlamaForTokenClassification", num_labels=2), args=PRMConfig(**settings(max_length=256)),
                     train_dataset=load_dataset("json", data_files=path("math", "trl-prm", "train.jsonl"), split="train"), processing_class=t)
for read, record in zip(trainer.train_dataset, records, strict=True):
    same("labels", [x for x in read["labels"] if x != -100], [int(x) for x in record["labels"]])
judged = [r for r in rows("math") if r["first_error"] is not None]
same("responses", len(records), len(judged))
for record, row in zip(records, judged, strict=True):
    whole = "\n".join(record["completions"])
    assert row["response"].startswith(whole) and (row["first_error"] >= 0 or row["response"].rstrip("\n") == whole), (record, row)
    same("the first wrong step", record["labels"].index(False) if False in record["labels"] else -1, row["first_error"])
step("PRM", trainer)
print("trl", trl.__version__)
