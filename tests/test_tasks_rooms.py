"""What is known of a task stands in its file of `bertlite.tasks`; the other rooms ask it."""

import ast
from pathlib import Path
from typing import ClassVar

import pytest

import bertlite
from bertlite.data import prepare
from bertlite.data.rows import TaskRows, text_feature, text_of
from bertlite.tasks import TASKS

SOURCE = Path(bertlite.__file__).parent
NAMES = set(TASKS)


def names_in(path):
    """Strings of the file's code, without docstrings, that are a task's name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in NAMES
    }


@pytest.mark.parametrize("room", ["data", "training", "hub"])
def test_no_other_room_knows_a_task_by_its_name(room):
    found = {path.name: names_in(path) for path in (SOURCE / room).glob("*.py")}
    assert not {name: tasks for name, tasks in found.items() if tasks}


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_each_task_stands_in_a_file_of_its_own(task):
    module = type(task).__module__
    assert module == type(task).rows.__module__
    assert module == f"bertlite.tasks.{task.name.replace('-', '_')}"


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_a_task_reads_what_its_rows_have(task):
    """What `predict` needs are canonical columns, or a text in the place of its words."""
    assert set(task.reads[0]) <= {*task.rows.inputs, *task.rows.required}
    task.check_row(dict.fromkeys(task.reads[0], "a"), 0)
    with pytest.raises(ValueError, match=f"rows must have {task.reads[0][0]}.*in row 3"):
        task.check_row({"nothing": "of the kind"}, 3)


class TitleRows(TaskRows):
    """A task that the package does not have: the title of a text."""

    task = "titles"
    names: ClassVar = {"text": ("text", "body"), "title": ("title", "head")}
    required = ("text",)
    target = "title"
    inputs = ("text",)

    def features(self):
        return {role: text_feature() for role in self.needed(self.require_labels)}

    def read(self, row):
        return {
            role: text_of(row, self.columns[role], role)
            for role in self.needed(self.require_labels)
        }


def test_rows_of_a_new_task_need_nothing_of_the_room_of_data():
    rows = [{"body": "It rained.", "head": "Rain"}]
    assert list(prepare(TitleRows, rows).train) == [{"text": "It rained.", "title": "Rain"}]
    with pytest.raises(ValueError, match="columns: no column for title was found"):
        prepare(TitleRows, [{"body": "It rained."}])
