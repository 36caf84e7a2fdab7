"""From a TensorFlow checkpoint to a model."""

import copy
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ..models import modeling_bertlite
from ..models.configuration import BertLiteConfig
from .files import find_prefix, import_tensorflow, read_config
from .names import CLASSIFIER, HEADS, Account, account, choose_head, clean_names, some

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """What a TensorFlow checkpoint holds, by clean name.

    `read` gives one array, under its original name.
    """

    prefix: Path
    originals: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    read: Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Loaded:
    """A model, the head it has, and where every variable of its checkpoint went."""

    model: Any
    head: str
    account: Account


def open_checkpoint(source: str | os.PathLike) -> Checkpoint:
    """Open a folder or prefix and list what is in it.

    Raises:
        ValueError: files missing or damaged.
        ImportError: TensorFlow is missing.
    """
    prefix = find_prefix(source)
    tensorflow = import_tensorflow()
    damaged = (
        tensorflow.errors.OpError,
        RuntimeError,
        ValueError,
        IndexError,
    )  # TensorFlow raises any of them
    try:
        reader = tensorflow.train.load_checkpoint(str(prefix))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except damaged as error:
        raise ValueError(
            f"{prefix}.index: damaged or no TensorFlow checkpoint ({error})"
        ) from error

    def read(original: str) -> np.ndarray:
        try:
            return np.asarray(reader.get_tensor(original))
        except damaged as error:
            raise ValueError(
                f"{prefix}: damaged or truncated at the variable {original} ({error})"
            ) from error

    originals = clean_names(shapes)
    return Checkpoint(
        prefix=prefix,
        originals=originals,
        shapes={name: tuple(shapes[original]) for name, original in originals.items()},
        dtypes={name: dtypes[original].name for name, original in originals.items()},
        read=read,
    )


def load_tensorflow_checkpoint(
    source: str | os.PathLike,
    model_class: type | None = None,
    *,
    config: str | os.PathLike | BertLiteConfig | None = None,
    ignore: Sequence[str] = (),
    labels: Sequence[str] | None = None,
) -> Any:
    """Load Google's TensorFlow checkpoint as one of our models, in `eval` mode.

    Args:
        source: the folder of a release, or the prefix of a checkpoint (`folder/bert_model.ckpt`).
        model_class: such as `BertLiteForTokenClassification`; None takes the class of the head that
            is there.
        config: a `bert_config.json`, or a config; None takes the file beside the checkpoint.
        ignore: names or patterns of variables to pass over.
        labels: names of a classifier's labels, which the checkpoint does not hold.

    Returns:
        The model; `logging` says what was left out.

    Raises:
        ValueError: files missing or damaged; a variable unknown, missing, of another shape or type;
            several heads and no `model_class`.
        ImportError: TensorFlow is missing.

    >>> model = load_tensorflow_checkpoint("uncased_L-12_H-768_A-12")  # doctest: +SKIP
    """
    head = None if model_class is None else head_of(model_class)
    loaded = load(open_checkpoint(source), head, config=config, ignore=ignore, labels=labels)
    for line in describe(loaded.account):
        logger.info(line)
    return loaded.model


def load(
    checkpoint: Checkpoint,
    head: str | None,
    *,
    config: str | os.PathLike | BertLiteConfig | None = None,
    ignore: Sequence[str] = (),
    labels: Sequence[str] | None = None,
) -> Loaded:
    """As `load_tensorflow_checkpoint`, of an open checkpoint, with a name of `HEADS`."""
    head = choose_head(checkpoint.shapes) if head is None else head
    if not isinstance(config, BertLiteConfig):
        fields, unread = read_config(
            Path(config or checkpoint.prefix.with_name("bert_config.json"))
        )
        if unread:
            logger.info("bert_config.json: not read, as in Google's code: %s", ", ".join(unread))
        config = BertLiteConfig(**fields)
    config = copy.deepcopy(config)  # the caller's stays as it is
    plan = account(checkpoint.shapes, config, head, ignore)
    wrong = [v.name for v in plan.wanted if checkpoint.dtypes[v.name] != "float32"]
    if wrong:
        raise ValueError(
            f"checkpoint: variables must be float32, got {checkpoint.dtypes[wrong[0]]} for "
            f"{some(wrong)}"
        )
    name_labels(config, head, checkpoint.shapes, labels)
    model = getattr(modeling_bertlite, HEADS[head][0])(config)
    tensors = {}
    for variable in tqdm(plan.wanted, desc="reading", unit="variable", disable=None):
        array = checkpoint.read(checkpoint.originals[variable.name])
        tensors[variable.tensor] = torch.from_numpy(
            np.ascontiguousarray(array.T if variable.transposed else array)
        )
    for tied, source in model.all_tied_weights_keys.items():
        tensors[tied] = tensors[source]
    model.load_state_dict(tensors, strict=True)
    return Loaded(model.eval(), head, plan)


def name_labels(
    config: BertLiteConfig, head: str, shapes: dict, labels: Sequence[str] | None
) -> None:
    """Tell the config how many labels there are, and their names.

    Raises:
        ValueError: as many names were not given as the classifier has outputs.
    """
    classifies = head in ("sequence-classification", "token-classification")
    if labels and not classifies:
        raise ValueError(
            f"labels must be given for a classifier only, got {len(labels)} for the head {head!r}"
        )
    if not classifies:
        return
    count = shapes[CLASSIFIER][0]
    if labels and len(labels) != count:
        raise ValueError(
            f"labels must be {count}, as many as {CLASSIFIER} has rows, got {len(labels)}"
        )
    config.num_labels = count
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: number for number, label in enumerate(labels)}


def head_of(model_class: Any) -> str:
    """The name in `HEADS` of one of our classes; a ValueError for another."""
    name = getattr(model_class, "__name__", str(model_class))
    for head, (class_name, _) in HEADS.items():
        if name == class_name:
            return head
    raise ValueError(
        f"model_class must be one of {', '.join(entry[0] for entry in HEADS.values())}, got {name}"
    )


def describe(plan: Account) -> list[str]:
    """What was read and what was not, a line each."""
    lines = [f"{len(plan.wanted)} variables read"]
    if plan.optimizer:
        lines.append(
            f"{len(plan.optimizer)} variables of the optimizer passed over, such as "
            f"{plan.optimizer[0]}"
        )
    if plan.left_out:
        lines.append(f"left out, since this model has no place for them: {some(plan.left_out)}")
    if plan.ignored:
        lines.append(f"ignored, as told: {some(plan.ignored)}")
    return lines
