"""Explanations as plain text, for a terminal or a log."""

from .attribution import Attribution, WordScore
from .targets import shown

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
