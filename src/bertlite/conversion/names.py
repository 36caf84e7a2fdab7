"""Which TensorFlow variable is which tensor of a standard BERT file, and of what shape.

One table serves both directions. A dense layer's `kernel` is stored (in, out) by TensorFlow and
(out, in) by PyTorch; `output_weights` are (out, in) in both. Names and shapes:
google-research/bert, modeling.py, run_pretraining.py, run_classifier.py and run_squad.py; optimizer
variables: optimization.py, and TensorFlow's own optimizers.
"""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models.configuration import BertLiteConfig

# Head: the class that holds it, and the parts of a checkpoint that it needs beside embeddings and
# layers.
HEADS: dict[str, tuple[str, tuple[str, ...]]] = {
    "none": ("BertLiteModel", ("pooler",)),
    "pretraining": ("BertLiteForPreTraining", ("pooler", "predictions", "relationship")),
    "masked-lm": ("BertLiteForMaskedLM", ("predictions",)),
    "next-sentence": ("BertLiteForNextSentencePrediction", ("pooler", "relationship")),
    "sequence-classification": ("BertLiteForSequenceClassification", ("pooler", "classifier")),
    "token-classification": ("BertLiteForTokenClassification", ("classifier",)),
    "multiple-choice": ("BertLiteForMultipleChoice", ("pooler", "classifier")),
    "question-answering": ("BertLiteForQuestionAnswering", ("squad",)),
}
PARTS = ("pooler", "predictions", "relationship", "classifier", "squad")
CLASSIFIER = "output_weights"  # of run_classifier.py; its first side is the number of labels

# What an optimizer keeps: a variable of its own beside each weight, and a few counters.
SLOTS = {"adam_m", "adam_v", "lamb_m", "lamb_v", "Adam", "Adam_1", "Momentum"}
SLOTS |= {
    f"{name}{ending}"
    for name in ("AdamWeightDecayOptimizer", "LAMBOptimizer", "LAMB")
    for ending in ("", "_1")
}
COUNTERS = {
    "global_step",
    "beta1_power",
    "beta2_power",
    "good_steps",
    "bad_steps",
    "loss_scale",
    "current_loss_scale",
}


@dataclass(frozen=True)
class Variable:
    """One weight under both of its names."""

    name: str  # TensorFlow's
    tensor: str  # in a standard BERT file
    shape: tuple[int, ...]  # TensorFlow's
    sides: str  # what the sides of the shape are, for errors
    transposed: bool = False  # whether PyTorch stores the other way round


@dataclass(frozen=True)
class Account:
    """Where every variable of a checkpoint went."""

    wanted: list[Variable]
    optimizer: list[str] = field(default_factory=list)  # an optimizer's own, which no model needs
    left_out: list[str] = field(
        default_factory=list
    )  # of heads or a pooler that the model does not have
    ignored: list[str] = field(default_factory=list)  # because the caller said so


def dense(
    name: str, tensor: str, inputs: tuple[str, int], outputs: tuple[str, int]
) -> Iterator[Variable]:
    """The two variables of a dense layer; a side is its name and its size."""
    sides = f"({inputs[0]}, {outputs[0]})"
    yield Variable(
        f"{name}/kernel", f"{tensor}.weight", (inputs[1], outputs[1]), sides, transposed=True
    )
    yield Variable(f"{name}/bias", f"{tensor}.bias", (outputs[1],), f"({outputs[0]},)")


def norm(name: str, tensor: str, hidden: tuple[str, int]) -> Iterator[Variable]:
    """The two variables of a layer norm: gamma scales, beta is added."""
    for ours, theirs in (("weight", "gamma"), ("bias", "beta")):
        yield Variable(
            f"{name}/LayerNorm/{theirs}",
            f"{tensor}.LayerNorm.{ours}",
            (hidden[1],),
            f"({hidden[0]},)",
        )


