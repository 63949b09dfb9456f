"""Trains on what `millrace export --to trl-kto` has written, with TRL: python train.py for-trl MODEL."""
import sys

from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import KTOConfig, KTOTrainer

rows = load_dataset("json", data_files=sys.argv[1] + "/train.jsonl", split="train")
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
trainer = KTOTrainer(
    model=AutoModelForCausalLM.from_pretrained(sys.argv[2]),
    processing_class=tokenizer,
    train_dataset=rows,
    args=KTOConfig(output_dir="trained", max_steps=10, per_device_train_batch_size=4),
)
trainer.train()
