"""`explain`: texts, their predictions, attributions, faithfulness and attention, in one object.

It prints in a terminal, draws in a notebook, and is saved as a page.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..inference.loading import as_texts, check_counts
from .asking import find_subjects
from .attention import AttentionMaps, attention_maps
from .attribution import Attribution, check_method, explain_subject
from .erasure import Faithfulness, faithfulness
from .loading import open_model
from .subjects import SimilaritySubject, Subject, WritingSubject
from .targets import Wanted
from .tokens import TextTokens

DEFAULT_METHODS = (
    "integrated_gradients",
    "occlusion",
    "attention_x_gradient",
    "gradient_x_input",
)
MOST_TARGETS = 24


@dataclass(frozen=True)
class ExplainedTarget:
    """One number of one text, explained by each method.

    Attributes:
        attributions: by method.
        faithfulness: by method; empty where it was not measured.
    """

    attributions: dict[str, Attribution]
    faithfulness: dict[str, Faithfulness]

    @property
    def name(self) -> str:
        """What is explained."""
        return next(iter(self.attributions.values())).target


@dataclass(frozen=True)
class ExplainedText:
    """One text, pair, or source with what was written.

    Attributes:
        tokens: all that any target is explained by.
        roles: what each of `tokens.texts` is.
        targets: what the model believes most comes first.
        maps: of attention, by a name; two for a similarity, whose texts are read one by one.
    """

    tokens: TextTokens
    roles: tuple[str, ...]
    targets: tuple[ExplainedTarget, ...]
    maps: dict[str, AttentionMaps]


@dataclass(frozen=True)
class Explanation:
    """Of one text or of several.

    Attributes:
        model: its name.
        methods: in the order in which they were asked for.
        texts: in the order given.
    """

    model: str
    methods: tuple[str, ...]
    texts: tuple[ExplainedText, ...]

    def to_html(self) -> str:
        """The page: one file that needs no network; see `bertlite.inspection.html`."""
        from .html import explanation_page

        return explanation_page(self)

    def save(self, path: str | Path) -> None:
        """Write the page to a file; folders above it are made."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(self.to_html(), encoding="utf-8")

    def __str__(self) -> str:
        from .terminal import explanation_as_text

        return explanation_as_text(self)

    def plot(self, axes: Any = None) -> Any:
        """The first text's first target by each method, by matplotlib."""
        from .drawing import plot_explanation

        return plot_explanation(self, axes)

    def _repr_html_(self) -> str:
        """In a notebook, the page in a frame of its own."""
        from html import escape

        page = escape(self.to_html(), quote=True)
        return f'<iframe srcdoc="{page}" width="100%" height="700" style="border:0"></iframe>'


def explain(
    texts: str | Iterable[str],
    model: Any,
    tokenizer: Any = None,
    *,
    text_pair: str | None = None,
    written: str | None = None,
    target: str | int | None = None,
    word: str | int | None = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    measure: bool = True,
    max_length: int | None = None,
    device: Any = None,
) -> Explanation:
    """Explain what a model says of texts, by several methods, with how faithful each is.

    Args:
        texts: one, or several to compare; of question answering the question.
        model: a folder, a hub name or a loaded model.
        tokenizer: a tokenizer, or where to load one; None: that of the model's folder.
        text_pair: the second text of every pair, the context of every question.
        written: of an encoder-decoder, what it is to have written.
        target: as in `attribute`; None: everything that can be explained, such as all labels, up to
            24 targets a text.
        word: as in `attribute`.
        methods: names of `METHODS`.
        measure: whether faithfulness is measured, of the first target of each text.
        max_length: cut texts to so many tokens; None: one that is too long is refused.
        device: where to run; None: where the model is.

    Raises:
        ValueError: those of `attribute`.
    """
    rows, _ = as_texts("texts", texts)
    if not rows:
        raise ValueError("texts must hold at least one text, got none")
    check_counts(1, max_length=max_length)
    if isinstance(methods, str) or not methods:
        raise ValueError(f"methods must be a list of names, got {methods!r}")
    for method in methods:
        check_method(method, {})
    model, tokenizer = open_model("explain", model, tokenizer, device)
    options: dict[str, Any] = {"text_pair": text_pair, "written": written, "max_length": max_length}
    wanted = Wanted(target, word)
    asked = [
        find_subjects(model, tokenizer, row, wanted=wanted, device=device, **options)
        for row in rows
    ]
    found = [
        explain_text(subjects[:MOST_TARGETS], methods, measure, device=device, options=options)
        for subjects in asked
    ]
    name = str(getattr(model, "name_or_path", "") or type(model).__name__)
    return Explanation(Path(name).name, tuple(methods), tuple(found))


def explain_text(
    subjects: list[Subject],
    methods: Sequence[str],
    measure: bool,
    *,
    device: Any,
    options: dict[str, Any],
) -> ExplainedText:
    """All subjects of one text; the longest of them holds every token."""
    targets = []
    for number, subject in enumerate(subjects):
        found = {method: explain_subject(subject, method, device) for method in methods}
        figures = {}
        if measure and number == 0 and len(subject.tokens.word_places()) > 1:
            figures = {
                name: faithfulness(each, rankings=5, device=device) for name, each in found.items()
            }
        targets.append(ExplainedTarget(found, figures))
    longest = max(subjects, key=lambda subject: len(subject.tokens))
    return ExplainedText(
        longest.tokens, roles_of(longest), tuple(targets), maps_of(longest, device, options)
    )


def roles_of(subject: Subject) -> tuple[str, ...]:
    """What each text of a subject is to its model."""
    if len(subject.tokens.texts) == 1:
        return ("Text",)
    if isinstance(subject, WritingSubject):
        return ("Source", "Written")
    asks = any(
        base.__name__.endswith("ForQuestionAnswering") for base in type(subject.model).__mro__
    )
    return ("Question", "Context") if asks else ("First text", "Second text")


def maps_of(subject: Subject, device: Any, options: dict[str, Any]) -> dict[str, AttentionMaps]:
    """The attention maps of a subject's texts."""
    first, second = subject.tokens.texts[0], subject.tokens.texts[-1]
    how = {"device": device, "max_length": options["max_length"]}
    model, tokenizer = subject.model, subject.tokenizer
    if isinstance(subject, SimilaritySubject):
        return {
            "first text": attention_maps(first, model, tokenizer, **how),
            "second text": attention_maps(second, model, tokenizer, **how),
        }
    if isinstance(subject, WritingSubject):
        return {"": attention_maps(first, model, tokenizer, written=options["written"], **how)}
    pair = options["text_pair"]
    return {"": attention_maps(first, model, tokenizer, text_pair=pair, **how)}
