"""The tasks by their names."""

from typing import Any

from .base import Task
from .multiple_choice import MultipleChoice
from .question_answering import QuestionAnswering
from .sequence_classification import SequenceClassification
from .summarization import Summarization
from .token_classification import TokenClassification
from .translation import Translation

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        SequenceClassification(),
        TokenClassification(),
        QuestionAnswering(),
        MultipleChoice(),
        Translation(),
        Summarization(),
    )
}


def task_named(name: str) -> Task:
    """The task of a name.

    Raises:
        ValueError: there is none.
    """
    if name not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {name!r}")
    return TASKS[name]


def writing_task(config: dict[str, Any]) -> Task:
    """What an encoder-decoder does that bertlite has not trained.

    It translates, unless its config speaks of summaries alone, as published ones of BART do, or its
    family, as Pegasus.
    """
    told = config.get("task_specific_params") or {}
    speaks = bool(told) and all(name.startswith("summarization") for name in told)
    is_summarizer = speaks or config.get("model_type") == "pegasus"
    return TASKS["summarization" if is_summarizer else "translation"]
