"""A probe: a few ids and what a model computed from them, kept beside its weights.

It tells, in a year and on another machine, whether a folder still computes what it did: weights
that were not loaded, a mask that is read another way or a release that changed a formula show at
once. It is a small JSON file, `probe.json`, of rounded figures and not of whole outputs.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..models.checkpoint import LitePreTrainedModel
from ..version import VERSION
from .classes import load_folder

logger = logging.getLogger(__name__)
PROBE_FILE = "probe.json"
TOLERANCE = 1e-4  # in fp32, of other processors and releases of torch
KEPT = 16  # values of each output that are kept as they are
REAL = 5  # tokens of the second row, the others are padding
LENGTH = 8


def probe_inputs(config: Any) -> dict[str, list]:
    """Two rows of ids, the second with padding, that any model of these sizes takes.

    Args:
        config: of the model, ours or transformers'.

    Returns:
        `input_ids` and `attention_mask`, `(2, 8)` or shorter, `(1, 2, 8)` for multiple choice, and
        `decoder_input_ids` for a model that writes.

    Raises:
        ValueError: the model reads no texts.
    """
    if getattr(config, "vocab_size", None) is None:
        raise ValueError(
            f"folder must be that of a model that reads texts, got model_type {config.model_type!r}"
        )
    length = min(LENGTH, getattr(config, "max_position_embeddings", None) or LENGTH)
    limit, padding = config.vocab_size, config.pad_token_id or 0
    limit = min(limit, getattr(config, "decoder_vocab_size", None) or limit)
    steps = [(7 * place + 3) % limit for place in range(2 * length)]
    ids = [each if each != padding else (each + 1) % limit for each in steps]
    rows, mask = [ids[:length], ids[length:]], [[1] * length, [1] * length]
    if length > REAL:
        rows[1][REAL:] = [padding] * (length - REAL)
        mask[1][REAL:] = [0] * (length - REAL)
    inputs: dict[str, list] = {"input_ids": rows, "attention_mask": mask}
    if any(name.endswith("ForMultipleChoice") for name in config.architectures or ()):
        return {name: [value] for name, value in inputs.items()}
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = [ids[:length], ids[length : 2 * length]]
    return inputs


def figures_of(values: Any) -> dict[str, Any]:
    """What is kept of one output: its shape, mean, root mean square and some of its values."""
    flat = values.detach().double().flatten()
    step = max(1, len(flat) // KEPT)
    return {
        "shape": list(values.shape),
        "mean": float(flat.mean()),
        "root_mean_square": float(flat.square().mean().sqrt()),
        "values": [round(float(value), 7) for value in flat[::step][:KEPT]],
    }


def outputs_of(model: Any, inputs: Mapping[str, list]) -> dict[str, Any]:
    """A model's outputs, on a CPU; those of padding are zero, which no two ways agree on."""
    import torch

    batch = {name: torch.tensor(value, device=model.device) for name, value in inputs.items()}
    was_training = model.training
    with torch.no_grad():
        outputs = model.eval()(**batch)
    model.train(was_training)
    tensors = {name: each for name, each in outputs.items() if isinstance(each, torch.Tensor)}
    return {name: without_padding(name, each, inputs) for name, each in tensors.items()}


def without_padding(name: str, value: Any, inputs: Mapping[str, list]) -> Any:
    """An output in fp32 on a CPU, with zeros where the source has padding."""
    import torch

    mask = torch.tensor(inputs["attention_mask"])
    value = value.float().cpu()
    is_target = "decoder_input_ids" in inputs and not name.startswith("encoder")
    if is_target or mask.ndim != 2 or value.shape[:2] != mask.shape:
        return value
    return value * mask.view(*mask.shape, *[1] * (value.ndim - 2))


def write_probe(folder: str | os.PathLike, model: Any = None) -> Path:
    """Run a model on the probe's ids and keep what comes out beside its weights.

    Args:
        folder: where the model is saved.
        model: what is saved there; None: it is loaded from there.

    Returns:
        The path of `probe.json`.
    """
    import torch
    import transformers

    model = load_folder(folder) if model is None else model
    if model.dtype != torch.float32:
        model = load_folder(folder)  # what is kept is computed in fp32
    inputs = probe_inputs(model.config)
    content = {
        "about": "ids and what this model computes from them: bertlite check FOLDER compares",
        "architecture": type(model).__name__,
        "versions": {
            "bertlite": VERSION,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
        "tolerance": TOLERANCE,
        "inputs": inputs,
        "outputs": {name: figures_of(value) for name, value in outputs_of(model, inputs).items()},
    }
    path = Path(folder) / PROBE_FILE
    part = path.with_name(f".{PROBE_FILE}.{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)
    return path


def keep_probe(folder: str | os.PathLike, model: Any) -> None:
    """Write the probe of a model that a run has just saved, where its class is one of bertlite's.

    The model is loaded anew: the one in memory may be spread over processes. What cannot be probed
    is logged, and loses no run.
    """
    if not isinstance(model, LitePreTrainedModel) or not model.is_of_bertlite():
        return
    try:
        write_probe(folder)
    except (OSError, RuntimeError, ValueError) as error:
        logger.warning(f"{folder}: no {PROBE_FILE} was kept: {' '.join(str(error).split())}")


def check_probe(folder: str | os.PathLike, model: Any = None) -> list[str]:
    """Whether a folder still computes what its probe says.

    Args:
        folder: where the model is saved.
        model: what was loaded from there, by whatever class; None: bertlite's class loads it.

    Returns:
        What differs, a line for each output; nothing where all is as it was.

    Raises:
        ValueError: there is no probe, or it is none that can be read.
    """
    probe = read_probe(folder)
    model = (load_folder(folder) if model is None else model).float()
    return differences(probe, outputs_of(model, probe["inputs"]))


def read_probe(folder: str | os.PathLike) -> dict[str, Any]:
    """The probe of a folder.

    Raises:
        ValueError: none, or one that cannot be read.
    """
    path = Path(folder) / PROBE_FILE
    try:
        probe = json.loads(path.read_text(encoding="utf-8"))
        if not {"inputs", "outputs", "tolerance"} <= probe.keys():
            raise ValueError("inputs, outputs or tolerance are missing")
    except FileNotFoundError as error:
        raise ValueError(
            f"folder must hold a {PROBE_FILE}, got {folder} without one: "
            "bertlite check FOLDER --write-probe makes it"
        ) from error
    except (AttributeError, ValueError) as error:
        raise ValueError(f"{path} must be a probe of bertlite, got no such: {error}") from error
    return probe


def differences(probe: Mapping[str, Any], outputs: Mapping[str, Any]) -> list[str]:
    """What is not as the probe has it, a line for each output."""
    lines = []
    for name, wanted in probe["outputs"].items():
        if name not in outputs:
            lines.append(f"{name}: the probe has it, the model does not give it")
            continue
        found = figures_of(outputs[name])
        if found["shape"] != wanted["shape"]:
            lines.append(f"{name}: shape {found['shape']}, in the probe {wanted['shape']}")
            continue
        allowed = probe["tolerance"] * max(1.0, wanted["root_mean_square"])
        pairs = [(found[key], wanted[key]) for key in ("mean", "root_mean_square")]
        pairs += list(zip(found["values"], wanted["values"], strict=True))
        # Written so that NaN differs too.
        worst = max((abs(a - b) if abs(a - b) >= 0 else float("inf")) for a, b in pairs)
        if not worst <= allowed:
            lines.append(f"{name}: differs from the probe by {worst:.3g}, allowed {allowed:.3g}")
    return lines
