"""PyTorch's side of the kernel benchmark. Reads names of cases from standard input, one a line, and answers each with the
seconds of its fastest run. Usage: kernels_torch.py THREADS"""
import sys
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)


def product(m, k, n):
    a, b = torch.randn(m, k), torch.randn(n, k)
    return lambda: torch.mm(a, b.t())


def product_nn(m, k, n):
    a, b = torch.randn(m, k), torch.randn(k, n)
    return lambda: torch.mm(a, b)


def product_tn(m, k, n):
    a, b = torch.randn(k, m), torch.randn(k, n)
    return lambda: torch.mm(a.t(), b)


def product_bf16(m, k, n):
    a, b = torch.randn(m, k).bfloat16(), torch.randn(n, k).bfloat16()
    return lambda: torch.mm(a, b.t())


def product_nn_bf16(m, k, n):
    a, b = torch.randn(m, k).bfloat16(), torch.randn(k, n).bfloat16()
    return lambda: torch.mm(a, b)


def product_tn_bf16(m, k, n):
    a, b = torch.randn(k, m).bfloat16(), torch.randn(k, n).bfloat16()
    return lambda: torch.mm(a.t(), b)


def head(rows, d, v):
    h = torch.randn(rows, d, requires_grad=True)
    w = torch.randn(v, d, requires_grad=True)
    y = torch.randint(0, v, (rows,))
    w.data *= 0.05

    def run():
        h.grad = None
        w.grad = None
        F.cross_entropy(h @ w.t(), y).backward()

    return run


def log_softmax(rows, v):
    z = torch.randn(rows, v)
    return lambda: F.log_softmax(z, -1)


def top(rows, v, k):
    z = torch.randn(rows, v)
    return lambda: torch.topk(z, k, -1)


def rmsnorm(rows, d):
    x, g = torch.randn(rows, d), torch.ones(d)
    return lambda: F.rms_norm(x, (d,), g)


def rope(rows, heads, d):
    x = torch.randn(rows, heads, d)
    angle = torch.outer(torch.arange(rows), 1 / 10000 ** (torch.arange(0, d, 2) / d))
    cos, sin = (torch.cat((f, f), -1)[:, None, :] for f in (angle.cos(), angle.sin()))

    def run():
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat((-b, a), -1) * sin

    return run


def swiglu(n):
    gate, up = torch.randn(n), torch.randn(n)
    return lambda: F.silu(gate) * up


def adamw(n):
    p = torch.randn(n, requires_grad=True)
    p.grad = torch.randn_like(p)
    opt = torch.optim.AdamW([p], lr=1e-3, fused=True)
    return opt.step


def attention(batch, heads, n, d, dtype=torch.float32):
    q, k, v = (torch.randn(batch, heads, n, d, dtype=dtype) for _ in range(3))
    return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)


def attention_train(batch, heads, n, d, dtype=torch.float32):
    q, k, v = (torch.randn(batch, heads, n, d, dtype=dtype, requires_grad=True) for _ in range(3))
    dy = torch.randn(batch, heads, n, d, dtype=dtype)

    def run():
        q.grad = k.grad = v.grad = None
        F.scaled_dot_product_attention(q, k, v, is_causal=True).backward(dy)

    return run


makers = {
    "NT": product, "NN": product_nn, "TN": product_tn, "packed": product, "bf16": product_bf16,
    "NT-bf16": product_bf16, "NN-bf16": product_nn_bf16, "TN-bf16": product_tn_bf16, "packed-bf16": product_bf16, "head": head,
    "log-softmax": log_softmax, "top": top, "rmsnorm": rmsnorm, "rope": rope, "swiglu": swiglu, "adamw": adamw,
    "attention": attention, "attention-train": attention_train,
    "attention-bf16": lambda *size: attention(*size, torch.bfloat16),
    "attention-train-bf16": lambda *size: attention_train(*size, torch.bfloat16),
}

name, run = None, None
for line in sys.stdin:
    if line != name:
        run = None  # frees the previous case before the next is built
        kind, size = line.split()
        name, run = line, makers[kind](*map(int, size.split("x")))
        run()
    best, start = float("inf"), time.perf_counter()
    while True:
        t = time.perf_counter()
        run()
        now = time.perf_counter()
        best = min(best, now - t)
        if now - start > 0.15:
            break
    print(best, flush=True)
