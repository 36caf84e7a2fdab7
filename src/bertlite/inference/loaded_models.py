"""Models and tokenizers that calls by a folder's name have loaded, kept for the next call.

Loading happens in one thread at a time: the library's own loading changes state of the whole
process. What is kept is found again only while every file of the folder is what it was.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from transformers.utils import cached_file


class LoadedModels:
    """The last few things that were loaded, by what they were loaded from.

    Args:
        most: how many are kept; the one that was not used for longest goes first.
    """

    def __init__(self, most: int):
        self.most = most
        self.kept: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, load: Callable[[], Any]) -> Any:
        """What was loaded under `key`, or what `load` gives, one thread at a time."""
        with LOADING:
            if key in self.kept:
                self.kept.move_to_end(key)
                return self.kept[key]
            made = load()
            self.kept[key] = made
            while len(self.kept) > self.most:
                self.kept.popitem(last=False)
            return made

    def clear(self) -> None:
        """Let go of everything."""
        with LOADING:
            self.kept.clear()


def local_folder(source: str) -> str:
    """The folder of a source: itself, or that of a hub name's present commit on this disk."""
    if os.path.isdir(source):
        return source
    for name in ("config.json", "tokenizer_config.json"):
        try:
            found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
        except (OSError, ValueError):  # whoever loads it says what is wrong
            continue
        if found is not None:
            return os.path.dirname(found)
    return source


def version_of(folder: str) -> Hashable:
    """What is equal for two looks at a folder only where its files are the same."""
    files = []
    if os.path.isdir(folder):
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file():
                    stat = entry.stat()
                    files.append((entry.name, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return os.path.realpath(folder), tuple(sorted(files))


LOADING = threading.RLock()
MODELS = LoadedModels(most=2)
TOKENIZERS = LoadedModels(most=8)  # one a thread: a tokenizer can cut and pad for one at a time
