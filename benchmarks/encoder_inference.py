"""Encoder inference on a processor: bertlite against transformers, ONNX Runtime, OpenVINO,
CTranslate2 and sentence-transformers, all from the same weights.

Each competitor's last hidden states are compared with those of transformers (eager, fp32) before
anything is timed; one that is wrong is named and not timed. The others run in turn in this process,
on the same inputs, with the same number of threads, in an order that turns from round to round. The
plain matrix products run beside them: the floor. Peak memory is that of a fresh process for each
competitor.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

EPILOG = """scenarios:
  random         256 sentences, log-normal lengths (mean 35, cut at 256), in batches of 32
                 in random order
  sorted         the same, sorted by length: little padding
  length-32      2 batches of 32 sequences of 32 tokens; length-128, length-512: 1 batch of 32
  single         one sequence of 16 tokens at a time: the latency of a question
  small          8 sequences of 32 tokens at a time
  texts          film reviews as texts: sentence-transformers' encode against bertlite.encode
  growth-length, growth-batch, growth-threads
                 curves for a few competitors, in fewer rounds

examples:
  python -m benchmarks encoder              everything on the real all-MiniLM-L6-v2
  python -m benchmarks encoder --quick      tiny inputs: does it all run here? (nothing to quote)
  python -m benchmarks encoder --model bert-base --scenarios random,length-128 --no-compile
  python -m benchmarks encoder --competitors "bertlite optimised,ONNX" --threads 1

How to read it: quote ratios, not times, and only from a machine that does nothing else. `to ours`
and `to sdpa` above 1 mean faster than bertlite optimised in fp32 and than transformers with sdpa.
int8 and bf16 give other numbers: look at their cosine before their speed.
"""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks encoder",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--model",
        default="minilm",
        help="minilm (real weights), bert-base (random weights), or a BERT folder",
    )
    add(
        "--rounds",
        type=int,
        default=None,
        help="rounds that count, after one to warm up (default 7; 2 with --quick)",
    )
    add(
        "--threads",
        type=int,
        default=2,
        help="threads inside an operation, for every competitor (default 2)",
    )
    add(
        "--scenarios",
        default=None,
        help="names from the list below, separated by commas (default: all)",
    )
    add("--competitors", default=None, help="parts of names, separated by commas (default: all)")
    add(
        "--no-compile",
        action="store_true",
        help="leave transformers under torch.compile out: compiling takes minutes",
    )
    add(
        "--no-memory",
        action="store_true",
        help="do not start a process for each competitor to see its peak memory",
    )
    add("--quick", action="store_true", help="tiny inputs and two rounds: to try it out")
    add(
        "--output",
        default=None,
        help="folder of the table, JSON and pictures (default: results beside this file)",
    )
    return parser


def wanted_scenarios(names: str | None, known: list[str]) -> list[str]:
    """The names asked for, in the order known; a ValueError for another."""
    asked = [part.strip() for part in (names or "").split(",") if part.strip()]
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise ValueError(f"scenarios must be among {known}, got {unknown[0]!r}")
    return [name for name in known if not asked or name in asked]


def check(arguments: argparse.Namespace) -> None:
    """Refuse bad numbers before any work."""
    if arguments.rounds is None:
        arguments.rounds = 2 if arguments.quick else 7
    for name in ("rounds", "threads"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(arguments, name)}")
    usable = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if usable < arguments.threads:
        print(
            f"careful: {arguments.threads} threads on {usable} processor(s): such ratios tell "
            "little"
        )


def say(text: str, start: float = time.perf_counter()) -> None:  # noqa: B008 - since when, on purpose
    print(f"[{time.perf_counter() - start:5.0f} s] {text}", flush=True)


def silence() -> None:
    """No bars and advice of the libraries among the figures."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def all_memory(peers, files, scenario, threads: int) -> dict[str, dict]:
    """Peak memory and threads of each peer that is installed, one fresh process after the other."""
    from encoder_child import in_a_child, write_batches

    path = str(files.folder / "inputs.npz")
    write_batches(scenario.batches(), path)
    found = {}
    for peer in peers:
        say(f"  memory of {peer.name}")
        found[peer.name] = in_a_child(peer.name, files, path, threads)
    return found


