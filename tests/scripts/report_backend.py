"""In a fresh process: get a classifier in one of the ways that users have, run it, and print its
backend report, as JSON.

    python tests/scripts/report_backend.py WAY FOLDER OUTPUT
"""

import json
import sys
from pathlib import Path

WAY, FOLDER, OUTPUT = sys.argv[1:]
if WAY == "copy without bertlite":
    sys.path[:] = [entry for entry in sys.path if not (Path(entry or ".") / "bertlite").is_dir()]


def by_attribute():
    import bertlite

    return bertlite.BertLiteForSequenceClassification.from_pretrained(FOLDER)


def by_module():
    from bertlite.models.modeling_bertlite import BertLiteForSequenceClassification

    return BertLiteForSequenceClassification.from_pretrained(FOLDER)


def by_auto_class():
    from transformers import AutoModelForSequenceClassification

    import bertlite  # noqa: F401, tells the Auto classes

    return AutoModelForSequenceClassification.from_pretrained(FOLDER)


def by_copy():
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(FOLDER, trust_remote_code=True)


def by_finetuning():
    import bertlite

    rows = [{"text": "the film was good ." * (1 + i % 3), "label": i % 2} for i in range(8)]
    arguments = {"max_steps": 1, "report_to": [], "use_cpu": True, "disable_tqdm": True}
    run = bertlite.finetune(
        "sequence-classification", FOLDER, train=rows, output_dir=OUTPUT, arguments=arguments
    )
    return run.model


def by_trainer():
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    row = {"input_ids": [2, 5, 8, 3, 0], "attention_mask": [1, 1, 1, 1, 0], "labels": 1}
    options = TrainingArguments(
        OUTPUT, max_steps=1, report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no"
    )
    trainer = Trainer(by_auto_class(), options, train_dataset=Dataset.from_list([row] * 8))
    trainer.train()
    return trainer.model


WAYS = {
    "attribute": by_attribute,
    "module": by_module,
    "Auto class": by_auto_class,
    "copy": by_copy,
    "copy without bertlite": by_copy,
    "finetune": by_finetuning,
    "Trainer": by_trainer,
}

if __name__ == "__main__":
    import torch

    model = WAYS[WAY]()
    if not model.backend_report():  # it has not run yet
        ids = torch.tensor([[2, 5, 8, 3, 0]])
        model.eval()(ids, (ids != 0).long())
    found = {"report": model.backend_report(), "module": type(model).__module__}
    print(json.dumps({**found, "bertlite": "bertlite" in sys.modules}))
