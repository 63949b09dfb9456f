"""A trainer for docs/external.md: Llama, Qwen2 and Qwen3 in plain PyTorch, the losses of docs/losses.md that go by log-probs of listed
tokens, AdamW with clipping. It needs torch, safetensors and pyarrow, and computes in float32 on whatever device there is.

    trainer.py TASK              does one update; TASK is the path of task.json
    trainer.py --watch DIR       does every task that appears in DIR/iter-*/
    --device cuda:0              else cuda where there is one, or the processor
    --microbatch 8               rows that are in memory as activations at a time
    --gradients                  leave the gradients of the first step beside the optimizer's state
"""

import argparse
import hashlib
import json
import math
import pathlib
import shutil
import time

import pyarrow.parquet
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

PROTOCOL = 1
SAMPLE, CHOSEN, REJECTED = "sample", "chosen", "rejected"


# The model: weights by their names in the checkpoint, and what is computed of them.


def read_weights(path):
    index = path / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        names = ["model.safetensors"]
    weights = {}
    for name in names:
        weights.update(load_file(path / name))
    return {name: w.float() for name, w in weights.items()}


def inverse_frequencies(config, dim):
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = scaling.get("rope_theta", config.get("rope_theta", 10000.0))
    f = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "linear":
        return f / scaling["factor"]
    if kind == "llama3":
        turns = scaling["original_max_position_embeddings"] * f / (2 * math.pi)
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        s = ((turns - low) / (high - low)).clamp(0, 1)
        return (1 - s) * f / scaling["factor"] + s * f
    if kind != "default":
        raise SystemExit(f"rope_type {kind} is not known")
    return f


