"""The command `bertlite serve`."""

import sys

from .command_parser import CommandParser

DESCRIPTION = """\
Answer requests over HTTP with trained models: POST /embed, /classify, /tag, /answer, /translate,
/summarize and /fill-mask, and /v1/embeddings for clients of OpenAI's interface. Requests that come
at the same time go through a model together. A page to try it in is at /, a description at /docs.
It needs more packages: pip install "bertlite[serve]"
"""
EPILOG = """\
examples:
  bertlite serve out/sentiment
      one model, on http://127.0.0.1:8000
  bertlite serve vectors=sentence-transformers/all-MiniLM-L6-v2 sentiment=out/demo --port 8080
      two models; requests name one where several could answer
  bertlite serve out/sentiment --host 0.0.0.0 --api-key-file keys.txt
      for other machines, with a key a line in keys.txt

  curl http://127.0.0.1:8000/classify -d '{"texts": ["A warm, funny film."]}'

SIGTERM and Ctrl-C finish what is under way. /health and /ready are for whoever watches it, /metrics
for Prometheus. docs/serving.md explains the rest.
"""


def main(argv: list[str]) -> int:
    """Run `bertlite serve`; a ValueError refuses what cannot be served, before it listens."""
    given = make_parser().read(argv)
    try:
        import fastapi  # noqa: F401
        import fastapi_offline  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f'serving needs {error.name}: install it with pip install "bertlite[serve]"'
        ) from error
    from transformers.utils.logging import disable_progress_bar

    from ..serving.catalog import named_folders
    from ..serving.options import ServingOptions
    from ..serving.server import Place, serve

    disable_progress_bar()
    folders = named_folders(given.models)
    names = ("batch_tokens", "queue", "timeout", "max_bytes", "max_texts", "max_tokens", "dtype")
    options = ServingOptions(**{name: getattr(given, name) for name in names})
    place = Place(given.host, given.port, given.api_key_file, given.threads)
    serve(folders, options, place, say)
    return 0


def say(line: str) -> None:
    """A line for the user."""
    print(line, file=sys.stderr, flush=True)


def make_parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        prog="bertlite serve",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("models", nargs="+", metavar="FOLDER", help="of a model, or NAME=FOLDER; one or more")
    add("--host", default="127.0.0.1", help="where to listen (default: %(default)s, this machine)")
    add("--port", type=int, default=8000, help="0: any that is free (default: %(default)s)")
    add("--api-key-file", metavar="FILE", help="a key a line: requests must carry one of them")
    add("--threads", type=int, help="of the models (default: as many as torch chooses)")
    add(
        "--dtype",
        default="fp32",
        choices=["fp32", "bf16", "int8", "none"],
        help="of the packed weights, as bertlite.optimize; none packs nothing (default: fp32)",
    )
    add_limits(parser)
    return parser


def add_limits(parser: CommandParser) -> None:
    """What a request may ask for, and how many may wait."""
    add = parser.add_argument_group("limits").add_argument
    shown = "(default: %(default)s)"
    add("--batch-tokens", type=int, default=2048, help=f"of a pass through a model {shown}")
    add("--queue", type=int, default=512, help=f"requests under way, else 429 {shown}")
    add("--timeout", type=float, default=30.0, help=f"seconds that a request may take {shown}")
    add("--max-bytes", type=int, default=1_000_000, help=f"of a request's body {shown}")
    add("--max-texts", type=int, default=1000, help=f"of a request {shown}")
    add("--max-tokens", type=int, default=100_000, help=f"of a request {shown}")
