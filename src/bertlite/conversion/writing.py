"""From a model to a TensorFlow checkpoint with Google's names."""

import fnmatch
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedConfig

from ..models import modeling_bertlite
from .files import CHECKPOINT, google_config, import_tensorflow, vocabulary_lines
from .names import HEADS, Variable, some, variables
from .reading import head_of


def save_tensorflow_checkpoint(
    model: Any, prefix: str | os.PathLike, *, tokenizer: Any = None
) -> Path:
    """Write a model as Google's code would have.

    Checkpoint, `bert_config.json` and, with a tokenizer, `vocab.txt`.

    Values are written as float32. All is written beside its place first, then moved there.

    Args:
        model: one of the BertLite classes.
        prefix: such as `folder/bert_model.ckpt`; a path that is a folder, or ends in a slash, gets
            that name in it.
        tokenizer: a WordPiece tokenizer, whose vocabulary is written.

    Returns:
        The prefix.

    Raises:
        ValueError: a model or tokenizer that Google's code cannot be; weights that the checkpoint
            has no name for.
        ImportError: TensorFlow is missing.

    >>> save_tensorflow_checkpoint(model, "out/bert_model.ckpt")  # doctest: +SKIP
    """
    target = Path(prefix)
    if target.is_dir() or str(prefix).endswith(("/", os.sep)):
        target = target / CHECKPOINT
    fields = google_config(model.config) if hasattr(model, "config") else {}
    arrays = named_arrays(model)
    lines = None if tokenizer is None else vocabulary_lines(tokenizer)
    if lines is not None and len(lines) > model.config.vocab_size:
        raise ValueError(
            f"tokenizer must know at most vocab_size = {model.config.vocab_size} tokens, got "
            f"{len(lines)}"
        )
    folder = target.parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        written = Path(scratch, "folder")
        written.mkdir()
        write_variables(arrays, written / target.name)
        (written / "bert_config.json").write_text(
            json.dumps(fields, indent=2) + "\n", encoding="utf-8"
        )
        if lines is not None:
            (written / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        move(written, folder)
    return target


def move(written: Path, folder: Path) -> None:
    """Move a complete checkpoint into place.

    At once where nothing stood there, else file by file, the index last.
    """
    if not folder.exists():
        os.replace(written, folder)
        return
    for path in sorted(written.iterdir(), key=lambda path: path.suffix == ".index"):
        os.replace(path, folder / path.name)


def named_arrays(model: Any) -> dict[str, np.ndarray]:
    """Every weight of a model under TensorFlow's name, turned as TensorFlow stores it.

    Raises:
        ValueError: another class, a word table that is not the output's, or weights without a name.
    """
    head = head_of(type(model))
    own = model.state_dict()
    arrays, used = {}, set()
    for variable in variables(
        model.config, head, model.config.num_labels if head != "multiple-choice" else 1
    ):
        name = variable.tensor
        if name not in own:
            raise ValueError(
                f"model: {type(model).__name__} has no {name}, which the checkpoint needs"
            )
        used.add(name)
        arrays[variable.name] = to_array(own[name], variable)
    tied = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}
    tied["cls.predictions.decoder.bias"] = "cls.predictions.bias"
    for name, source in tied.items():
        if name in own and not torch.equal(own[name], own[source]):
            raise ValueError(
                f"model: {name} must equal {source}, since Google's code has only one, got another "
                "tensor"
            )
    without = sorted(set(own) - used - set(tied))
    if without:
        raise ValueError(f"model: weights that Google's code has no name for: {some(without)}")
    return arrays


def to_array(tensor: torch.Tensor, variable: Variable) -> np.ndarray:
    """A float32 array `variable.shape`; a ValueError where the tensor has another."""
    array = tensor.detach().to("cpu", torch.float32).numpy()
    array = np.ascontiguousarray(array.T if variable.transposed else array)
    if array.shape != variable.shape:
        raise ValueError(
            f"model: {variable.tensor} gives {array.shape}, expected {variable.shape}, "
            f"{variable.sides}"
        )
    return array


def write_variables(arrays: dict[str, np.ndarray], prefix: Path) -> None:
    """Write the three files of a checkpoint, as TensorFlow 1's Saver does, which Google used."""
    tensorflow = import_tensorflow()
    compat = tensorflow.compat.v1
    with (
        tensorflow.Graph().as_default(),
        compat.Session(config=compat.ConfigProto(device_count={"GPU": 0})) as session,
    ):
        for name, array in tqdm(arrays.items(), desc="writing", unit="variable", disable=None):
            start = compat.zeros_initializer()
            variable = compat.get_variable(
                name, array.shape, tensorflow.float32, start, use_resource=False
            )
            # The value is fed, not a constant of the graph, which may hold 2 GB at most.
            session.run(variable.initializer, {variable.initializer.inputs[1]: array})
        compat.train.Saver().save(session, str(prefix), write_state=False)


def load_folder(
    folder: str | os.PathLike, head: str | None = None, ignore: Sequence[str] = ()
) -> Any:
    """Load a BERT or bertlite folder whole.

    Args:
        head: a name of `HEADS`; None takes the class that the folder's config names.
        ignore: names or patterns of tensors that may be left out.

    Raises:
        ValueError: an unknown class; tensors missing, or without a place in that class and not
            ignored.
    """
    config, _ = PreTrainedConfig.get_config_dict(str(folder))
    classes = config.get("architectures") or []
    if head is None:
        named = [
            name.replace("BertFor", "BertLiteFor").replace("BertModel", "BertLiteModel")
            for name in classes
        ]
        head = next((head for head, (name, _) in HEADS.items() if name in named), None)
    if head is None:
        raise ValueError(
            f"{folder}: head must be given, one of {', '.join(HEADS)}; its config names {classes}"
        )
    model_class = getattr(modeling_bertlite, HEADS[head][0])
    try:
        model, info = model_class.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, RuntimeError) as error:  # no weights, or those of other sizes
        raise ValueError(
            f"{folder}: no {model_class.__name__} can be loaded from it: {error}"
        ) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(f"{folder}: tensors missing for the head {head!r}: {some(missing)}")
    extra = sorted(
        n for n in info["unexpected_keys"] if not any(fnmatch.fnmatchcase(n, p) for p in ignore)
    )
    if extra:
        advice = "choose another head, or ignore them by name"
        raise ValueError(
            f"{folder}: tensors without a place in the head {head!r}: {some(extra)}; {advice}"
        )
    return model.eval()