class Model:
    """A causal language model, with adapters where it has some."""

    def __init__(self, path, base, device):
        where = pathlib.Path(base or path)
        self.config = json.loads((where / "config.json").read_text())
        self.weights = {name: w.to(device) for name, w in read_weights(where).items()}
        if self.config.get("tie_word_embeddings"):
            self.weights.pop("lm_head.weight", None)
        self.adapters, self.scale, self.targets = {}, 0.0, []
        if base:
            a = json.loads((pathlib.Path(path) / "adapter_config.json").read_text())
            self.scale, self.targets = a["lora_alpha"] / a["r"], a["target_modules"]
            self.adapters = {name: w.float().to(device) for name, w in load_file(pathlib.Path(path) / "adapter_model.safetensors").items()}
        c = self.config
        self.layers, self.heads = c["num_hidden_layers"], c["num_attention_heads"]
        self.kv_heads = c.get("num_key_value_heads", self.heads)
        self.dim = c.get("head_dim") or c["hidden_size"] // self.heads
        self.eps = c.get("rms_norm_eps", 1e-6)
        self.inverse = inverse_frequencies(c, self.dim).to(device, torch.float32)

    def add_adapters(self, lora, seed):
        """Adapters that change nothing yet: A is drawn, B is 0."""
        self.scale, self.targets = lora["alpha"] / lora["rank"], lora.get("targets") or [
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        draw = torch.Generator().manual_seed(seed % (1 << 63))
        for name, w in list(self.weights.items()):
            module = name.removesuffix(".weight")
            if module.split(".")[-1] in self.targets:
                a = (2 * torch.rand(lora["rank"], w.shape[1], generator=draw) - 1) / math.sqrt(w.shape[1])
                self.adapters[f"base_model.model.{module}.lora_A.weight"] = a.to(w.device)
                self.adapters[f"base_model.model.{module}.lora_B.weight"] = torch.zeros(w.shape[0], lora["rank"], device=w.device)

    def merge(self):
        for name, w in self.weights.items():
            key = f"base_model.model.{name.removesuffix('.weight')}."
            if key + "lora_A.weight" in self.adapters:
                w.data += self.scale * self.adapters[key + "lora_B.weight"].data @ self.adapters[key + "lora_A.weight"].data
        self.adapters = {}

    def trained(self):
        """What the optimizer moves, by name."""
        return self.adapters or self.weights

    def linear(self, name, x):
        y = F.linear(x, self.weights[name + ".weight"], self.weights.get(name + ".bias"))
        key = f"base_model.model.{name}."
        if key + "lora_A.weight" in self.adapters:
            low = F.linear(x, self.adapters[key + "lora_A.weight"])
            y = y + self.scale * F.linear(low, self.adapters[key + "lora_B.weight"])
        return y

    def norm(self, name, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weights[name + ".weight"]

    def hidden(self, ids):
        """[batch, length, hidden] of padded sequences; padding comes last, where causal attention lets it change nothing."""
        batch, length = ids.shape
        angle = torch.arange(length, device=ids.device, dtype=torch.float32)[:, None] * self.inverse
        cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)

        def split(name, norm, x, heads):
            y = self.linear(name, x).view(batch, length, heads, self.dim)
            if norm + ".weight" in self.weights:
                y = self.norm(norm, y)
            return y.transpose(1, 2)

        def rotate(x):
            a, b = x.chunk(2, -1)
            return x * cos + torch.cat((-b, a), -1) * sin

        x = F.embedding(ids, self.weights["model.embed_tokens.weight"])
        for i in range(self.layers):
            at = f"model.layers.{i}."
            h = self.norm(at + "input_layernorm", x)
            q = rotate(split(at + "self_attn.q_proj", at + "self_attn.q_norm", h, self.heads))
            k = rotate(split(at + "self_attn.k_proj", at + "self_attn.k_norm", h, self.kv_heads))
            v = split(at + "self_attn.v_proj", "", h, self.kv_heads)
            groups = self.heads // self.kv_heads
            y = F.scaled_dot_product_attention(q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), is_causal=True)
            x = x + self.linear(at + "self_attn.o_proj", y.transpose(1, 2).reshape(batch, length, -1))
            h = self.norm(at + "post_attention_layernorm", x)
            x = x + self.linear(at + "mlp.down_proj", F.silu(self.linear(at + "mlp.gate_proj", h)) * self.linear(at + "mlp.up_proj", h))
        return self.norm("model.norm", x)

    def logits(self, responses):
        """The logits that chose the tokens of each response: a list of [tokens, vocabulary]."""
        device = self.weights["model.embed_tokens.weight"].device
        full = [r.prompt + r.tokens for r in responses]
        ids = torch.zeros(len(full), max(map(len, full)), dtype=torch.long)
        for i, tokens in enumerate(full):
            ids[i, : len(tokens)] = torch.tensor(tokens)
        hidden = self.hidden(ids.to(device))
        head = self.weights["model.embed_tokens.weight" if self.config.get("tie_word_embeddings") else "lm_head.weight"]
        return [F.linear(hidden[i, len(r.prompt) - 1 : len(r.prompt) - 1 + len(r.tokens)], head) for i, r in enumerate(responses)]


# The batch.


class Response:
    """One response: its tokens, what it is to the losses, and the numbers that they read of it, by the names of the inputs."""

    def __init__(self, role, prompt, tokens, values, masks):
        self.role, self.prompt, self.tokens, self.values = role, prompt, tokens, values
        self.used = [all(m[t] for m in masks) for t in range(len(tokens))]
        self.length = sum(self.used)

    def has(self, name):
        return name in self.values

    def rows(self):
        return [t for t, used in enumerate(self.used) if used]


def read_units(task, at):
    """Every row as the list of its responses, in the order of the files."""
    units = []
    for batch in task["batches"]:
        masks = [c["name"] for c in batch["columns"] if c["name"] in ("token_mask", "loss_mask")]
        roles = list(dict.fromkeys(c["role"] for c in batch["columns"] if c.get("role")))
        for file in batch["files"]:
            if hashlib.sha256((at / file["name"]).read_bytes()).hexdigest() != file["sha256"]:
                raise SystemExit(f"{file['name']} is not what the task says")
            for row in pyarrow.parquet.read_table(at / file["name"]).to_pylist():
                unit = []
                for role in roles:
                    values = {c["input"]: row[c["name"]] for c in batch["columns"] if c.get("role") == role}
                    tokens = values["response_tokens"]
                    unit.append(Response(role, row["prompt_tokens"], tokens, values, [row[m] for m in masks if row[m] is not None]))
                units.append(unit)
    return units


