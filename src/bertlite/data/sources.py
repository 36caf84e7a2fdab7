"""Where rows come from.

Local files, folders, data sets of the hub, what is in memory; all as one `Source`.
"""

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from .formats import LOOKS_LIKE_FILE, READERS, Row, Rows, read_parallel, suffix_of
from .problems import BadRow

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
PEEKED = 100  # rows that are looked at to learn the columns


@dataclass(frozen=True)
class Source:
    """Rows that can be read again and again.

    Attributes:
        name: of the files or of the data set, for messages.
        parts: one call a file; each gives that file's rows with their places.
        features: of `datasets`, where known: they hold the names of labels.
    """

    name: str
    parts: tuple[Callable[[], Rows], ...]
    features: Any = None

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
        names = list(dict.fromkeys(name for row in self.peek() for name in row))
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
    """

    parallel: bool = False
    plain_suffix: str | None = None
    config: str | None = None
    streaming: bool = False


def open_source(data: Any, *, split: str, how: Opening) -> Source:
    """A source of one split.

    Args:
        data: a path, a list of paths, a pattern such as `data/*.csv`, two text files, the name of a
            data set of the hub, a `datasets.Dataset` or `IterableDataset`, a list of dictionaries,
            or a `Source`.
        split: "train", "validation" or "test".
        how: what the task and the caller say of it.

    Raises:
        ValueError: it is none of these, a file is missing, or its format is not known.
    """
    import datasets

    if isinstance(data, Source):
        return data
    if isinstance(data, (datasets.Dataset, datasets.IterableDataset)):
        return Source(
            f"the {split} data set", (partial(read_dataset, data, f"{split} row"),), data.features
        )
    if is_rows(data):
        return Source(f"the {split} rows", (partial(read_list, data, f"{split} row"),))
    if isinstance(data, (str, Path)) and not is_local(str(data)):
        return hub_source(str(data), split, how)
    paths = find_paths(data, split)
    if len(paths) == 2 and how.parallel and not any(suffix_of(path) in READERS for path in paths):
        return Source(" and ".join(path.name for path in paths), (partial(read_parallel, *paths),))
    return Source(
        ", ".join(path.name for path in paths), tuple(partial(reader_of(p, how), p) for p in paths)
    )


def open_sources(dataset: Any, how: Opening) -> dict[str, Source]:
    """The splits of a whole data set.

    Of the hub, in memory, or a folder with `train.…`, `validation.…`, `test.…`.

    Raises:
        ValueError: there is no split of a usual name.
    """
    found: dict[str, Any]
    if isinstance(dataset, dict):  # DatasetDict and IterableDatasetDict too
        found = dict(dataset)
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
    for path in sorted(folder.iterdir()):
        if suffix_of(path) in READERS:
            found.setdefault(path.name.split(".")[0], []).append(path)
    if how.config is None and any(data is not None for data in usual_splits(found).values()):
        return found
    return dict(load_hub("dataset", str(folder), how))


def is_rows(data: Any) -> bool:
    """Whether these are dictionaries in memory."""
    return (
        isinstance(data, Sequence)
        and not isinstance(data, str)
        and all(isinstance(row, dict) for row in data)
    )


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
        raise ValueError(
            f"{split} must be a path, paths, a data set or dictionaries, got {type(data).__name__}"
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


def reader_of(path: Path, how: Opening) -> Callable[[Path], Rows]:
    """The reader for a file's format.

    Raises:
        ValueError: the format is not known.
    """
    suffix = suffix_of(path)
    if suffix in READERS:
        return READERS[suffix]
    if how.plain_suffix is not None and suffix in (".txt", ""):
        return READERS[how.plain_suffix]
    known = ", ".join(READERS)
    pair = "; or two text files of equally many lines" if how.parallel else ""
    raise ValueError(
        f"{path} must be of a known format: {known} (or one of these with .gz, .bz2 or .xz){pair}"
    )


def read_list(rows: Sequence[Row], place: str) -> Rows:
    """Dictionaries in memory, numbered from 1."""
    for number, row in enumerate(rows, start=1):
        yield f"{place} {number}", row


def read_dataset(dataset: Any, place: str) -> Iterator[tuple[str, Row | BadRow]]:
    """Rows of a data set, numbered from 1."""
    for number, row in enumerate(dataset, start=1):
        yield f"{place} {number}", row


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
