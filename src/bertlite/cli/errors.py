"""Errors that a user can do something about, in one line; all others keep their traceback."""

from collections.abc import Iterator

# Modules whose errors are of the network or of the hub.
NETWORK = ("huggingface_hub", "requests", "urllib3", "httpx", "httpcore", "httpx2", "httpcore2")
# What libraries say that write files without Python's own errors, in the words of the system.
DISK = ("No space left on device", "Disk quota exceeded", "Read-only file system", "(os error ")
MEMORY = ("OutOfMemoryError", "MemoryError")


def in_one_line(error: BaseException) -> str | None:
    """What is wrong, and what helps; None for a fault of the program.

    >>> in_one_line(OSError(28, "No space left on device", "out/model.safetensors"))
    'out/model.safetensors: No space left on device'
    >>> in_one_line(KeyError("a")) is None
    True
    """
    for each in chain(error):
        found = line_of(each)
        if found is not None:
            return " ".join(found.split())
    return None


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def line_of(error: BaseException) -> str | None:
    """As `in_one_line`, of one error by itself."""
    said = str(error)
    if isinstance(error, ValueError) or type(error).__name__.startswith("StrictDataclass"):
        return said  # the latter: a field of a config.json of another type than it must be
    if type(error).__module__.partition(".")[0] in NETWORK or isinstance(error, ConnectionError):
        return f"the network or the hub could not be reached, give a local folder or file: {said}"
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror or said}"
    if isinstance(error, ModuleNotFoundError) or "install" in said and is_of_packages(error):
        return f"a package is missing: {said}"
    if type(error).__name__ in MEMORY or "can't allocate memory" in said:
        return f"out of memory, try smaller batches: {said}"
    return said if any(words in said for words in DISK) else None


def is_of_packages(error: BaseException) -> bool:
    """Whether an error is of those by which libraries say that another is missing."""
    return isinstance(error, ImportError | RuntimeError)
