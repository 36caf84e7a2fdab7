"""Where rows come from.

Local files, folders, data sets of the hub, what is in memory; all as one `Source`.
"""

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from .conll import holds_sentences
from .formats import LOOKS_LIKE_FILE, READERS, Row, Rows, read_lines
from .in_memory import is_columns, is_rows, is_table, read_list, read_table, rows_of_columns
from .parallel import order_pair, pair_up, read_parallel, side_names
from .problems import BadRow, has_surrogates, shown
from .text_files import holds_text, suffix_of

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
TABLES = (".tsv", ".tab")  # whose lines may be words as well
PEEKED = 100  # rows that are looked at to learn the columns


@dataclass(frozen=True)
class Source:
    """Rows that can be read again and again.

    Attributes:
        name: of the files or of the data set, for messages.
        parts: one call a file; each gives that file's rows with their places.
        features: of `datasets`, where known: they hold the names of labels.
        notes: what was decided about it, a sentence each.
        sides: endings of the names of two text files, source and target.
    """

    name: str
    parts: tuple[Callable[[], Rows], ...]
    features: Any = None
    notes: tuple[str, ...] = ()
    sides: tuple[str, str] | None = None

    def __iter__(self) -> Rows:
        for part in self.parts:
            yield from part()

    def peek(self) -> list[Row]:
        """The first rows that could be read."""
        return [row for _, row in islice(iter(self), PEEKED) if not isinstance(row, BadRow)]

    def columns(self) -> list[str]:
        """Names of the columns, in their order.

        Raises:
            ValueError: there is no row to learn them from.
        """
        if self.features is not None:
            return list(self.features)
        names = list(dict.fromkeys(str(name) for row in self.peek() for name in row))
        if broken := [name for name in names if has_surrogates(name) or "\0" in name]:
            raise ValueError(
                f"{self.name} must name its columns in the encoding in which it is read, got "
                f"{shown(broken[0])}; give encoding=… (--encoding …), such as cp1252"
            )
        if not names:
            bad = next(
                (f"; first row: {where}: {row}" for where, row in self if isinstance(row, BadRow)),
                "",
            )
            raise ValueError(f"{self.name} must hold rows with named columns, got none{bad}")
        return names


@dataclass(frozen=True)
class Opening:
    """How files and data sets are opened.

    Attributes:
        parallel: whether two text files of equally many lines are rows.
        plain_suffix: the format of a text file whose ending tells nothing; None: there is no such.
        config: of a data set of the hub.
        streaming: read a data set of the hub as it comes, not whole to disk first.
        encoding: of text files; None: UTF-8, or what their first bytes say.
        languages: of source and target.
        line_column: the column that a line of a plain text file is; None: such files are not read.
    """

    parallel: bool = False
    plain_suffix: str | None = None
    config: str | None = None
    streaming: bool = False
    encoding: str | None = None
    languages: tuple[str | None, str | None] = (None, None)
    line_column: str | None = None


def open_source(data: Any, *, split: str, how: Opening) -> Source:
    """A source of one split.

    Args:
        data: a path, a list of paths, a pattern such as `data/*.csv`, two text files, the name of a
            data set of the hub, a `datasets.Dataset` or `IterableDataset`, a data frame, a list of
            dictionaries, a dictionary of columns, or a `Source`.
        split: "train", "validation" or "test".
        how: what the task and the caller say of it.

    Raises:
        ValueError: it is none of these, a file is missing, or its format is not known.
    """
    if isinstance(data, (list, tuple)) and len(data) == 1 and isinstance(data[0], (str, Path)):
        data = data[0]
    if isinstance(data, Source):
        return data
    if isinstance(data, (str, Path)) and not is_local(str(data)):
        return hub_source(str(data), split, how)
    if (held := in_memory(data, split)) is not None:
        return held
    return open_files(data, split, how)


