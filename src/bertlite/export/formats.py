"""How each format is written, and run again to be checked."""

import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..backends.engines.onnx_graph import (
    fuse,
    move_graph,
    needed,
    quantize,
    quantize_weights,
    remove_graph,
    write_onnx,
)
from ..backends.engines.sessions import OPENVINO_HINT, OnnxSession, OpenVinoSession
from ..inference.language_codes import starts_with_language
from .checking import Compared, Compute, compared
from .decoding import start_token
from .plans import Plan, head_plan
from .sources import Source
from .translating import in_pieces, translation_plans

NO_INT8 = "int8 must come with format onnx, openvino or ctranslate2, got torch"
# Products that stay in fp32 in int8: small layers whose outputs are what a task reads.
KEPT = ("/classifier", "/qa_outputs", "/pooler", "/seq_relationship", "/layers/")


class Format(ABC):
    """A kind of folder.

    Attributes:
        name: as on the command line.
        engine: the file in `runs/` that runs its graphs.
        packages: what has to be installed to run it, beside numpy and tokenizers.
    """

    name: str
    engine: str
    packages: tuple[str, ...]

    @abstractmethod
    def refuse(self, source: Source, int8: bool) -> None:
        """Refuse, with a ValueError and before any work, what this format cannot hold."""

    @abstractmethod
    def write(self, source: Source, folder: Path) -> None:
        """Write the graphs in fp32."""

    @abstractmethod
    def to_int8(self, source: Source, folder: Path) -> None:
        """Put graphs in int8 in their place."""

    @abstractmethod
    def compute(self, source: Source, folder: Path) -> Compute:
        """What was written, as a function of a batch."""

    def compared(self, source: Source, folder: Path) -> Compared:
        """The outputs of what was written, beside the model's."""
        return compared(source, self.compute(source, folder))


class Onnx(Format):
    """Graphs for ONNX Runtime, with its fusions."""

    name, engine, packages = "onnx", "engine_onnx", ("onnxruntime",)

    def refuse(self, source: Source, int8: bool) -> None:
        if source.task.name == "translate":
            check_start(source)

    def write(self, source: Source, folder: Path) -> None:
        if source.task.name == "translate":
            first, second = translation_plans(source)
            write_fused(first, folder)
            write_plan(second, folder / "decoder.onnx")
        else:
            write_fused(head_plan(source), folder)

    def to_int8(self, source: Source, folder: Path) -> None:
        for graph in sorted(folder.glob("*.onnx")):
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                made = Path(scratch, graph.name)
                quantize(graph, made, KEPT)
                move_graph(made, graph)

    def compute(self, source: Source, folder: Path) -> Compute:
        if source.task.name != "translate":
            return OnnxSession(folder / "model.onnx").run
        return in_pieces(*(OnnxSession(folder / f"{each}.onnx") for each in ("encoder", "decoder")))


class OpenVino(Format):
    """OpenVINO's own format, from the graph as recorded, whose attention it fuses itself."""

    name, engine, packages = "openvino", "engine_openvino", ("openvino",)

    def refuse(self, source: Source, int8: bool) -> None:
        if source.task.name == "translate":
            raise ValueError(
                "format openvino does not hold an encoder-decoder; use onnx or ctranslate2"
            )

    def write(self, source: Source, folder: Path) -> None:
        self.convert(source, folder, int8=False)

    def to_int8(self, source: Source, folder: Path) -> None:
        self.convert(source, folder, int8=True)

    def convert(self, source: Source, folder: Path, int8: bool) -> None:
        """Write OpenVINO's files; in int8 the weights are, and OpenVINO computes as it sees fit."""
        openvino = needed("openvino", OPENVINO_HINT)
        recorded = folder / "recorded.onnx"
        write_plan(head_plan(source), recorded)
        if int8:
            quantize_weights(recorded, KEPT)
        model = openvino.convert_model(str(recorded))
        openvino.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)
        remove_graph(recorded)

    def compute(self, source: Source, folder: Path) -> Compute:
        return OpenVinoSession(folder / "model.xml").run


class Torch(Format):
    """An archive of `torch.export`, which torch alone loads."""

    name, engine, packages = "torch", "engine_torch", ("torch",)

    def refuse(self, source: Source, int8: bool) -> None:
        if source.task.name == "translate":
            raise ValueError(
                "format torch does not hold an encoder-decoder; use onnx or ctranslate2"
            )
        if int8:
            raise ValueError(NO_INT8)

    def write(self, source: Source, folder: Path) -> None:
        plan = head_plan(source, attention=None)
        limit = torch.export.Dim("length", min=1, max=source.max_length)
        dims = {"batch": torch.export.Dim("batch", min=1), "length": limit}
        dims["choices"] = torch.export.Dim("choices", min=1)
        shapes = tuple(
            {side: dims[name] for side, name in plan.free[each].items()} for each in plan.example
        )
        with torch.no_grad():
            program = torch.export.export(
                plan.module, tuple(plan.example.values()), dynamic_shapes=(shapes,), strict=False
            )
        torch.export.save(program, str(folder / "model.pt2"))

    def to_int8(self, source: Source, folder: Path) -> None:
        raise ValueError(NO_INT8)

    def compute(self, source: Source, folder: Path) -> Compute:
        module: Any = torch.export.load(str(folder / "model.pt2")).module()

        def run(given: dict[str, np.ndarray]) -> list[np.ndarray]:
            tensors = [torch.from_numpy(given[name]) for name in source.inputs]
            with torch.no_grad():
                return [each.numpy() for each in module(*tensors)]

        return run


def check_start(source: Source) -> None:
    """Refuse, with a ValueError, an encoder-decoder of which nobody says how a text begins."""
    if start_token(source.model) is None and not starts_with_language(
        source.model, source.tokenizer
    ):
        raise ValueError(
            f"export: decoder_start_token_id must be in the generation config of {source.folder}, "
            "which says with what a text begins"
        )


def write_fused(plan: Plan, folder: Path) -> None:
    """Record a plan's graph, with ONNX Runtime's fusions."""
    target = folder / f"{plan.name}.onnx"
    if not plan.num_heads:
        write_plan(plan, target)
        return
    write_plan(plan, folder / "recorded.onnx")
    fuse(folder / "recorded.onnx", target, plan.num_heads, plan.hidden_size)
    remove_graph(folder / "recorded.onnx")


def write_plan(plan: Plan, path: Path) -> None:
    """Record a plan's graph."""
    write_onnx(plan.module, plan.example, plan.outputs, path, plan.free)
