"""An explanation as a page: one file with its data, style and script, which loads nothing.

Of long texts the largest weights of each token are kept, as many as leave the page under 2 MB.
"""

import base64
import json
import re
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
import torch

from .attention import KINDS, AttentionMaps
from .attribution import Attribution
from .explanation import ExplainedTarget, ExplainedText, Explanation
from .head_figures import head_statistics
from .targets import shown
from .terminal import completeness

ATTENTION_BYTES = 1_100_000  # of weights and places, before they are written in base64
PLACE = re.compile(r"\{(title|subtitle|style|script|data)\}")
ENTRY_BYTES = 3  # a place in two, a weight in one


def explanation_page(explanation: Explanation) -> str:
    """The page as HTML."""
    folder = files("bertlite.inspection") / "page"
    template, style, script = (
        (folder / f"page.{ending}").read_text(encoding="utf-8") for ending in ("html", "css", "js")
    )
    data = json.dumps(page_data(explanation), separators=(",", ":"), ensure_ascii=False)
    title = f"Inside {explanation.model}"
    subtitle = "Made by bertlite explain. The page loads nothing and sends nothing."
    parts = {
        "title": escape(title),
        "subtitle": escape(subtitle),
        "style": style,
        "script": script,
        "data": data.replace("<", "\\u003c"),  # so that no text ends the script
    }
    return PLACE.sub(lambda found: parts[found[1]], template)


def page_data(explanation: Explanation) -> dict[str, Any]:
    """What the script reads."""
    rows = sum(
        layer.shape[0] * layer.shape[1]
        for text in explanation.texts
        for maps in text.maps.values()
        for kind in KINDS
        for layer in getattr(maps, kind)
    )
    kept = max(1, ATTENTION_BYTES // (ENTRY_BYTES * rows))
    texts = [text_data(text, kept) for text in explanation.texts]
    return {"methods": list(explanation.methods), "texts": texts}


def text_data(text: ExplainedText, kept: int) -> dict[str, Any]:
    """One text: its words by character, its targets and its maps."""
    words = []
    for places in text.tokens.word_places():
        start, end = text.tokens.characters(places)
        words.append({"part": text.tokens.texts_of[places[0]] or 0, "start": start, "end": end})
    for word in words:  # a script counts characters as UTF-16 does
        raw = text.tokens.texts[word["part"]]
        word["start"], word["end"] = (utf16(raw[: word[name]]) for name in ("start", "end"))
    attention = {}
    for name, maps in text.maps.items():
        for kind in KINDS:
            if getattr(maps, kind):
                attention[name or kind] = map_data(maps, kind, kept)
    return {
        "texts": list(text.tokens.texts),
        "roles": list(text.roles),
        "words": words,
        "targets": [target_data(target) for target in text.targets],
        "attention": attention,
    }


def utf16(text: str) -> int:
    """Units of a text in UTF-16, in which a rare character counts twice."""
    return len(text.encode("utf-16-le")) // 2


def target_data(target: ExplainedTarget) -> dict[str, Any]:
    """One target: its value, and scores and figures by method."""
    first = next(iter(target.attributions.values()))
    methods = {}
    for name, found in target.attributions.items():
        figures = target.faithfulness.get(name)
        faith = None
        if figures is not None:
            faith = [figures.comprehensiveness, figures.sufficiency]
            faith += [figures.random_comprehensiveness, figures.random_sufficiency]
        methods[name] = {
            "scores": [round(word.score, 4) for word in found.words()],
            "note": completeness(found).strip() if found.delta is not None else "",
            "complete": complete_word(found),
            "faith": faith,
        }
    return {
        "name": target.name,
        "unit": first.unit,
        "shown": shown(first.value, first.unit),
        "methods": methods,
    }


def complete_word(found: Attribution) -> str:
    """Whether scores sum up, as a cell of the table has it."""
    if found.is_complete is None:
        return "–"
    return "within 1 %" if found.is_complete else "no"


def map_data(maps: AttentionMaps, kind: str, kept: int) -> dict[str, Any]:
    """The largest weights of each token of each head, with their places."""
    attending, attended = maps.tokens(kind)
    kept = min(kept, len(attended))
    figures: dict[int, list[dict[str, float]]] = {}
    for row in head_statistics(maps, kind=kind):
        rounded = {name: round(value, 3) for name, value in row.items()}
        figures.setdefault(row["layer"], []).append(rounded)
    layers, shares = [], []
    for number, weights in enumerate(maps.maps(kind)):
        best = weights.topk(kept, dim=-1)  # (H, T, kept)
        shares.append(float(best.values.sum(-1).mean()))
        layers.append(
            {
                "p": encoded(best.indices.numpy().astype("<u2")),
                "w": encoded((best.values * 255).round().to(torch.uint8).numpy()),
                "stats": figures[number],
            }
        )
    return {
        "rows": list(attending),
        "columns": list(attended),
        "kept": kept,
        "share": round(sum(shares) / len(shares), 4),
        "layers": layers,
    }


def encoded(values: np.ndarray) -> str:
    """The bytes of an array in base64."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