def in_memory(data: Any, split: str) -> Source | None:
    """A source of what is in memory; None where that is no rows."""
    import datasets

    place = f"{split} row"
    if isinstance(data, (datasets.Dataset, datasets.IterableDataset)):
        part = partial(read_list, data, place)
        return Source(f"the {split} data set", (part,), data.features)
    if is_table(data):
        return Source(f"the {split} table", (partial(read_table, data, place),))
    if is_columns(data):
        data = rows_of_columns(data, split)
    if is_rows(data):
        return Source(f"the {split} rows", (partial(read_list, data, place),))
    return None


def open_files(data: Any, split: str, how: Opening) -> Source:
    """A source of local files; errors as of `open_source`."""
    paths = find_paths(data, split)
    if how.parallel and len(paths) > 1 and not any(suffix_of(path) in READERS for path in paths):
        return open_parallel(paths, how, ordered=means_order(data, paths))
    parts = tuple(reader_of(path, how) for path in paths)
    notes = (f"{split} is read from {', '.join(path.name for path in paths)}",)
    return Source(", ".join(path.name for path in paths), parts, notes=notes)


def means_order(data: Any, paths: list[Path]) -> bool:
    """Whether the order of files says which is the source.

    Not that of a pattern, which a shell may have put in the place of a list: it is alphabetical.
    """
    if isinstance(data, (str, Path)):
        return bool(two_files(str(data)))
    return isinstance(data, tuple) or paths != sorted(paths)


def open_parallel(paths: Sequence[Path], how: Opening, *, ordered: bool) -> Source:
    """A source of text files in pairs; errors as of `parallel.order_pair`."""
    parts, names, notes = [], [], []
    sides = None
    for pair in pair_up(paths):
        source, target, told = order_pair(pair, how.languages, ordered=ordered)
        parts.append(partial(read_parallel, source, target, how.encoding))
        names.append(f"{source.name} and {target.name}")
        notes.append(f"source is {source.name} and target {target.name}, told {told}")
        sides = side_names(source)[0], side_names(target)[0]
    return Source(", ".join(names), tuple(parts), notes=tuple(notes), sides=sides)


def open_sources(dataset: Any, how: Opening) -> dict[str, Source]:
    """The splits of a whole data set.

    Of the hub, in memory, or a folder with `train.…`, `validation.…`, `test.…`.

    Raises:
        ValueError: there is no split of a usual name.
    """
    found: dict[str, Any]
    if isinstance(dataset, dict):  # DatasetDict and IterableDatasetDict too
        found = dict(dataset)
    elif not isinstance(dataset, (str, Path)):
        raise ValueError(
            "dataset must be a folder, the name of a data set of the hub or a dictionary of "
            f"splits, got {type(dataset).__name__}; give rows as train"
        )
    elif Path(dataset).is_dir():
        found = open_folder(Path(dataset), how)
    else:
        found = dict(load_hub("dataset", str(dataset), how))
    named = usual_splits(found)
    if all(data is None for data in named.values()):
        raise ValueError(
            f"dataset must have a split train, validation or test, got {', '.join(found) or 'none'}"
        )
    return {
        split: open_source(data, split=split, how=how)
        for split, data in named.items()
        if data is not None
    }


def usual_splits(found: dict[str, Any]) -> dict[str, Any]:
    """train, validation and test, whatever they are called; None where there is no such split."""
    return {
        split: next((found[name] for name in names if name in found), None)
        for split, names in SPLITS.items()
    }


def open_folder(folder: Path, how: Opening) -> dict[str, Any]:
    """The splits of a folder.

    Saved by `datasets`, files such as `train.csv`, or laid out as a data set of the hub.
    """
    import datasets

    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        loaded = datasets.load_from_disk(folder)
        return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    found: dict[str, Any] = {}
    usual = {name for names in SPLITS.values() for name in names}
    for path in sorted(folder.iterdir()):
        split = path.name.split(".")[0]
        if suffix_of(path) in READERS or (how.parallel and split in usual):
            found.setdefault(split, []).append(path)
    if how.config is None and any(data is not None for data in usual_splits(found).values()):
        return found
    return dict(load_hub("dataset", str(folder), how))


