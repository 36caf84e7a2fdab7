"""The works that `kills.py` kills: what each does, and how what a kill has left is judged."""

import json
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from transformers import BertTokenizer
from transformers.utils import logging

import bertlite
from bertlite.cli import pretrain
from bertlite.export.exporting import export_folder
from bertlite.pretraining.training import is_complete, last_complete_checkpoint
from bertlite.tokenization import train_wordpiece
from bertlite.training.checkpoints import find_checkpoint

STEPS = 6
SIZES = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
NOTHING = "nothing yet"


class Work(ABC):
    """Something that is done in a folder, and may be killed at it.

    Attributes:
        lives: how long it lives at most, in times that it takes undisturbed.
    """

    lives = 1.1

    def prepare(self, room: Path) -> None:
        """Write what every run reads, into the folder that `run`'s folder, or its parent, is in."""
        torch.set_num_threads(1)

    @abstractmethod
    def run(self, out: Path, last: bool = False) -> None:
        """Do the work, going on with what is there; `last`: nobody will kill it."""

    @abstractmethod
    def judge(self, out: Path, expected: Path) -> str:
        """What a kill has left, in a few words that begin with WRONG if it should not be so."""

    @abstractmethod
    def compare(self, folder: Path, expected: Path) -> str:
        """How the end result in `folder / "out"` differs from that of a run that nobody killed."""


def room_of(out: Path, name: str) -> str:
    """A file or folder that `prepare` wrote, seen from a run's folder."""
    return str(next(place / name for place in out.parents if (place / name).exists()))


def tiny_words() -> list[str]:
    """Sentences of a small vocabulary."""
    story = "the cat sat on a mat in paris while anna went to london and drank tea with bob"
    words = story.split()
    chance = np.random.default_rng(0)
    return [" ".join(chance.choice(words, 9)) + "." for _ in range(600)]


def base_model(room: Path) -> None:
    """A tiny BERT and its tokenizer."""
    tokenizer: BertTokenizer = train_wordpiece(tiny_words(), vocab_size=120)
    config = bertlite.BertLiteConfig(
        vocab_size=len(tokenizer), num_hidden_layers=1, max_position_embeddings=32, **SIZES
    )
    torch.manual_seed(0)
    bertlite.BertLiteForSequenceClassification(config).save_pretrained(room / "base")
    tokenizer.save_pretrained(room / "base")


def names_in(folder: Path) -> set[str]:
    """The paths of all files in a folder."""
    return {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}


def same_weights(one: Path, other: Path) -> bool:
    """Whether two weights files hold the same tensors, bit for bit."""
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], tensor) for name, tensor in second.items()
    )


class Saving(Work):
    """`save_pretrained` over and over, alternately in one file and in shards.

    All weights of the model number k are k, so that a mix would show.
    """

    lives = 5.0

    def run(self, out, last=False):
        sizes = {"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 256}
        config = bertlite.BertLiteConfig(vocab_size=2000, num_hidden_layers=4, **sizes)
        model = bertlite.BertLiteModel(config)
        for number in range(1, 2 if last else 60):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.fill_(number)
            model.save_pretrained(out, max_shard_size="100KB" if number % 3 == 2 else "1GB")

    def judge(self, out, expected):
        if not (out / "config.json").exists():
            return NOTHING
        logging.set_verbosity_error()
        found = set()
        for reader in (bertlite.BertLiteModel, transformers.BertModel):
            try:
                model = reader.from_pretrained(out)
            except (OSError, ValueError):
                found.add("refused, until the next save finishes it")
                continue
            values = {float(value) for each in model.parameters() for value in each.unique()}
            found.add("a whole model" if len(values) == 1 else "WRONG: a mix")
        return found.pop() if len(found) == 1 else f"WRONG: readers differ: {sorted(found)}"

    def compare(self, folder, expected):
        found = names_in(folder / "out")
        if found != names_in(expected):
            return f"WRONG: files {sorted(found)}"
        whole = same_weights(folder / "out/model.safetensors", expected / "model.safetensors")
        return "" if whole else "WRONG: not the last model that was saved"


class Training(Work):
    """`finetune` with a checkpoint at each step; goes on with `resume`."""

    last_whole = staticmethod(find_checkpoint)
    figures = "metrics.json"

    def prepare(self, room):
        super().prepare(room)
        base_model(room)
        rows = [{"text": text, "label": "cat" in text} for text in tiny_words()[:40]]
        rows = [{**each, "label": ["no", "yes"][each["label"]]} for each in rows]
        (room / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))

    def run(self, out, last=False):
        arguments: dict[str, Any] = {"disable_tqdm": True, "use_cpu": True, "max_steps": STEPS}
        arguments |= {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 2}
        arguments |= {"per_device_train_batch_size": 4, "learning_rate": 1e-3}
        bertlite.finetune(
            "sequence-classification",
            room_of(out, "base"),
            output_dir=out,
            train=room_of(out, "rows.jsonl"),
            validation=0.2,
            arguments=arguments,
            resume=(out / "run_arguments.json").exists(),
            say=None,
        )

    def judge(self, out, expected):
        logging.set_verbosity_error()
        if (out / "model.safetensors").exists() and not same_weights(
            out / "model.safetensors", expected / "model.safetensors"
        ):
            return "WRONG: the final model"
        checkpoint = self.last_whole(out) if out.exists() else None
        if checkpoint is None:
            noted = [each for each in out.glob("checkpoint-*") if is_complete(each)]
            return "WRONG: no checkpoint is found" if noted else NOTHING
        loading = bertlite.BertLiteModel.from_pretrained(checkpoint, output_loading_info=True)[1]
        if loading["mismatched_keys"]:
            return f"WRONG: {checkpoint.name} does not fit"
        half = sum(not is_complete(each) for each in out.glob("checkpoint-*"))
        return "a whole checkpoint" + (" beside a half one" if half else "")

    def compare(self, folder, expected):
        out = folder / "out"
        found, wanted = names_in(out), names_in(expected)
        if {each for each in found ^ wanted if "checkpoint" not in each and "runs/" not in each}:
            return f"WRONG: files {sorted(found ^ wanted)}"
        halves = [each for each in out.glob("checkpoint-*") if not is_complete(each)]
        if halves:
            return f"WRONG: left half written: {halves}"
        whole = same_weights(out / "model.safetensors", expected / "model.safetensors")
        return "" if whole else "WRONG: other weights than without kills"


