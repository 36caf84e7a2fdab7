"""Parallel text: files of which line n of one is the translation of line n of the other.

Which of two is the source is told by their names, not by the order in which a pattern finds them.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from .formats import Rows
from .text_files import COMPRESSION, lines_of, open_text

SIDES = {
    "source": ("source", "src", "input", "article", "document"),
    "target": ("target", "tgt", "trg", "output", "summary", "highlights"),
}
PLAIN = (".txt", ".text")  # endings that come after a language's


def side_names(path: Path) -> list[str]:
    """The parts of a file's name that can tell its side, the likeliest first.

    >>> side_names(Path("europarl-v7.de-en.en.gz"))
    ['en', 'de', 'v7', 'europarl']
    """
    name = path.name.casefold()
    for ending in (*COMPRESSION, *PLAIN):
        name = name.removesuffix(ending)
    last = name.rpartition(".")[2]
    others = [part for part in re.split(r"[._-]+", name) if part and part != last]
    return list(dict.fromkeys([last, *reversed(others)]))


def order_pair(
    paths: Sequence[Path], languages: tuple[str | None, str | None], *, ordered: bool
) -> tuple[Path, Path, str]:
    """Source, target, and how they were told.

    Args:
        paths: two text files.
        languages: of source and target, as the caller names them.
        ordered: whether the caller named the files one by one, so that their order means something.

    Raises:
        ValueError: it cannot be told which file is the source.
    """
    first, second = paths
    if any(languages):
        swapped, how = by_language(first, second, languages), "by their languages"
    elif (found := by_side(first, second)) is not None:
        swapped, how = found, "by their names"
    elif ordered:
        swapped, how = False, "by the order in which they were given"
    else:
        words = " or ".join(f"--source_language {side_names(path)[0]}" for path in paths)
        raise ValueError(
            f"parallel text: it cannot be told whether {first.name} or {second.name} is the "
            f"source; say it with source_language=… ({words})"
        )
    return (second, first, how) if swapped else (first, second, how)


def by_language(first: Path, second: Path, languages: tuple[str | None, str | None]) -> bool:
    """Whether the second file is the source, where one language or both are named.

    Raises:
        ValueError: the files' names do not hold the languages, or not so that one fits better.
    """
    straight = [fits(first, languages[0]), fits(second, languages[1])]
    crossed = [fits(second, languages[0]), fits(first, languages[1])]
    given = [place for place, language in enumerate(languages) if language is not None]
    best = max(straight, crossed, key=sum)
    if sum(straight) == sum(crossed) or not all(best[place] for place in given):
        named = " and ".join(str(languages[place]) for place in given)
        raise ValueError(
            f"source_language and target_language must be in the names of the files, got {named} "
            f"for {first.name} and {second.name}"
        )
    return sum(crossed) > sum(straight)


def fits(path: Path, language: str | None) -> int:
    """2 where the name ends with this language, 1 where it holds it elsewhere, otherwise 0."""
    names = side_names(path)
    if language is None or language.casefold() not in names:
        return 0
    return 2 if names[0] == language.casefold() else 1


def by_side(first: Path, second: Path) -> bool | None:
    """Whether the second file is the source, by words such as `src` and `tgt`.

    None where the names do not say so.
    """
    ends = [side_names(path)[0] for path in (first, second)]
    if ends[0] in SIDES["source"] and ends[1] in SIDES["target"]:
        return False
    return True if ends[1] in SIDES["source"] and ends[0] in SIDES["target"] else None


def pair_up(paths: Sequence[Path]) -> list[list[Path]]:
    """Files two by two: as they stand, or, of more than two, those whose names differ in the end.

    Raises:
        ValueError: they do not come in pairs.
    """
    if len(paths) == 2:
        return [list(paths)]
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path in paths:
        name = path.name.removesuffix(path.suffix) if path.suffix in COMPRESSION else path.name
        groups.setdefault((path.parent, name.rpartition(".")[0]), []).append(path)
    if any(len(group) != 2 for group in groups.values()):
        names = ", ".join(path.name for path in paths)
        raise ValueError(
            f"parallel text must be files in pairs, such as a.en and a.de, got {names}"
        )
    return list(groups.values())


def read_parallel(source: Path, target: Path, encoding: str | None = None) -> Rows:
    """Rows with `source` and `target` of two text files.

    Raises:
        ValueError: they have unequal numbers of lines.
    """
    counts = []
    for path in (source, target):
        with open_text(path, encoding) as file:
            counts.append(sum(1 for _ in lines_of(file)))
    if counts[0] != counts[1]:
        found = f"{source.name} has {counts[0]:,} and {target.name} {counts[1]:,}"
        raise ValueError(f"parallel text must have equally many lines, but {found}")
    with open_text(source, encoding) as left, open_text(target, encoding) as right:
        for number, texts in enumerate(zip(lines_of(left), lines_of(right), strict=True), start=1):
            row = dict(zip(("source", "target"), texts, strict=True))
            yield f"{source.name} line {number}", row
