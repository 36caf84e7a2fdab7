"""Vectors of a file's texts by Ray Data: actors that hold the model, batches by token budget.

    pip install "ray[data]"
    python examples/encode_with_ray.py MODEL texts.txt out/vectors --workers 2

Each actor loads the model once and encodes a block of texts at a time; `bertlite.encode` forms
batches of so many tokens inside. Ray starts an actor anew that dies, and does its block again. The
output is Parquet with the columns `row`, `text` and `vector`.
"""

import argparse
import os

# A worker imports torch before it reports; where many start at a time on few cores, that can take
# longer than the minute that Ray waits for it. And Ray's workers stand back (nice 15) for all else.
os.environ.setdefault("RAY_worker_register_timeout_seconds", "600")
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray


class Encoder:
    """An actor: the model, loaded once, on one core."""

    def __init__(self, model: str, batch_tokens: int):
        import torch

        torch.set_num_threads(1)
        self.model = model
        self.batch_tokens = batch_tokens

    def __call__(self, block: dict) -> dict:
        import bertlite

        texts = [str(text) for text in block["text"]]
        # A folder that was loaded in this process before is not loaded again.
        block["vector"] = bertlite.encode(texts, self.model, batch_tokens=self.batch_tokens)
        return block


def main() -> None:
    """Read, encode, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a folder with an encoder and its tokenizer")
    parser.add_argument("texts", help="a text a line")
    parser.add_argument("output", help="a new folder")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--block", type=int, default=500, help="texts of a block")
    parser.add_argument("--batch-tokens", type=int, default=2048)
    given = parser.parse_args()
    with open(given.texts, encoding="utf-8") as file:
        rows = [{"row": n, "text": line.rstrip("\n")} for n, line in enumerate(file)]
    # One core more than the actors hold: the parts are written by tasks of their own.
    ray.init(num_cpus=given.workers + 1, include_dashboard=False, log_to_driver=False)
    blocks = -(-len(rows) // given.block)
    data = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        Encoder,
        fn_constructor_args=(os.path.abspath(given.model), given.batch_tokens),
        batch_size=given.block,
        compute=ray.data.ActorPoolStrategy(size=given.workers),
        num_cpus=1,
    )
    data.write_parquet(os.path.abspath(given.output))
    ray.shutdown()


if __name__ == "__main__":
    main()
