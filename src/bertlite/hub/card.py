"""The model card of every model that bertlite writes: one template, filled from plain values.

Front matter by the hub's own classes.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from ..version import VERSION

NOT_RECORDED = "not recorded: an earlier version made the run"
BLANK = "to be added by whoever publishes it"
PACKAGES = ("transformers", "torch", "tokenizers", "datasets", "scikit-learn")


@dataclass
class Published:
    """What whoever publishes a model adds to what its run recorded.

    Attributes:
        license: of the model, as the hub names it, such as "apache-2.0".
        language: codes of the languages of the data, such as "en".
        data_license: of the data, in words.
        base_license: of the weights it started from, in words.
    """

    license: str | None = None
    language: Sequence[str] = ()
    data_license: str | None = None
    base_license: str | None = None

    def completed(self, earlier: "Published") -> "Published":
        """This, with what was given `earlier` where nothing is given now."""
        names = [each.name for each in fields(self)]
        return Published(**{name: getattr(self, name) or getattr(earlier, name) for name in names})

    def metadata(self) -> dict[str, Any]:
        """The fields of the front matter."""
        return {"license": self.license, "language": list(self.language) or None}

    def licences(self, start: str | None) -> str:
        """The section on licences; what nobody has given stands there as a blank.

        Args:
            start: the name of the weights it started from; None: there were none.
        """
        lines = [f"This model: {self.license or BLANK}.", f"Data: {self.data_license or BLANK}."]
        if start is not None:
            lines.append(f"Weights it started from (`{start}`): {self.base_license or BLANK}.")
        return as_list([*lines, "Code (bertlite): Apache-2.0."])


@dataclass
class Card:
    """What a card says, as Markdown but for `metadata`.

    Attributes:
        metadata: the front matter.
        title: of the page.
        lead: what the model is and who wrote this.
        use: lines of Python that use it.
        figures: what was measured, on which rows, and which rows chose what.
        data: what was read and left out.
        recipe: how it was trained: one item each.
        limits: what was not measured.
        licences: of weights, data and code.
    """

    metadata: ModelCardData
    title: str
    lead: str
    use: str
    figures: str
    data: str
    recipe: Sequence[str]
    limits: str
    licences: str


def write_card(folder: str | Path, card: Card) -> Path:
    """Write `README.md` beside a model.

    Args:
        folder: where the model is saved.
        card: all that it says.

    Returns:
        The card's path.
    """
    template = resources.files("bertlite.hub").joinpath("card_template.md")
    text = template.read_text(encoding="utf-8").format(
        metadata=card.metadata.to_yaml().strip(),
        title=card.title,
        lead=card.lead.strip(),
        use=card.use.strip(),
        figures=card.figures.strip(),
        data=card.data.strip(),
        recipe=as_list(card.recipe),
        limits=card.limits.strip(),
        licences=card.licences.strip(),
    )
    path = Path(folder) / "README.md"
    path.write_text(text, encoding="utf-8")
    return path


def as_list(items: Sequence[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {item}" for item in items)


def as_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; numbers with four digits after the point, nothing as a dash."""
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    lines += [f"| {' | '.join(map(as_cell, row))} |" for row in rows]
    return "\n".join(lines)


def as_cell(value: Any) -> str:
    """A value in a table."""
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    """Those figures that are numbers."""
    return {
        name: value
        for name, value in figures.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def versions() -> str:
    """The versions that a reader needs to repeat a figure, as one line."""
    named = []
    for name in PACKAGES:
        try:
            named.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:  # an optional one
            continue
    return f"bertlite {VERSION}, {', '.join(named)}, Python {platform.python_version()}"


def hardware(device: Any, processes: int = 1) -> str:
    """What a model was trained on, as one line."""
    import torch

    if getattr(device, "type", str(device)) == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{processor()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores"
    return f"{processes} × {name}" if processes > 1 else name


def processor() -> str:
    """The processor's name as the system tells it, or its architecture."""
    file = Path("/proc/cpuinfo")
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
