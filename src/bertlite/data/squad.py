"""SQuAD's nesting as one row a question."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .problems import BadRow, shown

FOUND = ("text", "answer_start")


def flatten_squad(path: Path, articles: list[Any]) -> Iterator[tuple[str, dict[str, Any] | BadRow]]:
    """SQuAD 1 and 2.

    Articles, paragraphs, questions, as one row a question, numbered through the file. Questions
    that are to be answered may lack `answers`, and any may lack `id`.

    Raises:
        ValueError: articles and paragraphs are not nested as SQuAD's.
    """
    number = 0
    for place, article in enumerate(articles, start=1):
        try:
            paragraphs = [(each["context"], list(each["qas"])) for each in article["paragraphs"]]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{path} must be nested as SQuAD is, got in article {place}: {error!r}"
            ) from error
        for context, questions in paragraphs:
            for question in questions:
                number += 1
                where = f"{path.name} question {number}"
                if isinstance(question, Mapping) and question.get("id") is not None:
                    where += f" (id {shown(str(question['id']))[1:-1]})"
                yield where, question_row(article, context, question)


def question_row(article: Any, context: Any, question: Any) -> dict[str, Any] | BadRow:
    """One question with its context, and with what it has of id and answers."""
    if not isinstance(question, Mapping):
        return BadRow("not a JSON object", shown(question))
    row = {
        "title": article.get("title", ""),
        "question": question.get("question"),
        "context": context,
    }
    if question.get("id") is not None:
        row["id"] = str(question["id"])
    answers = [] if question.get("is_impossible") else question.get("answers")
    if answers is None:
        return row
    if isinstance(answers, Mapping) and set(FOUND) <= set(answers):
        return {**row, "answers": {key: answers[key] for key in FOUND}}
    if not isinstance(answers, list) or not all(
        isinstance(each, Mapping) and set(FOUND) <= set(each) for each in answers
    ):
        return BadRow("answers are not {text, answer_start}", shown(answers))
    return {**row, "answers": {key: [answer[key] for answer in answers] for key in FOUND}}
