"""`attribute`: which words a prediction leans on, by one of several methods.

Shapes: `T` tokens.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ..inference.loading import check_counts, check_number
from .asking import find_subjects
from .gradients import attention_times_gradient, gradient_times_input
from .integrated_gradients import PathIntegral, integrated_gradients
from .loading import open_model
from .occlusion import occlusion, surrogate
from .subjects import Subject, frozen
from .targets import Wanted, shown
from .tokens import TextTokens


@dataclass(frozen=True)
class WordScore:
    """What one word adds to a prediction.

    Attributes:
        word: as it stands in the text.
        start: its first character, in its own text; `end` is the one behind its last.
        end: see `start`.
        text: which of the texts it stands in, from 0.
        score: the sum of its tokens' scores.
    """

    word: str
    start: int
    end: int
    text: int
    score: float


@dataclass(frozen=True)
class Attribution:
    """How much each token adds to one number that a model gives for a text.

    Attributes:
        tokens: of the text, the pair, or the source and what was written so far.
        scores: of each token, in the target's unit; above 0 for it, below 0 against it.
        method: a name of `METHODS`.
        target: what is explained, such as a label.
        unit: of value and scores: "log-odds", "score" or "cosine".
        value: the target's value for the text.
        baseline_value: for a text that says nothing; None where the method compares with none.
        delta: how far the scores' sum is from `value - baseline_value`, where they should be equal.
        steps: of integrated gradients.
        seconds: that it took.
        subject: model, text and target, for `faithfulness`.
    """

    tokens: TextTokens
    scores: tuple[float, ...]
    method: str
    target: str
    unit: str
    value: float
    baseline_value: float | None = None
    delta: float | None = None
    steps: int | None = None
    seconds: float = 0.0
    subject: Subject | None = field(default=None, repr=False, compare=False)

    def words(self) -> list[WordScore]:
        """The scores of words, each the sum over its tokens, in the order of the text."""
        found = []
        for places in self.tokens.word_places():
            start, end = self.tokens.characters(places)
            text = self.tokens.texts_of[places[0]] or 0
            score = sum(self.scores[place] for place in places)
            found.append(WordScore(self.tokens.texts[text][start:end], start, end, text, score))
        return found

    @property
    def is_complete(self) -> bool | None:
        """Whether scores sum to `value - baseline_value` within 1 %; None where they need not."""
        if self.delta is None or self.baseline_value is None:
            return None
        return abs(self.delta) <= 0.01 * abs(self.value - self.baseline_value)

    def __str__(self) -> str:
        from .terminal import attribution_as_text

        return attribution_as_text(self)

    def plot(self, axes: Any = None) -> Any:
        """Bars of the words, by matplotlib; see `bertlite.inspection.drawing`."""
        from .drawing import plot_attribution

        return plot_attribution(self, axes)

    def __repr__(self) -> str:
        return f"<Attribution of {self.target!r} by {self.method}: {shown(self.value, self.unit)}>"


def by_integrated_gradients(subject: Subject, **options: Any) -> PathIntegral:
    """See `integrated_gradients`; `baseline` as in `Subject.baseline`."""
    baseline = subject.baseline(options.pop("baseline", "mask"))
    return integrated_gradients(subject, subject.embed(subject.ids()), baseline, **options)


# From a subject and options to scores (T,), or a path integral that holds them.
METHODS: dict[str, Callable[..., Any]] = {
    "integrated_gradients": by_integrated_gradients,
    "gradient_x_input": gradient_times_input,
    "attention_x_gradient": attention_times_gradient,
    "occlusion": occlusion,
    "lime": lambda subject, **options: surrogate(subject, "lime", **options),
    "kernel_shap": lambda subject, **options: surrogate(subject, "kernel_shap", **options),
}
OPTIONS = {
    "integrated_gradients": ("baseline", "steps", "tolerance", "max_steps", "batch_tokens"),
    "gradient_x_input": (),
    "attention_x_gradient": (),
    "occlusion": ("unit", "span", "batch_tokens"),
    "lime": ("samples", "seed", "batch_tokens"),
    "kernel_shap": ("samples", "seed", "batch_tokens"),
}


def attribute(
    text: str,
    model: Any,
    tokenizer: Any = None,
    *,
    text_pair: str | None = None,
    written: str | None = None,
    target: str | int | None = None,
    word: str | int | None = None,
    method: str = "integrated_gradients",
    max_length: int | None = None,
    device: torch.device | str | int | None = None,
    **options: Any,
) -> Attribution:
    """Which tokens of a text a prediction leans on.

    What can be explained, by the model's head:

    - sequence classification: a label or score, `target`; None: the one that is highest;
    - token classification: the label `target` (None: the model's) of `word` (None: of the first
      that is no "O");
    - question answering, with the question as `text` and the context as `text_pair`: the answer's
      `target` "start" or "end", at the model's answer or at `word` of the context;
    - masked LM: the token `target` (None: the likeliest) in the place of a mask, the first one or
      number `word`;
    - an encoder-decoder: the token `word`, by number or text, of what is `written`, or generated;
      the tokens are those of the source and of what was written before;
    - no head: the cosine of `encode`'s vectors of `text` and `text_pair`.

    Args:
        text: as above.
        model: a folder, a hub name or a loaded model.
        tokenizer: a tokenizer, or where to load one; None: that of the model's folder.
        text_pair: as above.
        written: as above.
        target: as above.
        word: as above, by its text or its number from 0.
        method: a name of `METHODS`.
        max_length: cut the text to so many tokens; None: one that is too long is refused.
        device: where to run; None: where the model is.
        options: of `integrated_gradients` (`baseline`, `steps`, `tolerance`, `max_steps`), of
            `occlusion` (`unit`, `span`), of LIME and KernelSHAP (`samples`, `seed`); of all,
            `batch_tokens`.

    Raises:
        ValueError: no text, one that is too long, no such model, target, word, method or option.
    """
    check_method(method, options)
    model, tokenizer = open_model("attribute", model, tokenizer, device)
    subjects = find_subjects(
        model,
        tokenizer,
        text,
        text_pair=text_pair,
        written=written,
        wanted=Wanted(target, word),
        max_length=max_length,
        device=device,
    )
    return explain_subject(subjects[0], method, device, **options)


def explain_subject(
    subject: Subject, method: str, device: Any = None, **options: Any
) -> Attribution:
    """The attribution of one subject; arguments as of `attribute`."""
    began = time.perf_counter()
    with frozen(subject.model, device):
        found = METHODS[method](subject, **options)
        if not isinstance(found, PathIntegral):
            with torch.no_grad():
                value = float(subject(subject.embed(subject.ids())[None]))
    known: dict[str, Any] = {}
    if isinstance(found, PathIntegral):
        value = found.value
        known = {
            "baseline_value": found.baseline_value,
            "delta": found.delta,
            "steps": found.steps,
        }
        found = found.scores
    return Attribution(
        subject.tokens,
        tuple(found.float().tolist()),
        method,
        subject.target.name,
        subject.target.unit,
        value,
        seconds=time.perf_counter() - began,
        subject=subject,
        **known,
    )


def check_method(method: str, options: dict[str, Any]) -> None:
    """Refuse, with a ValueError, a method or options that there are not, before any work."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    for name in options:
        if name not in OPTIONS[method]:
            known = ", ".join(OPTIONS[method]) or "none"
            raise ValueError(f"{method} takes the options {known}, got {name}")
    counts = ("steps", "max_steps", "batch_tokens", "span", "samples")
    check_counts(1, **{name: options[name] for name in counts if name in options})
    if options.get("tolerance") is not None:
        check_number("tolerance", options["tolerance"], 0)
    if options.get("unit", "word") not in ("word", "token"):
        raise ValueError(f"unit must be 'word' or 'token', got {options['unit']!r}")