class Totals:
    """The denominators of a step. A masked token, and a response without another, is counted nowhere."""

    def __init__(self, units):
        self.tokens = dict.fromkeys((SAMPLE, CHOSEN, REJECTED), 0)
        self.responses = dict.fromkeys((SAMPLE, CHOSEN, REJECTED), 0)
        self.pairs = self.labelled_tokens = self.labelled = self.positive = self.positive_candidates = 0
        self.mass = 0.0
        for unit in units:
            self.pairs += len(unit) == 2 and all(r.length for r in unit)
            for r in unit:
                self.tokens[r.role] += r.length
                self.responses[r.role] += r.length > 0
                if r.role != SAMPLE:
                    continue
                if r.values.get("outcome") is not None:
                    self.labelled_tokens += r.length
                    self.labelled += r.length > 0
                for t in r.rows():
                    self.positive += r.has("advantage") and r.values["advantage"][t] > 0
                    listed = candidates(r, t)
                    for name in ("candidate_advantage", "target_advantage"):
                        self.positive_candidates += bool(listed) and r.has(name) and r.values[name][t][0] > 0
                    if listed and r.has("candidate_old_logp") and t + 1 < len(r.tokens):
                        self.mass += sum(map(math.exp, r.values["candidate_old_logp"][t]))


def candidates(r, t):
    """The candidates of a token; none where no advantage of theirs is known."""
    for name in ("candidate_advantage", "target_advantage"):
        if r.has(name) and not r.values[name][t]:
            return []
    return r.values["candidate_ids"][t] if r.has("candidate_ids") else []


# The losses. Each is the sum over one response of what it adds to the loss of the step. z is the response's logits [tokens, vocabulary]
# at the temperature of the task, logp their log-softmax, target the log-softmax of the target row.


class Row:
    def __init__(self, r, z, target):
        self.r, self.z, self.target = r, z, target
        self.logp = z.log_softmax(-1)
        self.ids = torch.tensor(r.tokens, device=z.device)
        self.sampled = self.logp.gather(-1, self.ids[:, None])[:, 0]
        self.mask = torch.tensor(r.used, device=z.device, dtype=z.dtype)

    def of(self, name):
        return torch.tensor(self.r.values[name], device=self.z.device, dtype=self.z.dtype)

    def listed(self, name, t):
        return torch.tensor(self.r.values[name][t], device=self.z.device, dtype=self.z.dtype)

    def at(self, ids, t, of=None):
        return (self.logp if of is None else of)[t, torch.tensor(ids, device=self.z.device, dtype=torch.long)]


def weight(c, totals, r, tokens=None, responses=None):
    tokens = totals.tokens[SAMPLE] if tokens is None else tokens
    responses = totals.responses[SAMPLE] if responses is None else responses
    reduction = c["reduction"]
    if reduction in ("seq_mean", "grpo"):
        return 1 / (responses * r.length)
    if reduction == "seq_sum":
        return 1 / responses
    if reduction == "dr_grpo":
        return 1 / (responses * c["max_tokens"])
    return 1 / tokens


def bounded(x, bound):
    """x where |x| is at most the bound, and the bound without gradient beyond."""
    return torch.where(x.abs() <= bound, x, x.detach().clamp(-bound, bound))


def surrogate(c, logp, old, advantage):
    ratio = bounded(logp - old, c["max_log_ratio"]).exp()
    u = ratio * advantage
    clipped = ratio.clamp(1 - c["eps_low"], 1 + c["eps_high"]) * advantage
    u = torch.where(clipped < u, clipped.detach(), u)
    if c.get("dual_clip"):
        floor = c["dual_clip"] * advantage
        u = torch.where((advantage < 0) & (u < floor), floor, u)
    return u


def sft(c, row, totals):
    w = weight(c, totals, row.r, sum(totals.tokens.values()) - totals.tokens[REJECTED],
               sum(totals.responses.values()) - totals.responses[REJECTED])
    return -w * (row.sampled * row.mask).sum()


