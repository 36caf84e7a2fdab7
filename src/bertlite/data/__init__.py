"""Data of every task, from files or data sets of any usual shape to checked rows of one shape a
task.

    from bertlite.data import prepare

    data = prepare("sequence-classification", train="train.csv", validation="dev.csv")
    data.train[0]       # {"text": …, "label": 1}
    data.labels         # ["negative", "positive"]
    print(data)         # what was decided: columns, kind of task, labels, rows, rows left out
    print(data.problems)  # bad rows, with their lines

`prepare` says what it reads; `TaskData` is what it gives; `Problems` is the report of bad rows.
`docs/data.md` has an example of each task and format. What a task's rows are stands in its file of
`bertlite.tasks`; this room knows files, columns, labels and reports.
"""

from .preparing import TaskData, prepare
from .problems import Problems

__all__ = ["Problems", "TaskData", "prepare"]
