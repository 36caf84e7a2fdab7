"""Linear probes: what can be read off the states of each layer, and how much of it is the probe's.

A probe is a logistic regression on frozen states. That it finds parts of speech, say, may mean that
the states hold them, or that the probe has learned by heart which word is what. Hewitt and Liang
2019 ("Designing and interpreting probes with control tasks") tell the two apart: a second probe
learns a control task, in which every word type has a label drawn at random, the same wherever it
occurs. Only memory can solve that. Selectivity is the accuracy less that of the control.

High accuracy with selectivity says that a property is there to be read in a line; it does not say
that the model uses it.

Shapes: `N` words or texts, `E` hidden size.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..inference.loading import check_counts, check_number, roomy_limit
from .importance import evaluating
from .loading import open_model

READS = ("word", "mean", "first")
LIBRARY = 'probes need scikit-learn; install it with: pip install "bertlite[finetune]"'


@dataclass(frozen=True)
class Probes:
    """What probes read, layer by layer; entry 0 is of the embeddings.

    Attributes:
        accuracy: on held-out sentences.
        control: accuracy in the control task; empty where there is none.
        majority: share of the most frequent label among the held-out ones.
        labels: how many there are.
        train_size: words or texts that probes learned from.
        test_size: that they were measured on.
        reads: "word", "mean" or "first".
    """

    accuracy: list[float]
    control: list[float]
    majority: float
    labels: int
    train_size: int
    test_size: int
    reads: str

    @property
    def selectivity(self) -> list[float]:
        """Accuracy less that of the control task, a layer; empty where there is none."""
        return [found - other for found, other in zip(self.accuracy, self.control, strict=False)]

    def __str__(self) -> str:
        lines = ["layer  accuracy  control  selectivity"]
        for layer, accuracy in enumerate(self.accuracy):
            line = f"{layer:5d}  {accuracy:8.4f}"
            if self.control:
                line += f"  {self.control[layer]:7.4f}  {self.selectivity[layer]:11.4f}"
            lines.append(line)
        lines.append(
            f"{self.labels} labels, the most frequent {self.majority:.4f}; {self.train_size:,} to "
            f"learn from, {self.test_size:,} measured"
        )
        return "\n".join(lines)

    def plot(self, output: str | os.PathLike | None = None) -> Any:
        """A figure of the curves over the layers, saved as `output` where that is given.

        Raises:
            ValueError: matplotlib is missing.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            hint = 'pip install "bertlite[figures]"'
            raise ValueError(f"plots need matplotlib; install it with: {hint}") from error
        figure = Figure(figsize=(6.0, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.accuracy, marker="o", label="accuracy")
        if self.control:
            axes.plot(self.control, marker="^", label="control task")
            axes.plot(self.selectivity, marker="s", label="selectivity")
        axes.axhline(self.majority, linestyle=":", color="grey", label="most frequent label")
        axes.set(xlabel="layer (0: embeddings)", ylabel="share of held-out labels", ylim=(0, 1))
        axes.set_xticks(range(len(self.accuracy)))
        axes.grid(alpha=0.3)
        axes.legend()
        if output is not None:
            figure.savefig(output, dpi=110)
        return figure


def probe(
    model: Any,
    texts: Sequence[Any],
    labels: Sequence[Any],
    *,
    tokenizer: Any = None,
    reads: str = "word",
    control: bool = True,
    test_share: float = 0.3,
    seed: int = 0,
    max_length: int | None = None,
    batch_size: int = 32,
    device: Any = None,
) -> Probes:
    """Fit a linear probe on every layer's states.

    Args:
        model: an encoder with any head: a folder, a hub name or a loaded model.
        texts: for "word" lists of words, else texts.
        labels: for "word" a list of labels for each text, one a word; else a label a text.
        tokenizer: a fast tokenizer or its folder; None: the model's.
        reads: "word": the mean of a word's pieces; "mean": of all tokens, special ones too; or
            "first": the first token's.
        control: also fit probes of the control task; of words only, since texts do not recur.
        test_share: of the texts, which are measured on and not learned from.
        seed: of the split and of the control task.
        max_length: tokens of a text; words beyond are left out.
        batch_size: texts at a time.
        device: where to run a model that is loaded here.

    Returns:
        Accuracy, control and selectivity of each layer.

    Raises:
        ValueError: texts and labels that do not fit, fewer than two labels to learn from, or
            scikit-learn missing.
    """
    check_probe(texts, labels, reads, test_share, batch_size)
    model, tokenizer = open_model("probe", model, tokenizer, device)
    if model.config.is_encoder_decoder:
        raise ValueError("model must be an encoder to be probed, got an encoder-decoder")
    states, rows, kept, types = [], [], [], []
    longest = roomy_limit("max_length", model, tokenizer, max_length)
    starts = range(0, len(texts), batch_size)
    with torch.no_grad(), evaluating(model):
        for start in starts:
            part = texts[start : start + batch_size]
            for place, number, vectors in states_of(part, model, tokenizer, reads, longest):
                states.append(vectors)
                rows.append(start + place)
                own = labels[start + place]
                kept.append(own if number is None else own[number])
                types.append(None if number is None else part[place][number])
    stacked = np.stack(states, axis=1)  # (layers + 1, N, E)
    tests = held_out(np.asarray(rows), len(texts), test_share, seed)
    targets = np.asarray([str(each) for each in kept])
    if len(set(targets[~tests])) < 2:
        raise ValueError("labels must be at least two different ones among the texts to learn from")
    controls = control_labels(types, targets, seed) if control and reads == "word" else None
    return Probes(
        accuracy=[fitted(each, targets, tests) for each in stacked],
        control=[] if controls is None else [fitted(each, controls, tests) for each in stacked],
        majority=float((targets[tests] == most_frequent(targets[tests])).mean()),
        labels=len(set(targets)),
        train_size=int((~tests).sum()),
        test_size=int(tests.sum()),
        reads=reads,
    )


def check_probe(
    texts: Sequence[Any], labels: Sequence[Any], reads: str, test_share: float, batch_size: int
) -> None:
    """Refuse, with a ValueError, what cannot be probed, before anything is computed."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ValueError(LIBRARY) from error
    if reads not in READS:
        raise ValueError(f"reads must be one of {READS}, got {reads!r}")
    check_number("test_share", test_share, 0.01, 0.99)
    check_counts(1, batch_size=batch_size)
    if len(texts) != len(labels) or len(texts) < 2:
        raise ValueError(
            f"texts and labels must be as many, at least 2, got {len(texts)} and {len(labels)}"
        )
    for place, (text, own) in enumerate(zip(texts, labels, strict=True)):
        if reads != "word":
            if not isinstance(text, str):
                raise ValueError(f"texts must be strings, got {type(text).__name__} at {place}")
        elif isinstance(text, str) or isinstance(own, str) or len(text) != len(own):
            raise ValueError(
                f"texts and labels must be lists of words and of as many labels, got {text!r:.60} "
                f"and {own!r:.60} at {place}"
            )


def states_of(
    texts: Sequence[Any], model: Any, tokenizer: Any, reads: str, longest: int
) -> Iterator[tuple[int, int | None, np.ndarray]]:
    """Place of the text, number of the word (None: the text's own), `(layers + 1, E)` states."""
    batch = tokenizer(
        list(texts) if reads != "word" else [list(text) for text in texts],
        is_split_into_words=reads == "word",
        truncation=True,
        max_length=longest,
        padding=True,
        return_tensors="pt",
    )
    inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
    outputs = model(**inputs, output_hidden_states=True)
    states = torch.stack(outputs.hidden_states, dim=2).float().cpu()  # (B, T, layers + 1, E)
    for place in range(len(texts)):
        real = batch["attention_mask"][place].bool()
        if reads != "word":
            own = states[place][real]
            yield place, None, (own.mean(0) if reads == "mean" else own[0]).numpy()
            continue
        pieces: dict[int, list[int]] = {}
        for token, word in enumerate(batch.word_ids(place)):
            if word is not None:
                pieces.setdefault(word, []).append(token)
        for word, tokens in pieces.items():
            yield place, word, states[place, tokens].mean(0).numpy()


def held_out(rows: np.ndarray, count: int, share: float, seed: int) -> np.ndarray:
    """`(N,)`, True for what is measured on: all words of a text stand on one side."""
    drawn = np.random.default_rng(seed).permutation(count)
    chosen = set(drawn[: min(max(1, round(count * share)), count - 1)].tolist())
    return np.asarray([row in chosen for row in rows])


def control_labels(types: Sequence[Any], targets: np.ndarray, seed: int) -> np.ndarray:
    """A label for each word type, drawn as often as the real ones occur (section 2.1)."""
    generator = np.random.default_rng(seed)
    drawn: dict[Any, str] = {}
    for each in types:
        if each not in drawn:
            drawn[each] = str(generator.choice(targets))
    return np.asarray([drawn[each] for each in types])


def fitted(states: np.ndarray, targets: np.ndarray, tests: np.ndarray) -> float:
    """Accuracy of a probe on held-out states `(N, E)`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(set(targets[~tests])) < 2:
        return float((targets[tests] == targets[~tests][0]).mean())
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    return float(
        regression.fit(states[~tests], targets[~tests]).score(states[tests], targets[tests])
    )


def most_frequent(targets: np.ndarray) -> str:
    """The label that occurs most often."""
    names, counts = np.unique(targets, return_counts=True)
    return str(names[counts.argmax()])
