"""What the checks share: the exports and what they were made of, a tokenizer, and a model of random weights for one step of training."""
import json
import os
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
DIR = sys.argv[1]


def path(*parts):
    return os.path.join(DIR, *parts)


def lines(*parts):
    with open(path(*parts), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def rows(of):
    """The rows of a run as the format jsonl has them, which the other formats were made of."""
    return lines(of, "jsonl", "rows.jsonl")


def tokenizer():
    from transformers import AutoTokenizer

    t = AutoTokenizer.from_pretrained(path("tokenizer"))
    t.pad_token = t.pad_token or t.eos_token
    return t


def model(t, kind="LlamaForCausalLM", **more):
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=len(t), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                                      max_position_embeddings=256, bos_token_id=t.bos_token_id, eos_token_id=t.eos_token_id,
                                      pad_token_id=t.pad_token_id, **more)
    return getattr(transformers, kind)(config)


def settings(**more):
    """Arguments of a trainer that takes one step on this machine's processor."""
    return dict(output_dir=tempfile.mkdtemp(), max_steps=1, per_device_train_batch_size=2, use_cpu=True, report_to=[], save_strategy="no",
                bf16=False, gradient_checkpointing=False, disable_tqdm=True, **more)


def step(name, trainer):
    """Takes a step, whose loss must be a number."""
    import math

    loss = trainer.train().training_loss
    assert math.isfinite(loss), (name, loss)
    print(f"{name}: a step with loss {loss:.4f} on {len(trainer.train_dataset)} records")


def same(what, got, want):
    assert got == want, f"{what}: {got!r:.600}, want {want!r:.600}"