def reinforce(c, row, totals):
    return -weight(c, totals, row.r) * (row.sampled * row.of("advantage") * row.mask).sum()


def ppo(c, row, totals):
    u = surrogate(c, row.sampled, row.of("old_logp"), row.of("advantage"))
    return -weight(c, totals, row.r) * (u * row.mask).sum()


def reference_kl(c, row, totals):
    x = bounded(row.sampled - row.of("reference_logp"), c["max_log_ratio"])
    k = {"k1": lambda: x, "k2": lambda: x * x / 2, "k3": lambda: torch.expm1(-x) + x}[c["estimator"]]()
    return weight(c, totals, row.r) * (k * row.mask).sum()


def entropy(c, row, totals):
    h = -(row.logp.exp() * row.logp).sum(-1)
    return -weight(c, totals, row.r) * (h * row.mask).sum()


def distrl(c, row, totals):
    total = row.z.new_zeros(())
    w = 1 / totals.mass if c["mode"] == "released" else 1 / (totals.responses[SAMPLE] * row.r.length)
    for t in row.r.rows():
        ids = candidates(row.r, t)
        if ids and t + 1 < len(row.r.tokens):
            old = row.listed("candidate_old_logp", t)
            u = surrogate(c, row.at(ids, t), old, row.listed("candidate_advantage", t))
            total = total - w * (old.exp() * u).sum()
    return total


def lco_beta(c, advantage):
    form = c["advantages"]
    beta = c["beta"] or (10 if form == "vocab_estimate" else 2)
    return beta * c["negative_beta_factor"] if form == "outcome" and advantage <= 0 else beta


def lco_rows(c, row, totals):
    """The tokens in use, with weight and first known advantage."""
    r, form = row.r, c["advantages"]
    split = c["reduction"] == "split_mean" or c["reduction"] == "auto" and form == "vocab_estimate"
    for t in r.rows():
        advantage, positive = 0.0, 0
        if form == "dense":
            positive = totals.positive_candidates
            if candidates(r, t):
                advantage = r.values["target_advantage"][t][0]
        elif form != "reward":
            advantage, positive = r.values["advantage"][t], totals.positive
        w = weight(c, totals, r)
        if split:
            w = 1 / positive if advantage > 0 else 1 / (totals.tokens[SAMPLE] - positive)
        yield t, w, advantage


def lco_kld(c, row, totals):
    total, form = row.z.new_zeros(()), c["advantages"]
    for t, w, advantage in lco_rows(c, row, totals):
        old = row.target[t]
        pushed = torch.zeros_like(old)
        if form == "outcome":
            pushed[row.r.tokens[t]] = advantage
        elif form == "vocab_estimate":
            p = old[row.r.tokens[t]].exp()
            advantage = advantage * (1 - p)
            pushed[:] = -p * advantage / (1 - p).clamp(min=c["min_rest"])
            pushed[row.r.tokens[t]] = advantage
        elif form == "dense":
            pushed[:] = row.r.values["rest_advantage"][t]
            pushed[torch.tensor(candidates(row.r, t), dtype=torch.long, device=old.device)] = row.listed("target_advantage", t)
        beta = lco_beta(c, row.r.values["advantage"][t] if form == "outcome" else 0)
        aim = (old + pushed / beta).log_softmax(-1)
        total = total + w * (aim.exp() * (aim - row.logp[t])).sum()
    return total


def lco_logit(c, row, totals, distance):
    total = row.z.new_zeros(())
    for t, w, advantage in lco_rows(c, row, totals):
        beta, ids, advantages = lco_beta(c, advantage), [row.r.tokens[t]], None
        if c["advantages"] == "dense":
            ids, advantages = candidates(row.r, t), row.listed("target_advantage", t)
            if not ids:
                continue
            factor = c["agreement_beta_factor"]
            if factor != 1 and min(row.r.values["old_logp"][t], row.r.values["reward_logp"][t]) > c["agreement_threshold"]:
                beta *= factor
        z = row.at(ids, t, row.z)
        if c["anchor"] == "old":
            old = row.listed("candidate_old_logp", t) if c["advantages"] == "dense" else row.of("old_logp")[t : t + 1]
            anchor = old + row.r.values["old_logz"][t]
        else:
            anchor = z.detach()
        d = z - anchor - (advantage if advantages is None else advantages) / beta
        total = total + w * distance(d).sum()
    return total


