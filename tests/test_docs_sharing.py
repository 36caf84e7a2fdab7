"""The Python of docs/sharing.md runs, and its commands are ones that there are."""

import re
import shlex
from pathlib import Path

from bertlite.cli import card, check, push

PAGE = Path(__file__).parent.parent / "docs/sharing.md"
PARSERS = {"card": card.make_parser, "check": check.make_parser, "push": push.make_parser}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_code_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    for block in blocks("python"):
        exec(compile(block, str(PAGE), "exec"), namespace)
    printed = capsys.readouterr().out
    assert "bert ['BertForSequenceClassification']\nBertForSequenceClassification" in printed
    assert printed.endswith("[]\n")
    assert (tmp_path / "with-code/modeling_bertlite.py").is_file()
    assert not (tmp_path / "plain/modeling_bertlite.py").exists()


def test_the_commands_are_understood():
    found = 0
    for block in blocks("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            assert words[0] == "bertlite"
            PARSERS[words[1]]().parse_args(words[2:])
            found += 1
    assert found > 5
