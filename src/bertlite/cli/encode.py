"""The command `bertlite encode`."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from .command_parser import CommandParser

DESCRIPTION = """\
Vectors of the texts of a file, as bertlite.encode makes them: to one .npy file, or in shards that
several processes write. Files are those of predict: a text a line, or rows with a column of texts.
"""
EPILOG = """\
examples:
  bertlite encode sentence-transformers/all-MiniLM-L6-v2 texts.txt --output vectors.npy
  bertlite encode out/minilm rows.csv --column review --output vectors.npy
  torchrun --nproc-per-node 2 -m bertlite.cli.main encode out/minilm texts.txt --output-dir out/v
      each process writes its share of out/v/shard-000000.npy, ...; after a kill the same command
      does what is missing, and out/v/whole.json is there when nothing is

  python -c "import numpy, pathlib; print(numpy.concatenate(
      [numpy.load(f) for f in sorted(pathlib.Path('out/v').glob('shard-*.npy'))]).shape)"
"""


def main(argv: list[str]) -> int:
    """Run `bertlite encode`; a ValueError refuses, before any work, what does not fit."""
    given = make_parser().read(argv)
    check(given)
    import numpy as np

    from ..data.places import check_output_file
    from ..inference.encode import encode
    from ..inference.loading import BASE, load
    from .prediction_input import open_input
    from .shards import Shards, Share, described, described_model

    check_output_file("--output", given.output)
    share = Share.of_launcher()
    if given.output is not None and share.count > 1:
        raise ValueError(f"--output-dir must be given for {share.count} processes, got --output")
    columns = {} if given.column is None else {"text": given.column}
    rows = open_input("sequence-classification", given.file, columns, given.model, "stop")
    options = {
        name: getattr(given, name) for name in ("pooling", "prompt", "prompt_name", "max_length")
    }
    if given.no_normalize:
        options["normalize"] = False

    def vectors(chunk: list[Any]) -> np.ndarray:
        texts = ["" if each.row is None else each.row["text"] for each in chunk]
        found = encode(
            texts, given.model, batch_tokens=given.batch_tokens, device=given.device, **options
        )
        return np.asarray(found)

    load("encode", given.model, None, BASE, given.device)  # errors before any work
    if given.output is not None:
        save(Path(given.output), vectors(list(rows)))
        return 0
    shards = Shards(Path(given.output_dir), given.shard_rows, ".npy", share)
    of_files = {**described_model(given.model), **described(given.file)}
    shards.begin({"column": given.column, **of_files, **options})
    written = shards.write(rows, lambda path, chunk: save(path, vectors(chunk)))
    print(f"process {share.rank}: {len(written)} shards written", file=sys.stderr)
    return 0


def save(path: Path, vectors: Any) -> None:
    """Write vectors under the very name that is given."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # the file is there once it is whole
    try:
        with part.open("wb") as file:
            np.save(file, vectors)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def check(given: argparse.Namespace) -> None:
    """Refuse, with a ValueError, options that do not fit together."""
    if (given.output is None) == (given.output_dir is None):
        came = "neither" if given.output is None else "both"
        raise ValueError(f"encode takes --output or --output-dir, got {came}")
    if given.file == "-" and given.output_dir is not None:
        raise ValueError("file must be one that can be read again for --output-dir, got -")
    for name in ("shard_rows", "batch_tokens"):
        if getattr(given, name) < 1:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be at least 1, got {getattr(given, name)}")


def make_parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        prog="bertlite encode",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("model", help="folder or hub name of a model")
    add("file", help="a text a line, or rows; - reads stdin")
    add("--output", metavar="FILE", help="one .npy file of all vectors")
    add("--output-dir", metavar="FOLDER", help="shards, of which each process writes its share")
    add("--shard-rows", type=int, default=10_000, help="texts of a shard (default: %(default)s)")
    add("--column", help="of the texts, where the file has columns (default: guessed)")
    add("--pooling", help="mean, cls, max, ... (default: the model's own)")
    add("--no-normalize", action="store_true", help="keep the length of vectors as it is")
    add("--prompt", help="put before each text")
    add("--prompt-name", help="or the name of one of the model's prompts")
    add("--max-length", type=int, help="tokens a text is cut to")
    add("--batch-tokens", type=int, default=2048, help="at a time (default: %(default)s)")
    add("--device", help="where to run, such as cpu, cuda or cuda:1")
    return parser