def lco_mse(c, row, totals):
    return lco_logit(c, row, totals, lambda d: d * d)


def lco_lch(c, row, totals):
    return lco_logit(c, row, totals, lambda d: d.abs() + torch.log1p(torch.exp(-2 * d.abs())) - math.log(2))


def adpa(c, row, totals):
    if row.r.role == CHOSEN:
        return -(row.sampled * row.mask).sum() / totals.tokens[CHOSEN]
    total = row.z.new_zeros(())
    for t in row.r.rows():
        if row.r.values["teacher_ids"][t]:
            total = total + (row.at(row.r.values["teacher_ids"][t], t).exp() * row.listed("teacher_advantage", t)).sum()
    return -c["gamma"] * weight(c, totals, row.r) * total


def ipvrm(c, row, totals):
    outcome = row.r.values["outcome"]
    if outcome is None or math.isnan(outcome) or not row.r.length:
        return row.z.new_zeros(())
    margin, w = c["margin"], 1.0
    if "adb" in c:
        mean = row.r.values["group_mean"]
        mixed = 0 < mean < 1
        if not mixed and c["all_equal"] == "zero":
            return row.z.new_zeros(())
        if c["adb"]:
            p = min(max(mean, 1e-6), 1 - 1e-6)
            margin -= (2 * outcome - 1) * (math.log(p) - math.log1p(-p))
        if c["dlw"] and mixed:
            w = 1 / (2 * abs(mean - (1 - outcome)))
    n = row.r.length
    w = w * n / totals.labelled_tokens if c["reduction"] == "token_mean" else w / totals.labelled
    ratio = row.sampled - row.of("old_logp" if c["reference"] == "old" else "reference_logp")
    kept = ratio[row.mask > 0]
    t = torch.arange(1, n + 1, device=kept.device, dtype=kept.dtype)
    mean = c["beta"] * kept.cumsum(0) / t
    share = torch.full_like(t, 1 / n)
    if c["weights"] == "late":
        share = 2 * t / (n * (n + 1))
    elif c["weights"] == "early" and n > 1:
        share = 2 * (n - t) / (n * (n - 1))
    return w * (share * F.softplus(margin - (2 * outcome - 1) * mean)).sum()


def dpo(c, rows, totals):
    sums = [((r.sampled - r.of("old_logp" if c["reference"] == "old" else "reference_logp")) * r.mask).sum() for r in rows]
    return F.softplus(-c["beta"] * (sums[0] - sums[1])) / totals.pairs


LOSSES = {"sft": (sft, (SAMPLE, CHOSEN)), "reinforce": (reinforce, (SAMPLE,)), "ppo": (ppo, (SAMPLE,)),
          "reference_kl": (reference_kl, (SAMPLE,)), "entropy": (entropy, (SAMPLE,)), "distrl": (distrl, (SAMPLE,)),
          "lco_kld": (lco_kld, (SAMPLE,)), "lco_mse": (lco_mse, (SAMPLE,)), "lco_lch": (lco_lch, (SAMPLE,)),
          "adpa": (adpa, (SAMPLE, CHOSEN)), "ipvrm": (ipvrm, (SAMPLE,)), "ipvrm_online": (ipvrm, (SAMPLE,)), "dpo": (dpo, None),
          "dpo_rm": (dpo, None)}


def loss_of(task, rows, totals):
    """What one unit adds to the loss of the step; rows are its responses."""
    total = rows[0].z.new_zeros(())
    for c in task["losses"]:
        f, roles = LOSSES[c["name"]]
        if roles is None:
            if len(rows) == 2 and all(row.r.length for row in rows):
                total = total + c["weight"] * f(c, rows, totals)
            continue
        for row in rows:
            if row.r.role in roles and row.r.length and c["weight"]:
                total = total + c["weight"] * f(c, row, totals)
    return total


