"""Run a benchmark by its name, from the root of the repository.

`python -m benchmarks encoder --help`.
"""

import ast
import runpy
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
SHORT = {"encoder": "encoder_inference", "masked-lm": "masked_lm_step"}


def scripts() -> dict[str, Path]:
    """Every script that can be run, by name: those with a `main` of their own."""
    short = {module: name for name, module in SHORT.items()}
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        if path.name.startswith("__") or path.stem == "encoder_child":
            continue
        if '__name__ == "__main__"' in path.read_text():
            found[short.get(path.stem, path.stem.replace("_", "-"))] = path
    return found


def summary(path: Path) -> str:
    """The first sentence of a script's docstring, without importing it."""
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".") + "."


def main(arguments: list[str]) -> None:
    """Run the script named first with the rest of the arguments; names may have underscores too."""
    known = scripts()
    if not arguments or arguments[0] in ("-h", "--help"):
        print((__doc__ or "").strip() + "\n")
        for name, path in known.items():
            print(f"  {name:22s} {summary(path)}")
        return
    name = arguments[0].replace("_", "-")
    by_file = {path.stem.replace("_", "-"): path for path in known.values()}
    path = known.get(name) or by_file.get(name)
    if path is None:
        raise SystemExit(f"error: benchmark must be one of {list(known)}, got {arguments[0]!r}")
    sys.path.insert(0, str(FOLDER))  # scripts import their neighbours as `from common import ...`
    sys.argv = [str(path), *arguments[1:]]
    runpy.run_path(str(path), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
