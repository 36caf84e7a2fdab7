"""What the GPU benchmark writes: everything in JSON, a table in Markdown, and a picture."""

import json
from pathlib import Path
from typing import Any

from gpu_works import THEIRS

NOT_RUN = "not run"
LEGEND = """Speed: as a multiple of transformers' sdpa on the same inputs in the same rounds,
medians; above 1 is faster. Share: matrix products of the encoder's linear layers on real tokens,
as a share of what one large product reaches on this card. Launches and waits: of all batches of
the work, by the profiler, divided by their number. Peak: memory of a step as a share of
transformers'. 'not run': this machine cannot."""
HEAD = (
    "| work | aimed at | speed | who | others | tokens a second | share | launches | waits | peak |"
)


def figure(value: float | None, form: str = ".2f") -> str:
    return NOT_RUN if value is None else format(value, form)


def line(entry: dict[str, Any], rate: float) -> str:
    """A work's line of the table."""
    rows, who = entry["rows"], entry["who"]
    row = rows.get(who, {})
    if "failed" in row:
        return f"| {entry['name']} | {entry['target']:g} | failed: {row['failed']} |" + " |" * 7
    others = ", ".join(
        f"{name} {other['ratio']:.2f}"
        for name, other in rows.items()
        if name not in (who, THEIRS) and "ratio" in other
    )
    share = entry.get("operations") and entry["operations"] / row["seconds"] / rate
    batches, peaks = entry.get("batches", 1), entry.get("peaks", {})
    peak = peaks[who] / peaks[THEIRS] if peaks.get(who) else None
    cells = [entry["name"], f"{entry['target']:g}", figure(row.get("ratio")), who, others]
    cells.append(figure(row.get("tokens_a_second"), ",.0f"))
    cells.append(figure(share or None, ".0%"))
    for name in ("launches", "waits"):
        count = row.get(name)
        cells.append(figure(None if count is None else count / batches, ".0f"))
    cells.append(figure(peak))
    return f"| {' | '.join(cells)} |"


def markdown(report: dict[str, Any]) -> str:
    """The whole report as text."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [f"# On a GPU: {report['device']}", "", f"{versions}.", "", LEGEND]
    if report["quick"]:
        lines += ["", "Small shapes and few rounds: this shows that it runs, and no speed."]
    lines += ["", "## Right", "", "| compared | found | allowed |", "| --- | --- | --- |"]
    for row in report["correct"]:
        mark = "" if row["right"] else " WRONG"
        lines.append(f"| {row['name']} | {row['value']:.2e}{mark} | {row['limit']:g} |")
    rate = report["product_rate"]
    lines += ["", "## Works", "", HEAD, "|" + " --- |" * (HEAD.count("|") - 1)]
    lines += [line(entry, rate) for entry in report["works"]]
    if not report["is_gpu"]:
        lines += ["", "Launches, waits, peak memory and transformers compiled: not run on a CPU."]
    for along, points in report["growth"].items():
        lines += ["", f"## Growth with {along}", "", f"| {along} | microseconds a real token |"]
        lines.append("| --- | --- |")
        for point in points:
            each = ", ".join(f"{who} {value:.2f}" for who, value in point["microseconds"].items())
            lines.append(f"| {point['size']} | {each} |")
    return "\n".join(lines) + "\n"


def picture(report: dict[str, Any], path: Path) -> None:
    """Speeds against what was aimed at, as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    entries = [each for each in report["works"] if "ratio" in each["rows"].get(each["who"], {})]
    names = [each["name"] for each in entries][::-1]
    figure_, axes = pyplot.subplots(figsize=(8, 0.4 * len(names) + 1.2))
    places = range(len(names))
    axes.barh(places, [each["rows"][each["who"]]["ratio"] for each in entries][::-1], height=0.6)
    axes.scatter([each["target"] for each in entries][::-1], places, marker="|", s=200, c="black")
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_yticks(places, names)
    axes.set_xlabel("speed as a multiple of transformers sdpa; the mark is what was aimed at")
    axes.set_title(report["device"], fontsize=9)
    figure_.tight_layout()
    figure_.savefig(path, dpi=120)
    pyplot.close(figure_)


def write(report: dict[str, Any], folder: Path) -> None:
    """Table, numbers and picture, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "gpu.md").write_text(markdown(report))
    picture(report, folder / "gpu.png")