def output(
    name: str, tensor: str, labels: tuple[str, int], hidden: tuple[str, int]
) -> Iterator[Variable]:
    """The two variables of a last layer, which Google stores (out, in), as PyTorch does."""
    sides = f"({labels[0]}, {hidden[0]})"
    yield Variable(f"{name}output_weights", f"{tensor}.weight", (labels[1], hidden[1]), sides)
    yield Variable(f"{name}output_bias", f"{tensor}.bias", (labels[1],), f"({labels[0]},)")


def variables(config: "BertLiteConfig", head: str, num_labels: int = 2) -> list[Variable]:
    """Every variable of a model with one of the `HEADS`, in the order of the forward pass.

    Args:
        num_labels: of the classifier, where the head has one.
    """
    hidden = ("hidden_size", config.hidden_size)
    found = [*embeddings(config, hidden)]
    for number in range(config.num_hidden_layers):
        found += layer(
            config, hidden, f"bert/encoder/layer_{number}", f"bert.encoder.layer.{number}"
        )
    for name in HEADS[head][1]:
        found += part(name, config, hidden, num_labels)
    if head == "none":  # a file of the bare model has no prefix
        found = [
            Variable(v.name, v.tensor.removeprefix("bert."), v.shape, v.sides, v.transposed)
            for v in found
        ]
    return found


def embeddings(config: "BertLiteConfig", hidden: tuple[str, int]) -> Iterator[Variable]:
    """The three tables and their norm."""
    sizes = {
        "word": "vocab_size",
        "position": "max_position_embeddings",
        "token_type": "type_vocab_size",
    }
    for name, size in sizes.items():
        shape, path = (getattr(config, size), hidden[1]), f"embeddings/{name}_embeddings"
        yield Variable(
            f"bert/{path}", f"bert.{path.replace('/', '.')}.weight", shape, f"({size}, {hidden[0]})"
        )
    yield from norm("bert/embeddings", "bert.embeddings", hidden)


def layer(
    config: "BertLiteConfig", hidden: tuple[str, int], name: str, tensor: str
) -> Iterator[Variable]:
    """The sixteen variables of an encoder layer."""
    wide = ("intermediate_size", config.intermediate_size)
    for projection in ("query", "key", "value"):
        yield from dense(
            f"{name}/attention/self/{projection}",
            f"{tensor}.attention.self.{projection}",
            hidden,
            hidden,
        )
    yield from dense(
        f"{name}/attention/output/dense", f"{tensor}.attention.output.dense", hidden, hidden
    )
    yield from norm(f"{name}/attention/output", f"{tensor}.attention.output", hidden)
    yield from dense(f"{name}/intermediate/dense", f"{tensor}.intermediate.dense", hidden, wide)
    yield from dense(f"{name}/output/dense", f"{tensor}.output.dense", wide, hidden)
    yield from norm(f"{name}/output", f"{tensor}.output", hidden)


def part(
    name: str, config: "BertLiteConfig", hidden: tuple[str, int], num_labels: int
) -> Iterator[Variable]:
    """The variables of one of the `PARTS`."""
    if name == "pooler":
        yield from dense("bert/pooler/dense", "bert.pooler.dense", hidden, hidden)
    elif name == "predictions":
        transform = "cls/predictions/transform", "cls.predictions.transform"
        yield from dense(f"{transform[0]}/dense", f"{transform[1]}.dense", hidden, hidden)
        yield from norm(*transform, hidden)
        # The matrix before this bias is the table of words.
        yield Variable(
            "cls/predictions/output_bias",
            "cls.predictions.bias",
            (config.vocab_size,),
            "(vocab_size,)",
        )
    elif name == "relationship":
        yield from output("cls/seq_relationship/", "cls.seq_relationship", ("2", 2), hidden)
    elif name == "classifier":
        yield from output("", "classifier", ("number of labels", num_labels), hidden)
    else:
        yield from output("cls/squad/", "qa_outputs", ("2", 2), hidden)


