"""Greedy and beam search on a CPU.

Bertlite, transformers' MarianMTModel and CTranslate2 from the same weights.

    python benchmarks/generation.py                # writes benchmarks/results/generation.json and
    .md python benchmarks/generation.py --model FOLDER --texts FILE.jsonl --new-tokens 12 --name
    generation_trained

A Transformer of 6+6 layers, 512 wide, vocabulary 32,000, random weights, sources of 24 tokens, 40
new tokens, no text ends before. Outputs are compared first; then all run in turn, CTranslate2 in a
process of its own. With random weights texts repeat few tokens: equal tokens say little there.
`--model` takes a trained TransformerLite or Marian folder with its tokenizer instead, and `--texts`
what it reads (a field of JSON lines, or plain lines).
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
from datasets import load_dataset
from generation_worker import start
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, MarianConfig, MarianMTModel
from worker import Worker

from bertlite import TransformerLiteForConditionalGeneration, optimize
from bertlite.backends.cpu.generation import generate

RESULTS = Path(__file__).with_name("results")
SOURCE, COMPARED = 24, 480  # tokens of a source, texts of a trained model to compare
FIRST = "transformers MarianMTModel"
PAUSE = 0.3  # seconds: CTranslate2's threads spin for 0.2 s after their work


def saved_model(folder: str, layers: int, width: int, vocabulary: int) -> None:
    """A Marian folder with random weights, larger than fresh ones so that texts vary."""
    torch.manual_seed(0)
    sides = {"layers": layers, "attention_heads": 8, "ffn_dim": 4 * width}
    shape = {
        f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in sides.items()
    }
    pad = vocabulary - 1  # where CTranslate2 expects it, which leaves it out: its embedding is 0
    special = {
        "pad_token_id": pad,
        "eos_token_id": 1,
        "decoder_start_token_id": pad,
        "forced_eos_token_id": None,
    }
    config = MarianConfig(
        vocab_size=vocabulary, d_model=width, max_position_embeddings=128, **shape, **special
    )
    model = MarianMTModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embed_positions" not in name:
                parameter.mul_(3)
    never_ending(model).save_pretrained(folder)


def never_ending(model: MarianMTModel) -> MarianMTModel:
    """No text ends early, so that all do the same work."""
    model.final_logits_bias[:, [model.config.eos_token_id, model.config.pad_token_id]] = -1e4
    return model


def trained_model(source: str, folder: str) -> list[int]:
    """A trained folder as Marian's, its padding moved to the last place.

    Returns the new number of each id.
    """
    config = AutoConfig.from_pretrained(source).to_dict()
    names = set(MarianConfig().to_dict()) - {"model_type", "architectures", "auto_map"}
    model = MarianMTModel.from_pretrained(
        source, config=MarianConfig(**{n: config[n] for n in names & set(config)})
    )
    pad = model.config.pad_token_id
    order = [each for each in range(model.config.vocab_size) if each != pad] + [pad]
    numbers = [
        order.index(each) if each == pad else each - (each > pad) for each in range(len(order))
    ]
    with torch.no_grad():
        model.model.shared.weight.copy_(model.model.shared.weight[order])
        model.final_logits_bias.copy_(model.final_logits_bias[:, order])
        model.model.shared.weight[-1] = 0  # as CTranslate2 has it, which starts from nothing
    for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id"):
        setattr(model.config, name, numbers[getattr(model.config, name)])
    model.config.use_cache = True  # which training turns off
    model.generation_config = GenerationConfig.from_model_config(model.config)
    never_ending(model).save_pretrained(folder)
    return numbers


def read_texts(arguments, numbers: list[int]) -> torch.Tensor:
    """`(texts, SOURCE)` ids of texts that are long enough, the last of them the end."""
    kind = "text" if arguments.texts.endswith(".txt") else "json"
    texts = load_dataset(kind, data_files=arguments.texts, split="train")[arguments.field]
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    rows = (tokenizer(text)["input_ids"] for text in texts)
    kept = [row[: SOURCE - 1] + row[-1:] for row in rows if len(row) >= SOURCE][:COMPARED]
    return torch.tensor(numbers)[torch.tensor(kept)]


def converted(folder: str, model: MarianMTModel, compute_type: str) -> Worker:
    """The same weights in CTranslate2, whose tokens are the ids as words."""
    from ctranslate2.converters.transformers import MarianMTLoader

    loader = MarianMTLoader()
    spec = loader.get_model_spec(model)
    words = [f"w{number}" for number in range(model.config.vocab_size - 1)]  # without padding
    spec.register_source_vocabulary(words)
    spec.register_target_vocabulary(words)
    spec.config.eos_token, spec.config.unk_token = words[model.config.eos_token_id], words[2]
    spec.validate()
    spec.optimize(quantization=None)
    target = Path(folder, "ctranslate2")
    target.mkdir(exist_ok=True)
    spec.save(str(target))
    return Worker(start, str(target), compute_type, torch.get_num_threads())


def translated(
    translator: Worker, new_tokens: int, ids: torch.Tensor, beams: int
) -> list[list[int]]:
    """What CTranslate2 writes, as ids."""
    options = {
        "beam_size": beams,
        "max_decoding_length": new_tokens,
        "min_decoding_length": new_tokens,
    }
    return translator.ask(ids.tolist(), {**options, "length_penalty": 1.0})


def written(call, new_tokens: int, ids: torch.Tensor, beams: int) -> list[list[int]]:
    """What a `generate` writes, without the start token."""
    mask = torch.ones_like(ids)
    return call(input_ids=ids, attention_mask=mask, num_beams=beams, max_new_tokens=new_tokens)[
        :, 1:
    ].tolist()


def agreement(found: list[list[int]], expected: list[list[int]]) -> float:
    """Share of tokens before the first difference, the mean over texts."""
    shares = []
    for left, right in zip(found, expected, strict=True):
        same = [a == b for a, b in zip(left, right, strict=False)]
        shares.append((same.index(False) if False in same else len(same)) / len(right))
    return statistics.mean(shares)


def competitors(folder: str, new_tokens: int) -> dict:
    """Name to a function of ids and beams."""
    marian = MarianMTModel.from_pretrained(folder).eval()
    ours, packed = (
        TransformerLiteForConditionalGeneration.from_pretrained(folder).eval() for _ in range(2)
    )
    optimize(packed)  # the encoder, in fp32; `generate` sees to the decoder
    found = {
        FIRST: partial(written, marian.generate, new_tokens),
        "bertlite, the library's loop": partial(written, ours.generate, new_tokens),
        "bertlite, fast, fp32": partial(written, partial(generate, packed), new_tokens),
        "bertlite, fast, int8": partial(
            written, partial(generate, packed, dtype="int8"), new_tokens
        ),
    }
    for name, compute_type in (("fp32", "float32"), ("int8", "int8_float32")):
        found[f"CTranslate2 {name}"] = partial(
            translated, converted(folder, marian, compute_type), new_tokens
        )
    return found


def measured(runs: dict, batch: int, beams: int, sources: torch.Tensor, rounds: int) -> list[dict]:
    """A row for each competitor.

    Agreement with transformers over all sources, median and ratio on the first batch.
    """
    parts, ids = sources.split(batch), sources[:batch]
    texts = {
        name: [text for part in parts for text in run(part, beams)] for name, run in runs.items()
    }
    agreements = {name: agreement(found, texts[FIRST]) for name, found in texts.items()}
    race = Race({name: partial(run, ids, beams) for name, run in runs.items()}, pause=PAUSE).run(
        rounds
    )
    race.print(f"batch {batch}, {beams} beams")
    rows = []
    for name, times in race.times.items():
        kept = [times[number] for number in race.kept]
        row = {"batch": batch, "beams": beams, "name": name, "agreement": agreements[name]}
        spread = {"fastest": min(kept), "slowest": max(kept), "rounds": len(kept)}
        rows.append(
            {**row, "seconds": statistics.median(kept), "ratio": race.ratio(name), **spread}
        )
    return rows


def write_results(rows: list[dict], arguments) -> None:
    """JSON with everything, and a table of it."""
    versions = {
        name: metadata.version(name)
        for name in ("bertlite", "torch", "transformers", "ctranslate2")
    }
    names = ("layers", "width", "vocabulary", "new_tokens")
    shape = {name: getattr(arguments, name) for name in names}
    about = {"versions": versions, "processor": processor(), "threads": arguments.threads, **shape}
    RESULTS.mkdir(exist_ok=True)
    RESULTS.joinpath(f"{arguments.name}.json").write_text(
        json.dumps({**about, "rows": rows}, indent=1) + "\n"
    )
    lines = ["# Generation", "", f"{processor()}, {arguments.threads} threads; "]
    lines[-1] += ", ".join(f"{name} {version}" for name, version in versions.items())
    lines += [
        "",
        f"{arguments.layers}+{arguments.layers} layers, {arguments.width} wide, vocabulary ",
    ]
    weights = f"a trained model, {COMPARED} texts compared" if arguments.model else "random weights"
    lines[-1] += (
        f"{arguments.vocabulary}, {arguments.new_tokens} new tokens; {weights}. Agreement: share "
        "of a text before"
    )
    lines[-1] += (
        " the first token that differs from transformers' text. Ratio: times as fast as "
        "transformers."
    )
    lines += [
        "",
        "| batch | beams | | ms (fastest to slowest) | ratio | agreement | rounds |",
        "|" + " --- |" * 7,
    ]
    for row in rows:
        times = "{:.0f} ({:.0f} to {:.0f})".format(
            *(1000 * row[name] for name in ("seconds", "fastest", "slowest"))
        )
        lines.append("| {batch} | {beams} | {name} | ".format(**row) + times)
        lines[-1] += " | {ratio:.2f} | {agreement:.3f} | {rounds} |".format(**row)
    RESULTS.joinpath(f"{arguments.name}.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument(
        "--new-tokens", type=int, default=40, help="tokens to write; no text ends before"
    )
    parser.add_argument(
        "--model", help="a trained folder with its tokenizer, instead of random weights"
    )
    parser.add_argument("--texts", help="what the trained model reads: .txt, or JSON lines")
    parser.add_argument("--field", default="text", help="of the JSON lines")
    parser.add_argument(
        "--name", default="generation", help="of the files written to benchmarks/results"
    )
    arguments = parser.parse_args()
    if bool(arguments.model) != bool(arguments.texts):
        parser.error("--model and --texts must come together")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print_environment(arguments.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sources = None
        if arguments.model:
            sources = read_texts(arguments, trained_model(arguments.model, folder))
            config = MarianConfig.from_pretrained(folder)
            arguments.layers, arguments.width = config.encoder_layers, config.d_model
            arguments.vocabulary = config.vocab_size
        else:
            saved_model(folder, arguments.layers, arguments.width, arguments.vocabulary)
        runs = competitors(folder, arguments.new_tokens)
        for batch in (1, 16):
            generator = torch.Generator().manual_seed(batch)
            ids = torch.randint(3, arguments.vocabulary - 1, (batch, SOURCE), generator=generator)
            for beams in (1, 4):
                rows += measured(
                    runs, batch, beams, ids if sources is None else sources, arguments.rounds
                )
                write_results(rows, arguments)  # after each, so that a stop loses one race at most


if __name__ == "__main__":
    main()
