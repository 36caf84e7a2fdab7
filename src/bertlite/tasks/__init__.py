"""From data to a trained model that answers, one module a family of tasks behind the registry
`TASKS`.

>>> from bertlite.tasks import TASKS
>>> sorted(TASKS)[:2]
['multiple-choice', 'question-answering']
"""

from .base import Task, TaskOptions
from .registry import TASKS

__all__ = ["TASKS", "Task", "TaskOptions"]