# The update.


def rate(o, step):
    s = o["schedule"]
    if step < s["warmup"]:
        return o["lr"] * step / s["warmup"]
    if s["kind"] == "constant" or s["total"] <= s["warmup"]:
        return o["lr"]
    p = min(1, (step - s["warmup"]) / (s["total"] - s["warmup"]))
    if s["kind"] == "linear":
        return o["lr"] * (1 - p + s["final"] * p)
    return o["lr"] * (s["final"] + (1 - s["final"]) * (1 + math.cos(math.pi * p)) / 2)


class AdamW:
    """AdamW (arXiv 1711.05101) with clipping of the whole gradient's norm."""

    def __init__(self, config, params, state):
        if config["moments"] != "float32":
            raise SystemExit(f"moments in {config['moments']} are not kept here; set update.optimizer.moments: float32")
        self.config, self.params, self.steps = config, params, 0
        self.m = {name: torch.zeros_like(p) for name, p in params.items()}
        self.v = {name: torch.zeros_like(p) for name, p in params.items()}
        if state:
            saved = load_file(pathlib.Path(state) / "adamw.safetensors")
            self.steps = int(saved["step"])
            for name in params:
                self.m[name].copy_(saved["exp_avg." + name])
                self.v[name].copy_(saved["exp_avg_sq." + name])

    def save(self, to):
        to.mkdir(parents=True, exist_ok=True)
        tensors = {"step": torch.tensor(self.steps)}
        tensors.update({"exp_avg." + name: m.cpu() for name, m in self.m.items()})
        tensors.update({"exp_avg_sq." + name: v.cpu() for name, v in self.v.items()})
        save_file(tensors, to / "adamw.safetensors")

    @torch.no_grad()
    def step(self):
        o = self.config
        norm = math.sqrt(sum(p.grad.double().pow(2).sum().item() for p in self.params.values()))
        if not math.isfinite(norm):
            raise SystemExit("the gradient is not finite")
        scale = min(1.0, o["max_grad_norm"] / (norm + 1e-6)) if o["max_grad_norm"] > 0 else 1.0
        lr = rate(o, self.steps + 1)
        self.steps += 1
        size = lr / (1 - o["beta1"] ** self.steps)
        root = 1 / math.sqrt(1 - o["beta2"] ** self.steps)
        for name, p in self.params.items():
            g = p.grad * scale
            m, v = self.m[name], self.v[name]
            m.mul_(o["beta1"]).add_(g, alpha=1 - o["beta1"])
            v.mul_(o["beta2"]).addcmul_(g, g, value=1 - o["beta2"])
            p.mul_(1 - lr * o["weight_decay"]).sub_(size * m / (v.sqrt() * root + o["eps"]))
        return norm, lr


def open_model(m, device):
    if m["format"] == "gguf" or m.get("precision"):
        raise SystemExit(f"{m['path']}: this trainer reads safetensors and computes in float32")
    return Model(m["path"], m.get("base"), device)


def gradient(task, model, targets, units, totals, microbatch):
    """Sets the gradients of a step and returns its loss."""
    loss = 0.0
    for p in model.trained().values():
        p.grad = torch.zeros_like(p)
    for lo in range(0, len(units), microbatch):
        part = units[lo : lo + microbatch]
        flat = [r for unit in part for r in unit]
        logits = iter(model.logits(flat))
        others = []
        with torch.no_grad():
            for other, w in targets:
                others.append([w * z.double() for z in other.logits(flat)])
        blends = iter([sum(zs).log_softmax(-1) for zs in zip(*others)] if others else [None] * len(flat))
        total = 0.0
        for unit in part:
            rows = [Row(r, next(logits).double() / task["temperature"], next(blends)) for r in unit]
            total = total + loss_of(task, rows, totals)
        if total.requires_grad:
            total.backward()
        loss += total.item()
    return loss


