"""OpenRLHF's PromptDataset and RewardDataset read prompts and preferences, texts as they are and messages with the template."""
import importlib.metadata
from types import SimpleNamespace

from datasets import load_dataset
from openrlhf.datasets import PromptDataset, RewardDataset

from tiny import path, rows, same, tokenizer

for of in "math", "chat":
    t, truth, chat = tokenizer(), rows(of), of == "chat"
    strategy = SimpleNamespace(is_rank_0=lambda: True, print=print, args=SimpleNamespace(data=SimpleNamespace(
        input_key="input", label_key="label", prompt_key="prompt", chosen_key="chosen", rejected_key="rejected", apply_chat_template=chat,
        tokenizer_chat_template=None)))
    prompts = PromptDataset(load_dataset("json", data_files=path(of, "openrlhf-prompt", "prompts.jsonl"), split="train"), t, strategy)
    want = {(tuple(r["prompt_tokens"]), r["answer"]) if chat else (r["prompt"], r["answer"]) for r in truth}
    read = set()
    for i in range(len(prompts)):
        item = prompts[i]
        text, label = [x for x in item if isinstance(x, str)][-2:]
        read.add((tuple(t(text, add_special_tokens=False)["input_ids"]), label) if chat else (text, label))
    same("prompts", read, want)
    for dpo in False, True:
        pairs = RewardDataset(load_dataset("json", data_files=path(of, "openrlhf-preference", "preferences.jsonl"), split="train"), t, 256,
                              strategy, is_dpo=dpo, num_processors=1)
        assert len(pairs) > 0
        right = {r["response"] for r in truth if r["outcome"] == 1}
        for chosen in pairs.chosens:
            assert any(chosen.startswith(x) for x in right), chosen
        pairs.collate_fn([pairs[i] for i in range(min(2, len(pairs)))])
    print(f"{of}: {len(prompts)} prompts, {len(pairs)} pairs")
print("openrlhf", importlib.metadata.version("openrlhf"))
