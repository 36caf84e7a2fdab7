"""Engines behind the seam, at batches of 1, 8 and 32 and lengths of 16, 128 and 512, in one run.

The real MiniLM weights, in transformers, in our packed layers, in ONNX Runtime and in OpenVINO
(`bertlite.optimize(model, backend=...)`), and with `backend="auto"`, which chooses among the last
three by what it has measured when the model was loaded. Rows are equal in length, or skewed: then
the longest has the length that is named, and the others are a third of it on average.

Turns alternate, and each competitor's shortest time counts. Outputs are compared at every size.
`--held-to avx2` starts the run with torch and oneDNN held to AVX2; ONNX Runtime's own products know
no such limit.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from common import print_environment, processor
from encoder_inputs import minilm_folder

ENGINES = ("packed", "onnxruntime", "openvino", "auto")
HELD = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
PAUSE = 0.02  # seconds before each turn, in which the last engine's threads go to sleep
LONG = 0.2  # seconds from which a turn needs no pass before it


def models(folder: str) -> dict:
    """The competitors, by name."""
    from transformers import BertModel

    import bertlite

    found = {"transformers": BertModel.from_pretrained(folder, attn_implementation="sdpa").eval()}
    for name in ENGINES:
        model = bertlite.BertLiteModel.from_pretrained(folder).eval()
        found[name] = bertlite.optimize(model, backend=name)
    return found


def batch_of(rows: int, length: int, skewed: bool) -> dict:
    """Random ids, padded on the right."""
    generator = np.random.default_rng(0)
    lengths = np.full(rows, length)
    if skewed:
        lengths = np.clip(generator.lognormal(np.log(length / 3) - 0.18, 0.6, rows), 3, length)
        lengths[0] = length
    ids = torch.randint(1000, 30000, (rows, length), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(length) < torch.as_tensor(lengths.astype(int))[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def race(competitors: dict, batch: dict, seconds: float) -> tuple[dict, float]:
    """The shortest time of each in milliseconds, and how far outputs are from transformers'."""
    real, expected, apart = batch["attention_mask"].bool(), None, 0.0
    times = dict.fromkeys(competitors, float("inf"))
    for name, model in competitors.items():  # the first time of a size, which long ones need not be
        begin = time.perf_counter()
        states = model(**batch).last_hidden_state
        times[name] = time.perf_counter() - begin
        expected = states[real] if expected is None else expected
        apart = max(apart, float((states[real] - expected).abs().max()))
    end, rounds = time.perf_counter() + seconds, 0
    least, names = (1 if max(times.values()) > 5 * LONG else 3), list(competitors)
    while rounds < least or (time.perf_counter() < end and rounds < 200):
        turn = rounds % len(names)
        for name in names[turn:] + names[:turn]:
            model = competitors[name]
            time.sleep(PAUSE)
            if times[name] < LONG:  # after the pause
                model(**batch)
            begin = time.perf_counter()
            model(**batch)
            times[name] = min(times[name], time.perf_counter() - begin)
        rounds += 1
    return {name: 1000 * each for name, each in times.items()}, apart


def measure(options: argparse.Namespace) -> list[dict]:
    """A row of the table for each size."""
    torch.set_num_threads(options.threads)
    competitors, rows = models(str(minilm_folder())), []
    with torch.inference_mode():
        for skewed in (False, True):
            for count in options.rows:
                for length in options.lengths:
                    if skewed and count == 1:
                        continue
                    batch = batch_of(count, length, skewed)
                    times, apart = race(competitors, batch, options.seconds)
                    chosen = competitors["auto"].backend_report()[0].partition("auto (")[2]
                    row = {"rows": count, "length": length, "skewed": skewed, "ms": times}
                    rows.append({**row, "apart": apart, "chosen": chosen.partition(")")[0]})
                    print(line(rows[-1]), flush=True)
                    write(rows, options)
    return rows


def write(rows: list[dict], options: argparse.Namespace) -> None:
    """The table and the numbers so far, where a folder is named."""
    if not options.output:
        return
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"engines_{options.held_to or 'as_it_is'}"
    held = f"held to {options.held_to}" if options.held_to else "as it is"
    (folder / f"{name}.md").write_text(markdown(rows, held))
    (folder / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


def line(row: dict) -> str:
    """A size as a line of a table: times, and auto's over the best of the others."""
    times = row["ms"]
    best = min(each for name, each in times.items() if name != "auto")
    shown = " | ".join(f"{each:.2f}" for each in times.values())
    kind = "skewed" if row["skewed"] else "equal"
    ratio = times["auto"] / best
    head = f"| {row['rows']} x {row['length']} | {kind} | {shown} | {row['chosen']} | {ratio:.2f} |"
    return f"{head} {row['apart']:.0e} |"


def markdown(rows: list[dict], held: str) -> str:
    """The whole table."""
    names = " | ".join(("transformers", *ENGINES))
    text = [
        f"Processor: {processor()}; {held}; {torch.get_num_threads()} threads. Milliseconds.",
        "",
        f"| rows x length | kind | {names} | auto took | auto / best | apart |",
        f"| --- | --- | {'--- | ' * (len(ENGINES) + 1)}--- | --- | --- |",
    ]
    return "\n".join([*text, *map(line, rows), ""])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks engines", description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 128, 512])
    parser.add_argument("--seconds", type=float, default=1.5, help="of each size, at least a turn")
    parser.add_argument(
        "--held-to", choices=["avx2"], help="limit of torch's and oneDNN's products"
    )
    parser.add_argument("--output", help="folder for the table and the numbers")
    options = parser.parse_args()
    if options.held_to and not all(os.environ.get(name) == each for name, each in HELD.items()):
        done = subprocess.run([sys.executable, *sys.argv], env={**os.environ, **HELD}, check=False)
        raise SystemExit(done.returncode)
    print_environment(options.threads)
    measure(options)


if __name__ == "__main__":
    main()