def all_growth(
    names: list[str], peers, runners: dict, reference, files, arguments
) -> dict[str, dict]:
    """The curves asked for."""
    from encoder_growth import FEW, curve, over_threads
    from encoder_inputs import growth

    few = [peer for peer in peers if peer.name in FEW]
    loaded = {peer.name: runners[peer.name] for peer in few if peer.name in runners}
    rounds, found = min(3, arguments.rounds), {}
    for name, points in growth(arguments.quick).items():
        if f"growth-{name}" in names and loaded:
            say(f"growth with {name}")
            found[name] = curve(points, loaded, reference, few, rounds, say)
    if "growth-threads" in names and loaded:
        say("growth with threads")
        found["threads"] = over_threads(few, files, arguments.threads, rounds, arguments.quick, say)
    return found


def show(result: dict) -> None:
    """A result as soon as it is there."""
    from encoder_results import floor_lines, table

    say(f"{result['name']}: {result['title']}")
    print("\n".join([*table(result, {}), *floor_lines(result["floor"]), ""]), flush=True)


def all_scenarios(
    names: list[str], peers, runners: dict, reference, files, arguments
) -> list[dict]:
    """The results of the scenarios with ids, printed as they come."""
    from encoder_inputs import scenarios
    from encoder_race import floors, measure
    from transformers import AutoConfig

    precisions = {peer.name: peer.precision for peer in peers}
    products = floors(AutoConfig.from_pretrained(files.weights))
    results = []
    for name, scenario in scenarios(arguments.quick).items():
        if name in names:
            results.append(
                measure(scenario, runners, reference, precisions, products, arguments.rounds)
            )
            show(results[-1])
    return results


def run_all(names: list[str], peers, files, arguments) -> dict:
    """Everything asked for, as one report."""
    import encoder_texts
    import torch
    from common import processor
    from encoder_inputs import review_texts, scenarios
    from encoder_peers import versions
    from encoder_race import load_all, reference_of

    say("loading and converting")
    runners, left_out = load_all(peers, files, arguments.threads)
    torch.set_num_threads(arguments.threads)
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")
    reference = reference_of(runners, files, arguments.threads)
    results = all_scenarios(names, peers, runners, reference, files, arguments)
    if "texts" in names:
        texts = review_texts(arguments.quick)
        result, absent = encoder_texts.measure(
            files.weights, texts, arguments.threads, arguments.rounds
        )
        left_out |= absent
        results += [result] if result else []
        show(result) if result else print(f"left out: {absent}")
    grown = all_growth(names, peers, runners, reference, files, arguments)
    loaded = [peer for peer in peers if peer.name in runners and not arguments.no_memory]
    memory = (
        all_memory(loaded, files, scenarios(arguments.quick)["random"], arguments.threads)
        if loaded
        else {}
    )
    about = {
        "processor": processor(),
        "threads": arguments.threads,
        "python": platform.python_version(),
    }
    about |= {
        "versions": versions(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "quick": arguments.quick,
    }
    return {
        "model": arguments.model,
        **about,
        "left_out": left_out,
        "scenarios": results,
        "memory": memory,
        "growth": grown,
    }


def main(argv: list[str] | None = None) -> None:
    arguments = make_parser().parse_args(argv)
    try:
        from encoder_inputs import growth, scenarios, weights_folder
        from encoder_peers import chosen

        check(arguments)
        known = [*scenarios(), "texts", *(f"growth-{name}" for name in (*growth(), "threads"))]
        names = wanted_scenarios(arguments.scenarios, known)
        peers = chosen(arguments.competitors, compiled=not arguments.no_compile)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    from common import print_environment
    from encoder_graphs import Files
    from encoder_results import markdown, write

    silence()
    print_environment(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        files = Files(weights_folder(arguments.model, folder), folder)
        report = run_all(names, peers, files, arguments)
    print(markdown(report))
    target = Path(arguments.output) if arguments.output else Path(__file__).with_name("results")
    for path in write(report, target):
        print(f"written: {path}")


if __name__ == "__main__":
    main()
