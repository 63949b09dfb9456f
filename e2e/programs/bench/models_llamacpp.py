"""What llama.cpp takes for the work of the model benchmark, through the low-level functions of llama-cpp-python. Reads names of
cases from standard input, one a line, and answers each with the seconds of one run. Decoding leaves out the sampling, which is
Python's here, and the prompts. Usage: models_llamacpp.py FILE.gguf THREADS"""
import ctypes
import sys
import time

import llama_cpp as L
import numpy as np

threads = int(sys.argv[2])
PROMPT = 64
rng = np.random.default_rng(0)
quiet = L.llama_log_callback(lambda level, text, data: None)
L.llama_log_set(quiet, ctypes.c_void_p(0))
L.llama_backend_init()
model = L.llama_model_load_from_file(sys.argv[1].encode(), L.llama_model_default_params())
vocabulary = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))


def fill(batch, tokens, positions, sequences, logits):
    batch.n_tokens = len(tokens)
    for i, (t, p, s, z) in enumerate(zip(tokens, positions, sequences, logits)):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = int(t), p, 1, s, z


class Sequences:
    def __init__(self, count, new):
        p = L.llama_context_default_params()
        p.n_ctx, p.n_batch, p.n_ubatch, p.n_seq_max = count * (PROMPT + new + 16), count * PROMPT, 512, count
        p.n_threads = p.n_threads_batch = threads
        self.count, self.context, self.batch = count, L.llama_init_from_model(model, p), L.llama_batch_init(count * PROMPT, 0, count)

    def decode(self):
        start = time.perf_counter()
        assert L.llama_decode(self.context, self.batch) == 0
        L.llama_synchronize(self.context)
        return time.perf_counter() - start

    def prompts(self):
        """All prompts in one call, the logits of the last token of each."""
        L.llama_memory_clear(L.llama_get_memory(self.context), True)
        n = self.count * PROMPT
        fill(self.batch, rng.integers(100, 20000, n), [i % PROMPT for i in range(n)], [i // PROMPT for i in range(n)],
             [i % PROMPT == PROMPT - 1 for i in range(n)])
        return self.decode()

    def sample(self, i):
        z = np.ctypeslib.as_array(L.llama_get_logits_ith(self.context, i), shape=(vocabulary,))
        return int((z + rng.gumbel(size=vocabulary).astype(np.float32)).argmax())


def decode(count, new):
    s = Sequences(count, new)

    def run():
        s.prompts()
        seconds, tokens = 0.0, rng.integers(100, 20000, count)
        for n in range(new):
            fill(s.batch, tokens, [PROMPT + n] * count, range(count), [1] * count)
            seconds += s.decode()
            tokens = [s.sample(i) for i in range(count)]
        return seconds

    return run


def prompt(count, length):
    assert length == PROMPT
    return Sequences(count, 0).prompts


makers = {"decode": decode, "prompt": prompt}
name, run = None, None
for line in sys.stdin:
    if line != name:
        kind, size = line.split()
        name, run = line, makers[kind](*map(int, size.split("x")))
    print(run(), flush=True)