class Pretraining(Training):
    """`bertlite pretrain` from raw text, its own tokenizer included; goes on with `--resume`."""

    last_whole = staticmethod(last_complete_checkpoint)

    def prepare(self, room):
        Work.prepare(self, room)
        words = tiny_words()
        documents = ["\n".join(words[place : place + 12]) for place in range(0, len(words), 12)]
        (room / "docs.txt").write_text("\n\n".join(documents))

    def run(self, out, last=False):
        given = {
            "output-dir": out,
            "max-steps": STEPS,
            "preset": "bert-tiny",
            "vocab-size": 120,
            "learning-rate": 1e-3,
            "tokens-per-batch": 256,
            "max-lengths": 32,
            "save-steps": 1,
            "eval-steps": 3,
            "logging-steps": 2,
            "held-out-share": 0.1,
            "held-out-batches": 2,
        }
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        more = ["--resume"] if out.exists() else []
        pretrain.main([room_of(out, "docs.txt"), *words, "--lines", "sentence", "--cpu", *more])


class Exporting(Work):
    """`bertlite export onnx`, with its check; goes on by beginning anew."""

    def prepare(self, room):
        super().prepare(room)
        base_model(room)

    def run(self, out, last=False):
        if out.exists():  # whole, from a run before
            shutil.rmtree(out)
        export_folder(room_of(out, "base"), out)

    def judge(self, out, expected):
        if not out.exists():
            return NOTHING
        return self.difference(out, expected) or "a whole export"

    def compare(self, folder, expected):
        found = sorted(each.name for each in folder.iterdir())
        if found != ["out"]:
            return f"WRONG: left {found}"
        return self.difference(folder / "out", expected)

    def difference(self, out: Path, expected: Path) -> str:
        """What is missing or other than in an export that nobody killed."""
        if names_in(out) != names_in(expected):
            return f"WRONG: files {sorted(names_in(out) ^ names_in(expected))}"
        import onnxruntime

        ids = {"input_ids": np.array([[2, 7, 8, 3]]), "attention_mask": np.ones((1, 4), int)}
        found = []
        for folder in (out, expected):
            graph = onnxruntime.InferenceSession(folder / "model.onnx")
            names = {each.name for each in graph.get_inputs()}
            given = {**ids, "token_type_ids": np.zeros((1, 4), int)}
            found.append(graph.run(None, {name: given[name] for name in names})[0])
        return "" if np.allclose(*found, atol=1e-5) else "WRONG: other logits"


WORKS: dict[str, Work] = {
    "saving": Saving(),
    "training": Training(),
    "pretraining": Pretraining(),
    "exporting": Exporting(),
}
