"""What `bertlite serve` is measured against: a FastAPI application around a library's own call.

As its users write it: a plain function, which FastAPI runs in its pool of threads, or (`--turns`)
one request after the other. `python benchmarks/serving_rival.py embed FOLDER --port 8001`.
"""

import argparse

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Texts(BaseModel):
    """A request."""

    texts: list[str]


def embedder(folder: str):
    """Vectors by sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    return lambda texts: {
        "vectors": model.encode(texts, normalize_embeddings=True, show_progress_bar=False).tolist()
    }


def classifier(folder: str):
    """Classes by a pipeline of transformers, on its own BERT."""
    from transformers import AutoTokenizer, BertForSequenceClassification, pipeline

    ask = pipeline(
        "text-classification",
        model=BertForSequenceClassification.from_pretrained(folder).eval(),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        device="cpu",
    )
    return lambda texts: {"results": ask(texts, truncation=True, max_length=256)}


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["embed", "classify"])
    parser.add_argument("folder")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", action="store_true", help="one request after the other")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    answer = (embedder if given.kind == "embed" else classifier)(given.folder)
    answer(["warm"])
    app = FastAPI()

    def in_a_thread(asked: Texts) -> dict:
        return answer(asked.texts)

    async def in_turn(asked: Texts) -> dict:
        return answer(asked.texts)

    app.post(f"/{given.kind}")(in_turn if given.turns else in_a_thread)
    uvicorn.run(app, port=given.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
