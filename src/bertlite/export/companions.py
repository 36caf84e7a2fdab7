"""What stands beside the graphs: tokenizer, config, settings, and the files that run them."""

import json
import shutil
from pathlib import Path
from typing import Any

from ..inference.sequence_classification import TEMPERATURE
from .decoding import decoding_rules
from .formats import Format
from .sources import Source
from .subwords import write_subwords

SETTINGS_FILE = "export.json"
RUNS = Path(__file__).parent / "runs"


def write_companions(source: Source, chosen: Format, folder: Path, int8: bool) -> None:
    """Write all that `run.py` reads, and the files of code, which are copied as they are."""
    source.model.config.save_pretrained(folder)
    settings = settings_of(source, chosen, int8)
    if source.task.name == "translate":
        settings["decoding"] = decoding_rules(source)
        write_subwords(source, folder, RUNS, settings["decoding"])
        shutil.copyfile(RUNS / "writing.py", folder / "writing.py")
    else:
        source.tokenizer.save_pretrained(folder)
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    (folder / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")
    shutil.copyfile(RUNS / f"{chosen.engine}.py", folder / "engine.py")
    shutil.copyfile(RUNS / "texts.py", folder / "texts.py")
    own = RUNS / f"run_{source.task.name}_{chosen.name}.py"
    shared = RUNS / f"run_{source.task.name}.py"
    shutil.copyfile(own if own.exists() else shared, folder / "run.py")
    needs = ("numpy", "tokenizers", *chosen.packages)
    (folder / "requirements.txt").write_text("".join(f"{name}\n" for name in needs))


def settings_of(source: Source, chosen: Format, int8: bool) -> dict[str, Any]:
    """What `run.py` has to know that neither config nor tokenizer says."""
    config, tokenizer = source.model.config, source.tokenizer
    settings: dict[str, Any] = {
        "format": chosen.name,
        "task": source.task.name,
        "int8": int8,
        "inputs": list(source.inputs),
        "outputs": list(source.task.outputs),
        "max_length": source.max_length,
        "pad_token_id": tokenizer.pad_token_id or 0,
        "pad_token_type_id": tokenizer.pad_token_type_id,
        "doc_stride": 128 if source.head == "ForQuestionAnswering" else 64,
    }
    if source.head == "ForSequenceClassification":
        settings["temperature"] = getattr(config, TEMPERATURE, None) or 1.0
    if source.task.name == "fill_mask":
        settings["mask_token"] = tokenizer.mask_token
    if source.task.name == "embed":
        settings["prompt"] = source.recipe.prompt(None, None)
        settings["lower_case"] = source.recipe.lower_case
        settings["poolings"] = list(source.recipe.poolings)
        settings["normalize"] = source.recipe.normalize
    return settings
