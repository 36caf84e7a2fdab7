"""Answers from a trained model in one call: `answer`, `classify`, `tag`, `translate`, `summarize`.

Each takes one text or many, sorts them by length inside so that little padding is computed, and
returns results in the order given: one result for one text, a list for a list. `model` is a folder,
a hub name or a loaded model; a model that is given loaded comes back as it was, in the mode and on
the device that it had.
"""

from .question_answering import answer
from .sequence_classification import classify
from .sequence_to_sequence import summarize, translate
from .token_classification import tag

__all__ = ["answer", "classify", "summarize", "tag", "translate"]
