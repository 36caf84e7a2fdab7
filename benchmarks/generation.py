"""Greedy and beam search on a CPU: bertlite, transformers' MarianMTModel and CTranslate2 from the same weights.

    python benchmarks/generation.py                # writes benchmarks/results/generation.json and .md

A Transformer of 6+6 layers, 512 wide, vocabulary 32,000, random weights, sources of 24 tokens, 40 new tokens, no text
ends before. Outputs are compared first; then all run in turn, CTranslate2 in a process of its own. With random weights
texts repeat few tokens: equal tokens say little here.
"""

import argparse
import json
import statistics
import tempfile
from functools import partial
from importlib import metadata
from pathlib import Path

import torch
import transformers
from common import Race, print_environment, processor
from generation_worker import start
from transformers import MarianConfig, MarianMTModel
from worker import Worker

from bertlite import TransformerLiteForConditionalGeneration
from bertlite.generation import generate

RESULTS = Path(__file__).with_name("results")
NEW_TOKENS, SOURCE, EOS = 40, 24, 1
FIRST = "transformers MarianMTModel"
PAUSE = 0.3  # seconds: CTranslate2's threads spin for 0.2 s after their work


def saved_model(folder: str, layers: int, width: int, vocabulary: int) -> None:
    """A Marian folder with random weights, larger than fresh ones so that texts vary."""
    torch.manual_seed(0)
    sides = {"layers": layers, "attention_heads": 8, "ffn_dim": 4 * width}
    shape = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in sides.items()}
    pad = vocabulary - 1  # where CTranslate2 expects it, which leaves it out: its embedding is 0
    special = {"pad_token_id": pad, "eos_token_id": EOS, "decoder_start_token_id": pad, "forced_eos_token_id": None}
    config = MarianConfig(vocab_size=vocabulary, d_model=width, max_position_embeddings=128, **shape, **special)
    model = MarianMTModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embed_positions" not in name:
                parameter.mul_(3)
        model.final_logits_bias[:, [EOS, pad]] = -1e4  # nobody ends early: all do the same work
    model.save_pretrained(folder)


def converted(folder: str, model: MarianMTModel, compute_type: str) -> Worker:
    """The same weights in CTranslate2, whose tokens are the ids as words."""
    from ctranslate2.converters.transformers import MarianMTLoader

    loader = MarianMTLoader()
    spec = loader.get_model_spec(model)
    words = [f"w{number}" for number in range(model.config.vocab_size - 1)]  # without padding
    spec.register_source_vocabulary(words)
    spec.register_target_vocabulary(words)
    spec.config.eos_token, spec.config.unk_token = words[EOS], words[2]
    spec.validate()
    spec.optimize(quantization=None)
    target = Path(folder, "ctranslate2")
    target.mkdir(exist_ok=True)
    spec.save(str(target))
    return Worker(start, str(target), compute_type, torch.get_num_threads())


def translated(translator: Worker, ids: torch.Tensor, beams: int) -> list[list[int]]:
    """What CTranslate2 writes, as ids."""
    options = {"beam_size": beams, "max_decoding_length": NEW_TOKENS, "min_decoding_length": NEW_TOKENS}
    return translator.ask(ids.tolist(), {**options, "length_penalty": 1.0})


def written(call, ids: torch.Tensor, beams: int) -> list[list[int]]:
    """What a `generate` writes, without the start token."""
    mask = torch.ones_like(ids)
    return call(input_ids=ids, attention_mask=mask, num_beams=beams, max_new_tokens=NEW_TOKENS)[:, 1:].tolist()


def agreement(found: list[list[int]], expected: list[list[int]]) -> float:
    """Share of tokens before the first difference, the mean over texts."""
    shares = []
    for left, right in zip(found, expected, strict=True):
        same = [a == b for a, b in zip(left, right, strict=False)]
        shares.append((same.index(False) if False in same else len(same)) / len(right))
    return statistics.mean(shares)


def competitors(folder: str) -> dict:
    """Name to a function of ids and beams."""
    marian = MarianMTModel.from_pretrained(folder).eval()
    ours = TransformerLiteForConditionalGeneration.from_pretrained(folder).eval()
    found = {
        FIRST: partial(written, marian.generate),
        "bertlite, the library's loop": partial(written, ours.generate),
        "bertlite, fast, fp32": partial(written, partial(generate, ours)),
        "bertlite, fast, int8": partial(written, partial(generate, ours, dtype="int8")),
    }
    for name, compute_type in (("fp32", "float32"), ("int8", "int8_float32")):
        found[f"CTranslate2 {name}"] = partial(translated, converted(folder, marian, compute_type))
    return found


def measured(runs: dict, batch: int, beams: int, vocabulary: int, rounds: int) -> list[dict]:
    """A row for each competitor: agreement with transformers, median and ratio."""
    ids = torch.randint(3, vocabulary - 1, (batch, SOURCE), generator=torch.Generator().manual_seed(batch))
    expected = runs[FIRST](ids, beams)
    agreements = {name: agreement(run(ids, beams), expected) for name, run in runs.items()}
    race = Race({name: partial(run, ids, beams) for name, run in runs.items()}, pause=PAUSE).run(rounds)
    race.print(f"batch {batch}, {beams} beams")
    rows = []
    for name, times in race.times.items():
        kept = [times[number] for number in race.kept]
        row = {"batch": batch, "beams": beams, "name": name, "agreement": agreements[name]}
        spread = {"fastest": min(kept), "slowest": max(kept), "rounds": len(kept)}
        rows.append({**row, "seconds": statistics.median(kept), "ratio": race.ratio(name), **spread})
    return rows


def write_results(rows: list[dict], arguments) -> None:
    """JSON with everything, and a table of it."""
    versions = {name: metadata.version(name) for name in ("bertlite", "torch", "transformers", "ctranslate2")}
    shape = {"layers": arguments.layers, "width": arguments.width, "vocabulary": arguments.vocabulary}
    about = {"versions": versions, "processor": processor(), "threads": arguments.threads, **shape}
    RESULTS.mkdir(exist_ok=True)
    RESULTS.joinpath("generation.json").write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    lines = ["# Generation", "", f"{processor()}, {arguments.threads} threads; "]
    lines[-1] += ", ".join(f"{name} {version}" for name, version in versions.items())
    lines += ["", f"{arguments.layers}+{arguments.layers} layers, {arguments.width} wide, vocabulary "]
    lines[-1] += f"{arguments.vocabulary}, {NEW_TOKENS} new tokens; random weights. Agreement: share of a text before"
    lines[-1] += " the first token that differs from transformers' text. Ratio: times as fast as transformers."
    lines += ["", "| batch | beams | | ms (fastest to slowest) | ratio | agreement | rounds |", "|" + " --- |" * 7]
    for row in rows:
        times = "{:.0f} ({:.0f} to {:.0f})".format(*(1000 * row[name] for name in ("seconds", "fastest", "slowest")))
        lines.append("| {batch} | {beams} | {name} | ".format(**row) + times)
        lines[-1] += " | {ratio:.2f} | {agreement:.3f} | {rounds} |".format(**row)
    RESULTS.joinpath("generation.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=32000)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print_environment(arguments.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        saved_model(folder, arguments.layers, arguments.width, arguments.vocabulary)
        runs = competitors(folder)
        for batch in (1, 16):
            for beams in (1, 4):
                rows += measured(runs, batch, beams, arguments.vocabulary, arguments.rounds)
                write_results(rows, arguments)  # after each, so that a stop loses one race at most


if __name__ == "__main__":
    main()
