"""Summaries by a small Transformer that first learns to copy.

Its data, and its ROUGE against the first ten words.

    run="python -m benchmarks summarization --data FOLDER --work runs/summarization"
    $run data                         # texts.txt for the tokenizer, copy.jsonl for the first stage
    $run evaluate --model FOLDER      # all validation rows, beam 4; writes
    benchmarks/results/summarization.json

Trained on summaries alone, this Transformer wrote the same frequent phrase for every text, and did
not get beyond it. Copying, the skill that it lacks, is learnt within minutes from pairs made of the
texts themselves: the first 16 words, and of these the first 10. The commands of both stages are in
model_cards/summarization.md.

Data: see seq2seq_data.py.
"""

import argparse
import json
from pathlib import Path

import torch
from common import print_environment, processor
from seq2seq_data import TASKS, lead, read_pairs, scores
from transformers import AutoTokenizer

from bertlite import TransformerLiteForConditionalGeneration, summarize

TASK = TASKS["summarization"]
READ, WRITTEN = (
    16,
    10,
)  # words of a text that are read, and of those how many are written, in the first stage


def write_data(arguments: argparse.Namespace) -> None:
    """Texts for the tokenizer, and pairs for the first stage, from the training rows alone."""
    pairs = read_pairs(arguments.data, "train", TASK)
    arguments.work.mkdir(parents=True, exist_ok=True)
    with open(arguments.work / "texts.txt", "w", encoding="utf-8") as texts:
        texts.writelines(text.replace("\n", " ") + "\n" for pair in pairs for text in pair)
    with open(arguments.work / "copy.jsonl", "w", encoding="utf-8") as file:
        for source, _ in pairs:
            row = {"document": lead(source, READ), "summary": lead(source, WRITTEN)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{len(pairs)} rows in {arguments.work}")


def evaluate(arguments: argparse.Namespace) -> None:
    """ROUGE of the model and of the first ten words on the validation rows."""
    print_environment(arguments.threads)
    pairs = read_pairs(arguments.data, "validation", TASK)
    sources, references = [source for source, _ in pairs], [target for _, target in pairs]
    model = TransformerLiteForConditionalGeneration.from_pretrained(arguments.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    options = {
        "max_source_length": TASK.source_limit,
        "max_new_tokens": TASK.target_limit,
        "num_beams": arguments.beams,
    }
    written = summarize(
        sources, model, tokenizer, length_penalty=arguments.length_penalty, **options
    )
    baseline = scores(TASK, [lead(source) for source in sources], references)
    found = {
        "rows": len(pairs),
        "model": scores(TASK, written, references),
        "first_10_words": baseline,
    }
    found |= {"beams": arguments.beams, "length_penalty": arguments.length_penalty}
    found |= {
        "parameters": model.num_parameters(),
        "processor": processor(),
        "torch": torch.__version__,
    }
    for name in ("model", "first_10_words"):
        print(name, {key: round(value, 4) for key, value in found[name].items()})
    for source, target, text in list(zip(sources, references, written, strict=True))[:10]:
        print(f"\n{source[:100]}\n  reference: {target}\n  written:   {text}")
    path = Path(arguments.output or Path(__file__).with_name("results") / "summarization.json")
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("data", "evaluate"))
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with train.jsonl.gz and validation.jsonl.gz",
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/summarization"), help="where `data` writes"
    )
    parser.add_argument("--model", help="folder that `evaluate` measures")
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--length-penalty", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", help="default: benchmarks/results/summarization.json")
    arguments = parser.parse_args()
    if arguments.command == "evaluate" and not arguments.model:
        parser.error("evaluate needs --model")
    {"data": write_data, "evaluate": evaluate}[arguments.command](arguments)


if __name__ == "__main__":
    main()
