"""What PyTorch and transformers take for the work of the model benchmark. Reads names of cases from standard input, one a line,
and answers each with the seconds of one run. Usage: models_torch.py MODEL_DIR THREADS"""
import sys
import time

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

directory, threads = sys.argv[1], int(sys.argv[2])
logging.disable_progress_bar()
torch.set_num_threads(threads)
torch.manual_seed(0)


def train(batch, length, mixed=False):
    """With mixed: weights in float32, products in bfloat16."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    ids = torch.randint(0, model.config.vocab_size, (batch, length))

    def run():
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def score(batch, length, dtype=torch.float32):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
    ids = torch.randint(0, model.config.vocab_size, (batch, length))

    def run():
        with torch.no_grad():
            model(input_ids=ids)

    return run


def generate(batch, new, dtype=torch.float32):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
    ids = torch.randint(100, 20000, (batch, 64))

    def run():
        with torch.no_grad():
            model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=True, max_new_tokens=new, min_new_tokens=new, pad_token_id=0)

    return run


makers = {
    "train": train, "train-lean": train, "score": score, "generate": generate,
    "train-bf16": lambda *size: train(*size, mixed=True),
    "score-bf16": lambda *size: score(*size, dtype=torch.bfloat16),
    "generate-bf16": lambda *size: generate(*size, dtype=torch.bfloat16),
}
name, run = None, None
for line in sys.stdin:
    if line != name:
        kind, size = line.split()
        name, run = line, makers[kind](*map(int, size.split("x")))
    start = time.perf_counter()
    run()
    print(time.perf_counter() - start, flush=True)