def is_local(name: str) -> bool:
    """Whether a name is a path or a pattern of paths, not a data set of the hub."""
    return bool(
        glob.has_magic(name)
        or LOOKS_LIKE_FILE.search(name)
        or Path(name).exists()
        or two_files(name)
    )


def two_files(name: str) -> list[Path]:
    """The two files of "train.en train.de" or "train.en,train.de".

    None where that is not what the name says.
    """
    paths = [Path(part.strip()) for part in name.replace(",", " ").split()]
    return paths if len(paths) == 2 and all(path.is_file() for path in paths) else []


def find_paths(data: Any, split: str) -> list[Path]:
    """The files that are meant, each of which exists.

    Raises:
        ValueError: a file is missing, a pattern finds none, or the argument is of another type.
    """
    named = [data] if isinstance(data, (str, Path)) else data
    if (
        not isinstance(named, (list, tuple))
        or not all(isinstance(name, (str, Path)) for name in named)
        or not named
    ):
        came = type(data).__name__
        if isinstance(named, (list, tuple)) and named:
            came += f" of {type(named[0]).__name__}"
        raise ValueError(
            f"{split} must be a path, paths, a data set, a data frame or dictionaries, got {came}"
        )
    paths: list[Path] = []
    for name in map(str, named):
        if Path(name).is_file():
            paths.append(Path(name))
        elif found := two_files(name) or [
            Path(path) for path in sorted(glob.glob(name)) if Path(path).is_file()
        ]:
            paths += found
        else:
            hint = " (a folder: give it as `dataset`)" if Path(name).is_dir() else ""
            raise ValueError(f"{split} must be a file that exists, got {name}{hint}")
    return paths


def reader_of(path: Path, how: Opening) -> Callable[[], Rows]:
    """A call that reads a file, by its format.

    Raises:
        ValueError: the format is not known.
    """
    suffix = suffix_of(path)
    if how.plain_suffix is not None and suffix in TABLES and holds_sentences(path, how.encoding):
        suffix = how.plain_suffix
    if suffix in READERS:
        return partial(READERS[suffix], path, how.encoding)
    if how.plain_suffix is not None and suffix in (".txt", ""):
        return partial(READERS[how.plain_suffix], path, how.encoding)
    if how.line_column is not None and holds_text(path):
        return partial(read_lines, path, how.line_column, how.encoding)
    known = ", ".join(READERS)
    pair = "; or two text files of equally many lines" if how.parallel else ""
    raise ValueError(
        f"{path} must be of a known format: {known} (or one of these with .gz, .bz2 or .xz){pair}"
    )


def hub_source(name: str, split: str, how: Opening) -> Source:
    """One split of a data set of the hub; `name:split` chooses another than the usual one."""
    name, _, chosen = name.partition(":")
    found = load_hub(split, name, how)
    for candidate in [chosen] if chosen else SPLITS[split]:
        if candidate in found:
            return open_source(found[candidate], split=split, how=how)
    raise ValueError(
        f"{split}: {name} must have a split {chosen or split}, it has {', '.join(found)}"
    )


def load_hub(argument: str, name: str, how: Opening) -> Any:
    """All splits of a data set of the hub, or of a folder that is laid out as one.

    Args:
        argument: that names it, for the error.

    Raises:
        ValueError: it cannot be loaded; the message says why, and that no local file has this name
            either.
    """
    import datasets

    try:
        return datasets.load_dataset(name, how.config, streaming=how.streaming)
    except (
        Exception
    ) as error:  # the hub's client raises many kinds: missing, gated, offline, no such config
        reason = str(error).strip().split("\n")[0]
        said = (
            f"{argument}: {name!r} is no local file, and no data set that could be loaded: {reason}"
        )
        raise ValueError(said) from error