def clean_names(names: Iterable[str]) -> dict[str, str]:
    """Original name by the name that the table uses.

    Without `:0`, and with `bert/` where an old layout lacks it.

    Raises:
        ValueError: two names become one.
    """
    cleaned: dict[str, str] = {}
    for original in names:
        name = re.sub(r":\d+$", "", original)
        if re.match(r"(embeddings|encoder|pooler)/", name):
            name = f"bert/{name}"
        if name in cleaned:
            raise ValueError(
                f"checkpoint: {cleaned[name]!r} and {original!r} are one variable under two names"
            )
        cleaned[name] = original
    return cleaned


def is_optimizers(name: str) -> bool:
    """Whether a variable is an optimizer's own.

    A slot beside a weight, or a counter at the root.
    """
    return name in COUNTERS or ("/" in name and name.rsplit("/", 1)[1] in SLOTS)


def choose_head(names: Iterable[str]) -> str:
    """The head that a checkpoint holds, by its variables.

    Raises:
        ValueError: it holds several.
    """
    present = set(names)
    marks = {
        "cls/predictions/output_bias": "masked-lm",
        "cls/seq_relationship/output_weights": "next-sentence",
    }
    marks |= {
        CLASSIFIER: "sequence-classification",
        "cls/squad/output_weights": "question-answering",
    }
    found = [head for mark, head in marks.items() if mark in present]
    if found[:2] == ["masked-lm", "next-sentence"]:
        found[:2] = ["pretraining"]
    if len(found) > 1:
        raise ValueError(
            f"head must be chosen, one of {', '.join(found)} or none: the checkpoint holds them all"
        )
    return found[0] if found else "none"


def account(
    shapes: Mapping[str, Sequence[int]],
    config: "BertLiteConfig",
    head: str,
    ignore: Sequence[str] = (),
) -> Account:
    """Say where every variable of a checkpoint goes.

    Args:
        shapes: shape by clean name.
        ignore: names or patterns (`cls/mine/*`) of variables to pass over.

    Raises:
        ValueError: an unknown variable, a missing one, one of another shape, or a pattern that fits
            none.
    """
    ignored = sorted(
        name for name in shapes if any(fnmatch.fnmatchcase(name, pattern) for pattern in ignore)
    )
    for pattern in ignore:
        if not fnmatch.filter(shapes, pattern):
            raise ValueError(f"ignore: no variable of the checkpoint fits {pattern!r}")
    labels = shapes[CLASSIFIER][0] if shapes.get(CLASSIFIER) else 2
    wanted = variables(config, head, 1 if head == "multiple-choice" else labels)
    other = {
        v.name
        for name in PARTS
        for v in part(name, config, ("hidden_size", config.hidden_size), labels)
    }
    known = {variable.name for variable in wanted}
    rest = sorted(set(shapes) - known - set(ignored))
    optimizer = [name for name in rest if is_optimizers(name)]
    left_out = [name for name in rest if name in other]
    unknown = [name for name in rest if name not in other and name not in set(optimizer)]
    missing = sorted(known - (set(shapes) - set(ignored)))
    if unknown:
        layers = (
            f"; num_hidden_layers is {config.num_hidden_layers}"
            if "encoder/layer_" in unknown[0]
            else ""
        )
        raise ValueError(
            f"checkpoint: unknown variables: {some(unknown)}{layers}; ignore them by name if you "
            "mean to"
        )
    if missing:
        raise ValueError(f"checkpoint: variables missing for the head {head!r}: {some(missing)}")
    check_shapes(wanted, shapes)
    return Account(wanted, optimizer, left_out, ignored)


def check_shapes(wanted: Iterable[Variable], shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse, with a ValueError, variables of another shape than the config asks for."""
    wrong = [variable for variable in wanted if tuple(shapes[variable.name]) != variable.shape]
    lines = [f"{v.name} is {tuple(shapes[v.name])}, expected {v.shape}, {v.sides}" for v in wrong]
    if lines:
        raise ValueError(f"checkpoint: shapes do not fit bert_config.json: {some(lines, '; ')}")


def some(names: Sequence[str], separator: str = ", ") -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return separator.join(names[:8]) + more
