"""What the encoder benchmark writes: a table in Markdown, everything in JSON, and pictures."""

import json
from pathlib import Path

from encoder_peers import OURS, SDPA

LEGEND = """Time: the median of alternated rounds and its quartiles. To ours and to sdpa: speed as a
multiple of bertlite optimised in fp32 and of transformers' sdpa in the same rounds; above 1 is
faster. Difference: the largest of last hidden states on real tokens from transformers eager in
fp32; cosine: the lowest of mean-pooled embeddings. Products alone (the floor): the matrix products
of all linear layers on the real tokens, which no exact fp32 encoder can do without. Peak memory:
resident, of a fresh process that loads the competitor and runs the inputs of `random`. Threads: how
many did the work there."""
HEAD = (
    "| competitor | ms (quartiles) | to ours | to sdpa | difference | cosine | peak MiB | threads |"
)
AXES = {
    "length": "tokens a sequence",
    "batch": "sequences a batch (32 tokens each)",
    "threads": "threads",
}


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def outcome(row: dict) -> str:
    """The time, or why there is none."""
    if "failed" in row:
        return f"failed: {row['failed']}"
    if not row["right"]:
        return "WRONG, not timed"
    return "{:.1f} ({:.1f} to {:.1f})".format(
        *(1000 * row[key] for key in ("seconds", "low", "high"))
    )


def table(result: dict, memory: dict[str, dict]) -> list[str]:
    """A scenario's lines, the fastest first; those without a time last."""
    lines = [HEAD, "|" + " --- |" * (HEAD.count("|") - 1)]
    for name, row in sorted(
        result["rows"].items(), key=lambda item: item[1].get("seconds", float("inf"))
    ):
        child = memory.get(name, {})
        peak = (
            number(child["peak_bytes"] / 2**20, ".0f")
            if "peak_bytes" in child
            else child.get("failed", "")
        )
        cells = [
            name,
            outcome(row),
            number(row.get("to_ours"), ".2f"),
            number(row.get("to_sdpa"), ".2f"),
        ]
        cells += [number(row.get("max_difference"), ".1e"), number(row.get("cosine"), ".5f")]
        cells += [peak, str(child.get("busy_threads") or "")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def floor_lines(floor: dict) -> list[str]:
    """What the products alone take, and which way was the faster."""
    if not floor:
        return []
    each = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in floor["each"].items())
    share = floor.get("share_of_ours")
    part = "" if share is None else f"; the faster one is {share:.0%} of {OURS}"
    return ["", f"Floor: {each}{part}."]


def markdown(report: dict) -> str:
    """The whole report as text."""
    lines = [
        f"# Encoder inference, {report['model']}",
        "",
        f"{report['processor']}, {report['threads']} threads; ",
    ]
    lines[-1] += (
        ", ".join(f"{name} {version}" for name, version in report["versions"].items()) + "."
    )
    lines += ["", LEGEND]
    if report["left_out"]:
        lines += [
            "",
            "Left out:",
            *(f"- {name}: {why}" for name, why in report["left_out"].items()),
        ]
    for result in report["scenarios"]:
        padded = f", {result['padded']:.2f} positions a real token" if result.get("padded") else ""
        lines += ["", f"## {result['name']}", "", f"{result['title']}{padded}; "]
        lines[-1] += f"{result['rounds_kept']} of {result['rounds']} rounds kept."
        lines += ["", *table(result, report["memory"]), *floor_lines(result["floor"])]
    for name, curve in report["growth"].items():
        lines += [
            "",
            f"## Growth with {name}",
            "",
            "Milliseconds for 1,000 real tokens.",
            "",
            *growth_table(name, curve),
        ]
        lines += [f"\nLeft out: {who}: {why}" for who, why in curve["left_out"].items()]
    return "\n".join(lines) + "\n"


def growth_table(name: str, curve: dict) -> list[str]:
    """A line for each value of what grows."""
    names = list(dict.fromkeys(who for point in curve["points"] for who in point["rows"]))
    lines = [f"| {AXES[name]} | {' | '.join(names)} |", "|" + " --- |" * (len(names) + 1)]
    for point in curve["points"]:
        cells = [
            number(1000 * point["rows"][who]["seconds"], ".2f") if who in point["rows"] else ""
            for who in names
        ]
        lines.append(f"| {point['value']} | {' | '.join(cells)} |")
    return lines


def bars(report: dict, path: Path) -> bool:
    """Speed as a multiple of transformers sdpa, one field of bars for each scenario.

    False where there is none.
    """
    from matplotlib.figure import Figure

    shown = [
        each
        for each in report["scenarios"]
        if any("to_sdpa" in row for row in each["rows"].values())
    ]
    if not shown:
        return False
    columns = min(2, len(shown))
    figure = Figure(figsize=(7 * columns, 3.8 * -(-len(shown) // columns)), layout="constrained")
    for place, result in enumerate(shown, 1):
        axes = figure.add_subplot(-(-len(shown) // columns), columns, place)
        rows = {name: row["to_sdpa"] for name, row in result["rows"].items() if "to_sdpa" in row}
        names = sorted(rows, key=rows.__getitem__)
        ours = ["tab:orange" if name.startswith("bertlite") else "tab:gray" for name in names]
        axes.bar_label(
            axes.barh(names, [rows[name] for name in names], color=ours),
            fmt="%.2f",
            padding=2,
            fontsize=8,
        )
        axes.axvline(1, color="black", linewidth=0.8)
        axes.margins(x=0.12)
        axes.set_title(result["name"], fontsize=10)
        axes.tick_params(labelsize=8)
        against = "sentence-transformers" if result["name"] == "texts" else SDPA
        axes.set_xlabel(f"times as fast as {against}", fontsize=8)
    figure.savefig(path, dpi=120)
    return True


def curves(report: dict, path: Path) -> bool:
    """One field for each of what grows; False where nothing did."""
    from matplotlib.figure import Figure

    if not report["growth"]:
        return False
    figure = Figure(figsize=(5 * len(report["growth"]), 4), layout="constrained")
    for place, (name, curve) in enumerate(report["growth"].items(), 1):
        axes = figure.add_subplot(1, len(report["growth"]), place)
        for who in dict.fromkeys(who for point in curve["points"] for who in point["rows"]):
            found = [
                (each["value"], each["rows"][who]["seconds"])
                for each in curve["points"]
                if who in each["rows"]
            ]
            axes.plot(
                [value for value, _ in found],
                [1000 * each for _, each in found],
                marker="o",
                label=who,
            )
        axes.set_xscale("log", base=2)
        values = [each["value"] for each in curve["points"]]
        axes.set_xticks(values, map(str, values))
        axes.set_ylim(bottom=0)
        axes.set_xlabel(AXES[name])
        axes.set_ylabel("ms for 1,000 real tokens")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    return True


def write(report: dict, folder: Path) -> list[Path]:
    """Everything under `folder`; the paths of what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"encoder_{report['model'].replace('/', '_').strip('._')}".replace("-", "_")
    paths = [folder / f"{stem}.{ending}" for ending in ("json", "md")]
    paths[0].write_text(json.dumps(report, indent=1) + "\n")
    paths[1].write_text(markdown(report))
    for name, draw in (("speed", bars), ("growth", curves)):
        path = folder / f"{stem}_{name}.png"
        try:
            paths += [path] if draw(report, path) else []
        except ImportError:
            print("no pictures: matplotlib is not installed")
            break
    return paths
