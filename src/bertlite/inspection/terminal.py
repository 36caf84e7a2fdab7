"""Explanations as plain text, for a terminal or a log."""

from typing import TYPE_CHECKING

from .attribution import Attribution, WordScore
from .targets import shown

if TYPE_CHECKING:
    from .explanation import ExplainedText, Explanation

WIDTH = 24  # characters of the longest bar


def attribution_as_text(found: Attribution) -> str:
    """A line for each word, its score and a bar: to the right for the target, to the left against.

    >>> print(attribution_as_text(attribution))  # doctest: +SKIP
    negative: probability 95.5 % (integrated_gradients, log-odds)
      dull   +2.19                          |########################
      warm   -0.58                    ######|
    """
    words = found.words()
    largest = max((abs(word.score) for word in words), default=0.0) or 1.0
    width = max((len(word.word) for word in words), default=0)
    lines = [f"{found.target}: {shown(found.value, found.unit)} ({found.method}, {found.unit})"]
    if found.delta is not None and found.baseline_value is not None:
        lines.append(completeness(found))
    text = 0
    for word in words:
        if word.text != text:
            text = word.text
            lines.append("  --")
        lines.append(f"  {word.word:<{width}}  {word.score:+8.3f}  {bar(word, largest)}")
    return "\n".join(lines)


def completeness(found: Attribution) -> str:
    """How well scores add up, in words."""
    gap = found.value - (found.baseline_value or 0)
    total = sum(found.scores)
    verdict = "within 1 %" if found.is_complete else "NOT within 1 %"
    return (
        f"  scores sum to {total:+.3f} of {gap:+.3f}, the difference to a text of masks: {verdict} "
        f"({found.steps} steps)"
    )


def bar(word: WordScore, largest: float) -> str:
    """A bar from the middle, to the right above 0."""
    length = round(WIDTH * abs(word.score) / largest)
    return f"{' ' * WIDTH}|{'#' * length}" if word.score >= 0 else f"{'#' * length:>{WIDTH}}|"


def explanation_as_text(explanation: "Explanation") -> str:
    """Each text's first target by the first method, and how faithful every method is to it."""
    return "\n\n".join(text_as_text(text) for text in explanation.texts)


def text_as_text(text: "ExplainedText") -> str:
    """One text of an explanation."""
    first = text.targets[0]
    lines = [*text.tokens.texts, "", attribution_as_text(next(iter(first.attributions.values())))]
    if first.faithfulness:
        lines += ["", "  faithful? (in brackets: random words)"]
    for method, figures in first.faithfulness.items():
        lines.append(
            f"  {method:<22} comprehensiveness {figures.comprehensiveness:+.2f} "
            f"({figures.random_comprehensiveness:+.2f})  sufficiency {figures.sufficiency:+.2f} "
            f"({figures.random_sufficiency:+.2f})"
        )
    others = [target.name for target in text.targets[1:]]
    if others:
        lines.append(
            f"  also explained, on the page or by --target and --word: {', '.join(others)}"
        )
    return "\n".join(lines)
