"""LLaMA-Factory's loader reads each data set by its name in dataset_info.json, for the stage that it is meant for."""
import importlib.metadata
import os

os.environ["DISABLE_VERSION_CHECK"] = "1"  # of transformers, which its trainers need older; its loader does not
from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.data.loader import get_dataset
from llamafactory.hparams import DataArguments, ModelArguments
from transformers import Seq2SeqTrainingArguments

from tiny import DIR, path, rows, same, tokenizer

for of in "math", "chat":
    truth = rows(of)
    right = [r for r in truth if r["outcome"] == 1]
    for formatting in "sharegpt", "alpaca":
        for name, stage in ("llama-factory-sft", "sft"), ("llama-factory-preference", "rm"), ("llama-factory-kto", "kto"):
            t = tokenizer()
            arguments = DataArguments(dataset="millrace", dataset_dir=path(of, f"{name}-{formatting}"), template="chatml", cutoff_len=256,
                                      overwrite_cache=True, preprocessing_num_workers=1)
            train = Seq2SeqTrainingArguments(output_dir=path("out"), use_cpu=True, report_to=[])
            template = get_template_and_fix_tokenizer(t, arguments)
            model = ModelArguments(model_name_or_path="none", cache_dir=path("cache"))
            data = get_dataset(template, model, arguments, train, stage, tokenizer=t)["train_dataset"]
            assert len(data) > 0
            if stage == "sft":
                same("right responses", len(data), len(right))
                texts = [t.decode([x for x in d["labels"] if x >= 0]) for d in data]
                for text, r in zip(sorted(texts), sorted(r["response"] for r in right), strict=True):
                    assert text.startswith(r), (text, r)
            if stage == "kto":
                same("tags", sorted(data["kto_tags"]), sorted(r["outcome"] == 1 for r in truth if r["outcome"] is not None))
            if stage == "rm":
                chosen = {t.decode([x for x in d["chosen_labels"] if x >= 0]) for d in data}
                for text in chosen:
                    assert any(text.startswith(r["response"]) for r in right), text
            print(f"{of} {name} {formatting}: {len(data)} records")
print("llamafactory", importlib.metadata.version("llamafactory"))
