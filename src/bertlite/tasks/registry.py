"""The tasks by their names."""

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
