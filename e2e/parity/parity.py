"""Writes fixtures.json: losses and gradients of TRL and verl, computed by their own functions, on shared random inputs.

    python -m venv venv && venv/bin/pip install torch trl==1.16.0 transformers accelerate datasets pandas
    venv/bin/pip install --no-deps verl==0.9.1 && venv/bin/pip install ray tensordict==0.10.0 codetiming hydra-core
    venv/bin/python e2e/parity/parity.py > e2e/parity/fixtures.json

The Go test beside it holds this project's losses to the file; it needs no Python.
"""

import json
from collections import defaultdict
from types import SimpleNamespace

import torch
import trl
import verl
from trl.trainer.grpo_trainer import GRPOTrainer
from verl.trainer.ppo import core_algos

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)
LENGTHS, WIDTH = [5, 2, 7, 1, 4, 3], 7
GROUP = 3
mask = torch.zeros(len(LENGTHS), WIDTH)
for row, n in enumerate(LENGTHS):
    mask[row, :n] = 1


def randn(scale=1.0):
    return torch.randn(len(LENGTHS), WIDTH) * scale


old = -torch.rand(len(LENGTHS), WIDTH) * 2 - 0.2
logp = old + randn(0.5)
logp[0, 0] = old[0, 0] + 1.6  # beyond the dual clip
advantages = randn()
advantages[0, 0] = -1.0
reference = old + randn(0.3)
old_values, returns = randn(), randn()
values = old_values + randn(0.4)
rewards = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])


def packed(x):
    """The rows' tokens back to back."""
    return [v for row, n in zip(x.tolist(), LENGTHS) for v in row[:n]]


def case(library, name, variable, f, **config):
    x = variable.detach().clone().requires_grad_(True)
    loss = f(x)
    loss.backward()
    return {"library": library, "name": name, "config": config, "loss": loss.item(), "grad": packed(x.grad)}


class VerlConfig(dict):
    clip_ratio, clip_ratio_low, clip_ratio_high = 0.2, 0.2, 0.28
    global_batch_info = {}


def verl_policy(mode, weights):
    return case("verl", "policy, " + mode, logp, lambda x: core_algos.compute_policy_loss_vanilla(
        old, x, advantages, weights, mode, VerlConfig())[0], loss_agg_mode=mode)


def trl_policy(kind, delta, beta):
    def loss(x):
        stub = SimpleNamespace(
            _get_per_token_logps_and_entropies=lambda *a, **k: (x, torch.zeros_like(x), None),
            model=SimpleNamespace(training=True), aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, beta=beta,
            importance_sampling_level="token", loss_type=kind, epsilon_low=0.2, epsilon_high=0.28, use_vllm=False,
            vllm_importance_sampling_correction=False, current_gradient_accumulation_steps=1, max_completion_length=10,
            args=SimpleNamespace(delta=delta, steps_per_generation=1, use_bias_correction_kl=False),
            accelerator=SimpleNamespace(num_processes=1, gather=lambda v: v, reduce=lambda v, reduction=None: v),
            _metrics=defaultdict(lambda: defaultdict(list)), _entropy_bonus_enabled=False)
        empty = torch.zeros(len(LENGTHS), 1)
        inputs = {"prompt_ids": empty, "prompt_mask": empty, "completion_ids": mask, "completion_mask": mask, "advantages": advantages,
                  "old_per_token_logps": old, "ref_per_token_logps": reference, "num_items_in_batch": mask.sum()}
        return GRPOTrainer._compute_loss(stub, stub.model, inputs)

    return case("trl", f"policy, {kind}", logp, loss, loss_type=kind, delta=delta, beta=beta)


cases = [verl_policy(mode, mask) for mode in ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"]]
cases += [trl_policy(kind, delta, beta) for kind, delta, beta in [
    ("grpo", None, 0.0), ("bnpo", None, 0.0), ("dapo", None, 0.0), ("dr_grpo", None, 0.0), ("dapo", 3.0, 0.0), ("dapo", None, 0.04), ("grpo", None, 0.04)]]
cases.append(case("verl", "value", values, lambda x: core_algos.compute_value_loss(x, returns, old_values, mask, 0.2)[0], cliprange_value=0.2))
cases += [case("verl", "kl, " + k, logp, lambda x, k=k: core_algos.agg_loss(core_algos.kl_penalty_forward(x, reference, k), mask, "token-mean"),
               kl=k) for k in ["k1", "k2", "k3"]]

group = [str(i // GROUP) for i in range(len(LENGTHS))]
outcome = torch.zeros_like(mask)
for row, n in enumerate(LENGTHS):
    outcome[row, n - 1] = rewards[row]
gae, gae_returns = core_algos.compute_gae_advantage_return(outcome, old_values, mask, 0.9, 0.8)
grouped = rewards.view(-1, GROUP)
statistics = {
    "verl_grpo": [row[0] for row in core_algos.compute_grpo_outcome_advantage(outcome.clone(), mask, group)[0].tolist()],
    "verl_rloo": [row[0] for row in core_algos.compute_rloo_outcome_advantage(outcome.clone(), mask, group)[0].tolist()],
    # TRL computes this inside a long method; its definition with scale_rewards="group".
    "trl_grpo": ((grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-4)).flatten().tolist(),
    "verl_gae": packed(gae), "verl_returns": packed(gae_returns),
}

print(json.dumps({
    "versions": {"torch": torch.__version__, "trl": trl.__version__, "verl": verl.__version__},
    "lengths": LENGTHS, "width": WIDTH, "group": GROUP, "max_completion_length": 10, "gamma": 0.9, "lambda": 0.8, "rewards": rewards.tolist(),
    "logp": packed(logp), "old_logp": packed(old), "reference_logp": packed(reference), "advantages": packed(advantages),
    "values": packed(values), "old_values": packed(old_values), "returns": packed(returns), "cases": cases, "statistics": statistics,
}, indent=1))
