"""Vectors of a file's texts by Spark: a `pandas_udf` whose workers hold the model.

    pip install pyspark
    python examples/encode_with_spark.py MODEL texts.txt out/vectors --workers 2

Each Python worker loads the model once, for all the batches that it is given. Spark runs a task
again whose worker died. The output is Parquet with the columns `row`, `text` and `vector`.
"""

import argparse
from collections.abc import Iterator

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf


def encoder_of(model: str, batch_tokens: int):
    """A function of Spark's columns."""

    @pandas_udf("array<float>")
    def encode(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        import torch

        import bertlite

        torch.set_num_threads(1)
        for texts in batches:
            # A folder that was loaded in this process before is not loaded again.
            vectors = bertlite.encode(texts.tolist(), model, batch_tokens=batch_tokens)
            yield pd.Series(list(vectors))

    return encode


def main() -> None:
    """Read, encode, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a folder with an encoder and its tokenizer")
    parser.add_argument("texts", help="a text a line")
    parser.add_argument("output", help="a new folder")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--block", type=int, default=500, help="texts of a task")
    parser.add_argument("--batch-tokens", type=int, default=2048)
    given = parser.parse_args()
    session = (
        SparkSession.builder.master(f"local[{given.workers},4]")  # a task is tried four times
        .appName("encode")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", str(given.block))
        .getOrCreate()
    )
    with open(given.texts, encoding="utf-8") as file:
        rows = [(n, line.rstrip("\n")) for n, line in enumerate(file)]
    frame = session.createDataFrame(rows, "row long, text string")
    frame = frame.repartitionByRange(-(-len(rows) // given.block), "row")
    encode = encoder_of(given.model, given.batch_tokens)
    frame.withColumn("vector", encode("text")).write.parquet(given.output)
    session.stop()


if __name__ == "__main__":
    main()
