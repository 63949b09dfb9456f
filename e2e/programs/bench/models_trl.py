"""What TRL's GRPOTrainer takes for one iteration (sampling, reward, advantages, update) on the prompts of the model benchmark.
A line on standard input starts one iteration, which is answered with its seconds.
Usage: models_trl.py MODEL_DIR THREADS PROMPTS.jsonl PROMPTSxSAMPLESxTOKENS float32|bfloat16"""
import json
import os
import sys
import tempfile
import time

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from transformers.utils import logging
from trl import GRPOConfig, GRPOTrainer

directory, threads, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
prompts, samples, new = map(int, sys.argv[4].split("x"))
logging.disable_progress_bar()
torch.set_num_threads(threads)
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the trainer prints is no answer


class OnRequest(TrainerCallback):
    def on_step_begin(self, *_, **__):
        if not sys.stdin.readline():
            os._exit(0)
        self.start = time.perf_counter()

    def on_step_end(self, *_, **__):
        print(time.perf_counter() - self.start, file=answers, flush=True)


def reward(completions, completion_ids=None, **_):
    return [float(sum(ids) % 2) for ids in completion_ids]


config = GRPOConfig(
    output_dir=tempfile.mkdtemp(), per_device_train_batch_size=prompts * samples, num_generations=samples, max_completion_length=new,
    max_steps=1000, learning_rate=1e-6, use_cpu=True, bf16=sys.argv[5] == "bfloat16", fp16=False, gradient_checkpointing=False, report_to=[],
    logging_strategy="no", save_strategy="no", beta=0.0, disable_tqdm=True)
trainer = GRPOTrainer(
    model=directory, reward_funcs=reward, args=config, processing_class=AutoTokenizer.from_pretrained(directory),
    train_dataset=Dataset.from_list([{"prompt": json.loads(line)["prompt"]} for line in open(file)]), callbacks=[OnRequest()])
trainer.model.float()
trainer.train()
