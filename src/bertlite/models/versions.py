"""Which releases of transformers this code was tested with.

A copy of the code that travels with a checkpoint meets whatever is installed where it is loaded. In
another release it might fill other tensors or compute something else, without a word: it says so
before anything is computed. The installed package has its versions from `pyproject.toml`.
"""

import transformers

# Minor releases that `make travel` has passed with, the oldest first.
TESTED_TRANSFORMERS = ("5.21", "5.22", "5.23", "5.24")


def check_transformers(version: str) -> None:
    """Refuse a release that the code was not tested with.

    Raises:
        ImportError: another one, with what can be done.
    """
    if ".".join(version.split(".")[:2]) in TESTED_TRANSFORMERS:
        return
    oldest, newest = TESTED_TRANSFORMERS[0], TESTED_TRANSFORMERS[-1]
    major, minor = newest.split(".")
    raise ImportError(
        f"the code beside these weights was tested with transformers {oldest} to {newest}, and "
        f"{version} is installed, with which it may compute something else. Either: "
        f"pip install 'transformers>={oldest},<{major}.{int(minor) + 1}'; or pip install bertlite, "
        "import it and leave out trust_remote_code; or, where model_type in config.json is one of "
        "transformers' own, such as bert, leave out trust_remote_code"
    )


if __name__.startswith("transformers_modules."):
    check_transformers(transformers.__version__)