def update(path, options):
    raw, at = path.read_bytes(), path.parent
    task = json.loads(raw)
    if task["protocol"] != PROTOCOL:
        raise SystemExit(f"protocol {task['protocol']}, this trainer speaks {PROTOCOL}")
    unknown = [c["name"] for c in task["losses"] if c["name"] not in LOSSES]
    if unknown:
        raise SystemExit(f"losses {', '.join(unknown)} are not known here; known are {', '.join(LOSSES)}")
    if task["heads"] != ["lm"]:
        raise SystemExit("losses of a scalar head are not known here")
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = open_model(task["model"], device)
    lora = task.get("lora")
    if lora and not model.adapters:
        model.add_adapters(lora, task["seed"])
    for p in model.trained().values():
        p.requires_grad_()
    # The row of logits that the update starts from stays as it was, also after the first step.
    targets = [(open_model(t["model"], device), t["weight"]) for t in task.get("target") or []]
    merges = lora and lora["merge"]  # new adapters at every update, and so no state to go on with
    adam = AdamW(task["optimizer"], model.trained(), None if merges else task["state"])
    units = read_units(task, at)
    own, checkpoint, steps = at / task["leave"]["optimizer"], at / task["leave"]["checkpoint"], []
    for d in (own, checkpoint):
        shutil.rmtree(d, ignore_errors=True)
    for line in (at / task["plan"]["name"]).read_text().splitlines():
        step = [units[i] for i in json.loads(line)]
        totals = Totals(step)
        loss = gradient(task, model, targets, step, totals, options.microbatch)
        if options.gradients and not steps:
            own.mkdir(parents=True)
            save_file({name: p.grad.cpu() for name, p in model.trained().items()}, own / "gradients.safetensors")
        norm, lr = adam.step()
        steps.append({"step": adam.steps, "loss": loss, "grad_norm": norm, "lr": lr, "units": len(step),
                      "tokens": sum(totals.tokens.values())})
        print(f"step {adam.steps}: loss {loss:.6f}, gradient norm {norm:.6f}", flush=True)
    adam.save(own)
    leave(task, model, checkpoint)
    files = {f.relative_to(at).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest()
             for d in (checkpoint, own) for f in sorted(d.rglob("*")) if f.is_file()}
    done = {"protocol": PROTOCOL, "task": hashlib.sha256(raw).hexdigest(), "trainer": f"trainer.py, torch {torch.__version__}",
            "files": files, "steps": steps}
    (at / ".done.json").write_text(json.dumps(done))
    (at / ".done.json").rename(at / task["leave"]["done"])


def leave(task, model, to):
    """Writes the model, or its adapters."""
    to.mkdir(parents=True)
    lora, m = task.get("lora"), task["model"]
    if lora and lora["merge"]:
        model.merge()
    if model.adapters:
        rank = next(w.shape[0] for name, w in model.adapters.items() if name.endswith("lora_A.weight"))
        config = {"base_model_name_or_path": m.get("base") or m["path"], "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank,
                  "lora_alpha": model.scale * rank, "target_modules": model.targets, "bias": "none", "lora_dropout": 0.0,
                  "inference_mode": True}
        (to / "adapter_config.json").write_text(json.dumps(config, indent=2))
        save_file({name: w.detach().cpu().contiguous() for name, w in model.adapters.items()}, to / "adapter_model.safetensors",
                  {"format": "pt"})
        return
    (to / "config.json").write_text(json.dumps(model.config, indent=2))
    save_file({name: w.detach().cpu().contiguous() for name, w in model.weights.items()}, to / "model.safetensors", {"format": "pt"})


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("task", nargs="?", type=pathlib.Path)
    p.add_argument("--watch", type=pathlib.Path)
    p.add_argument("--device")
    p.add_argument("--microbatch", type=int, default=8)
    p.add_argument("--gradients", action="store_true")
    options = p.parse_args()
    if (options.task is None) == (options.watch is None):
        p.error("name a task, or a directory to watch")
    torch.use_deterministic_algorithms(True, warn_only=True)
    if options.task:
        return update(options.task, options)
    while True:
        for task in sorted(options.watch.glob("iter-*/task.json")):
            if not (task.parent / "done.json").exists():
                update(task, options)
        time.sleep(0.2)


if __name__ == "__main__":
    main()
