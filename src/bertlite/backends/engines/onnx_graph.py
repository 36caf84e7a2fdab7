"""A module as an ONNX file: recorded by torch, fused and quantised by ONNX Runtime's own tools.

ONNX Runtime's fusions know attention in the operations of 2019. So a module is recorded with
`fusable_attention`, which writes the formula in those, and with an additive mask made beforehand.
Without that none of the fusions takes place that make ONNX Runtime fast.

Shapes: `B` batch, `T` queries, `S` keys, `H` heads, `D` head size.
"""

import contextlib
import importlib
import io
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

OPSET = 17
LIMIT = 2**31 - 2**24  # bytes of a file in protobuf
HINT = 'install it with: pip install "bertlite[onnx]"'


def needed(package: str, hint: str = HINT) -> Any:
    """A module that is installed on request only; a ValueError with the install hint without it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(f"{package.partition('.')[0]} must be installed; {hint}") from error


def fusable_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """As `models.attention.eager_attention`, in the operations that ONNX Runtime's fusions know."""
    root = math.sqrt(query.shape[-1]) if scaling is None else 1 / scaling
    scores = torch.matmul(query, key.transpose(-1, -2)) / root  # (B, H, T, S)
    if attention_mask is not None:
        scores = scores + attention_mask
    context = torch.matmul(torch.softmax(scores, dim=-1), value)  # (B, H, T, D)
    return context.permute(0, 2, 1, 3).contiguous(), None


def additive_mask(attention_mask: torch.Tensor) -> torch.Tensor:
    """`(B, S)`, non-zero at real tokens, to what is added to scores, `(B, 1, 1, S)`."""
    hidden = 1.0 - attention_mask[:, None, None, :].to(torch.float32)
    return hidden * torch.finfo(torch.float32).min


@contextlib.contextmanager
def quietly(*loggers: str) -> Iterator[None]:
    """Without what exporters and optimizers say about their own work."""
    found = [logging.getLogger(name) for name in (*loggers, "torch.onnx", "onnxscript")]
    levels = [each.level for each in found]
    for each in found:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(found, levels, strict=True):
            each.setLevel(level)


def write_onnx(
    module: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    path: Path,
    free: Mapping[str, Mapping[int, str]],
) -> None:
    """Record a module's forward into a file.

    Args:
        module: in evaluation mode, with the inputs by position.
        inputs: examples, by the names that the graph will have for them.
        outputs: names of what `forward` returns, in order.
        path: the file; of more than 2 GiB with its weights in a file beside it.
        free: of inputs and outputs, the sides whose size is not that of the example.

    Raises:
        ValueError: onnx is not installed.
    """
    onnx = needed("onnx")
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        recorded = Path(scratch, path.name)
        with quietly(), torch.no_grad():
            torch.onnx.export(
                module,
                tuple(inputs.values()),
                str(recorded),
                dynamo=False,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={name: dict(sides) for name, sides in free.items()},
            )
        parts = list(Path(scratch).iterdir())
        if sum(each.stat().st_size for each in parts) <= LIMIT:
            recorded.replace(path)
            return
        # torch writes a file for each weight where one file can't hold them.
        onnx.save_model(
            onnx.load(str(recorded)),
            str(path),
            save_as_external_data=True,
            location=weights_beside(path).name,
        )


def weights_beside(path: Path) -> Path:
    """Where the weights of a graph are that one file cannot hold, as ONNX Runtime names it."""
    return path.with_name(f"{path.name}.data")


def move_graph(source: Path, target: Path) -> None:
    """Move a graph and what lies beside it; the name stays, by which a graph knows its weights."""
    weights_beside(target).unlink(missing_ok=True)
    if weights_beside(source).exists():
        weights_beside(source).replace(weights_beside(target))
    source.replace(target)


def remove_graph(path: Path) -> None:
    """Remove a graph and what lies beside it."""
    path.unlink()
    weights_beside(path).unlink(missing_ok=True)


def fuse(source: Path, target: Path, num_heads: int, hidden_size: int) -> dict[str, int]:
    """ONNX Runtime's BERT optimizer; how often each fusion took place.

    The mask stays a mask: made into lengths, as is the optimizer's default, padding on the left
    would be read, and tokens dropped at the end.
    """
    optimizer = needed("onnxruntime.transformers.optimizer")
    options = importlib.import_module("onnxruntime.transformers.fusion_options")
    chosen = options.FusionOptions("bert")
    chosen.use_raw_attention_mask(True)
    with quietly("onnxruntime.transformers", "root"):
        fused = optimizer.optimize_model(
            str(source),
            model_type="bert",
            opt_level=0,
            num_heads=num_heads,
            hidden_size=hidden_size,
            optimization_options=chosen,
        )
        is_large = weights_beside(source).exists()
        fused.save_model_to_file(str(target), use_external_data_format=is_large)
    return {name: count for name, count in fused.get_fused_operator_statistics().items() if count}


def quantize(source: Path, target: Path, kept: Sequence[str] = ()) -> None:
    """Dynamic int8: weights now, a scale for each output; activations at each call.

    Embeddings stay in fp32: with ONNX Runtime's defaults, vectors of MiniLM keep a cosine of only
    0.83 to 0.95 to those of fp32, so 0.98 to 0.99.

    Args:
        source: a graph, fused or not.
        target: the file to write.
        kept: parts of the names of products that stay in fp32.
    """
    onnx = needed("onnx")
    quantization = needed("onnxruntime.quantization")
    nodes = onnx.load(str(source), load_external_data=False).graph.node
    products = ("MatMul", "Attention", "Gemm")
    named = [node.name for node in nodes if node.op_type in products]
    with quietly("root"):
        quantization.quantize_dynamic(
            str(source),
            str(target),
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            use_external_data_format=weights_beside(source).exists(),
            op_types_to_quantize=["MatMul", "Attention"],
            nodes_to_exclude=[name for name in named if any(part in name for part in kept)],
            # The kind of what comes out of fused operators, which the tool cannot tell.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )


def quantize_weights(path: Path, kept: Sequence[str] = ()) -> None:
    """Put the weights of a graph's products in int8, with a scale for each output, in place.

    What is computed is the product with the weights as int8 holds them.

    Args:
        path: the file.
        kept: as in `quantize`.
    """
    onnx = needed("onnx")
    model = onnx.load(str(path))
    graph = model.graph
    weights = {each.name: each for each in graph.initializer}
    made = []
    for node in [each for each in graph.node if each.op_type == "MatMul"]:
        name = node.input[1]
        if name not in weights or any(part in node.name for part in kept):
            continue
        if f"{name}_int8" not in {each.name for each in graph.initializer}:
            array = onnx.numpy_helper.to_array(weights[name])  # (inputs, outputs)
            scale = np.maximum(np.abs(array).max(0), 1e-12) / 127
            rounded = np.round(array / scale).astype(np.int8)
            parts = {"int8": rounded, "scale": scale.astype(np.float32)}
            parts["zero"] = np.zeros(array.shape[1], np.int8)
            for part, values in parts.items():
                tensor = onnx.numpy_helper.from_array(values, f"{name}_{part}")
                graph.initializer.append(tensor)
            inputs = [f"{name}_{part}" for part in parts]
            made.append(onnx.helper.make_node("DequantizeLinear", inputs, [f"{name}_fp32"], axis=1))
            graph.initializer.remove(weights[name])
        node.input[1] = f"{name}_fp32"
    for node in reversed(made):
        graph.node.insert(0, node)
    onnx.save(model, str(path))
