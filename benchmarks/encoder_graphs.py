"""The files that the peers outside torch read.

For ONNX Runtime (fused, and in int8), OpenVINO and CTranslate2.

ONNX Runtime's optimizer does not find the attention of today's transformers in an exported graph.
`plain_bert` writes it with the operations that it does know, around the modules of a `BertModel`
with its weights: without that, none of the attention fusions that make ONNX Runtime fast takes
place.

Shapes: `B` batch, `T` length, `H` heads, `D` head size, `E` hidden size.
"""

import contextlib
import io
import logging
import math
import warnings
from pathlib import Path

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "last_hidden_state"


def plain_bert(model):
    """A module over a `BertModel`'s own parts.

    Its arithmetic, in the operations that ONNX Runtime's fusions know.
    """
    import torch

    heads = model.config.num_attention_heads

    def split(hidden_states):
        batch, length = hidden_states.size(0), hidden_states.size(1)
        return hidden_states.view(batch, length, heads, -1).permute(0, 2, 1, 3)  # (B, H, T, D)

    def attend(attention, hidden_states, mask):
        of = attention.self
        query, key, value = (split(part(hidden_states)) for part in (of.query, of.key, of.value))
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(
            query.shape[-1]
        )  # (B, H, T, T)
        context = (
            torch.matmul(torch.softmax(scores + mask, dim=-1), value)
            .permute(0, 2, 1, 3)
            .contiguous()
        )
        width = model.config.hidden_size
        context = context.view(context.size(0), context.size(1), width)  # (B, T, E)
        return attention.output.LayerNorm(attention.output.dense(context) + hidden_states)

    class PlainBert(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            embed = model.embeddings
            positions = embed.position_ids[:, : input_ids.size(1)]
            summed = embed.word_embeddings(input_ids) + embed.token_type_embeddings(token_type_ids)
            hidden_states = embed.LayerNorm(
                summed + embed.position_embeddings(positions)
            )  # (B, T, E)
            mask = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * torch.finfo(
                torch.float32
            ).min
            for layer in model.encoder.layer:
                attended = attend(layer.attention, hidden_states, mask)
                inner = layer.intermediate.intermediate_act_fn(layer.intermediate.dense(attended))
                hidden_states = layer.output.LayerNorm(layer.output.dense(inner) + attended)
            return hidden_states

    return PlainBert().eval()


def export_onnx(model, path: Path) -> None:
    """`model` (a transformers `BertModel`) as ONNX, batch and length free."""
    import torch

    ids = torch.randint(1000, 2000, (2, 8))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            plain_bert(model),
            (ids, mask, torch.zeros_like(ids)),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in (*INPUTS, OUTPUT)},
        )


def fuse(source: Path, target: Path, config) -> dict[str, int]:
    """ONNX Runtime's own BERT optimizer; how often each fusion took place."""
    from onnxruntime.transformers import optimizer

    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    sizes = {"num_heads": config.num_attention_heads, "hidden_size": config.hidden_size}
    fused = optimizer.optimize_model(str(source), model_type="bert", opt_level=0, **sizes)
    fused.save_model_to_file(str(target))
    return {name: count for name, count in fused.get_fused_operator_statistics().items() if count}


def quantize(source: Path, target: Path) -> None:
    """ONNX Runtime's dynamic int8: weights now, activations at each call.

    A scale for each output and embeddings left in fp32: with the defaults, embeddings of MiniLM
    keep a cosine of only 0.83 to 0.95 to those of fp32, so 0.98 to 0.99.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a preparation that the fusions have done
    try:
        types = {"DefaultTensorType": onnx.TensorProto.FLOAT}  # what comes out of fused operators
        options = {
            "per_channel": True,
            "op_types_to_quantize": ["MatMul", "Attention"],
            "extra_options": types,
        }
        quantize_dynamic(str(source), str(target), weight_type=QuantType.QInt8, **options)
    finally:
        root.setLevel(level)


def convert_openvino(source: Path, target: Path) -> None:
    """OpenVINO's own format from the plain graph, whose attention it fuses itself.

    Weights stay fp32.
    """
    import openvino

    openvino.save_model(openvino.convert_model(str(source)), str(target), compress_to_fp16=False)


def convert_ctranslate2(weights: str, target: Path) -> None:
    """CTranslate2's own format, fp32; int8 is made of it at loading."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(weights).convert(str(target), force=True)


class Files:
    """What the peers read, made at first use in `folder` from the BERT folder `weights`."""

    def __init__(self, weights: str, folder: str):
        self.weights, self.folder = weights, Path(folder)

    def model(self):
        """The library's `BertModel`, eager."""
        from transformers import BertModel

        return BertModel.from_pretrained(self.weights, attn_implementation="eager").eval()

    def made(self, name: str, make) -> str:
        """The path of `name`, after `make(path)` where it is not there yet."""
        path = self.folder / name
        if not path.exists():
            make(path)
        return str(path)

    def onnx(self) -> str:
        """The graph as exported."""
        return self.made("exported.onnx", lambda path: export_onnx(self.model(), path))

    def fused_onnx(self) -> str:
        """The graph after ONNX Runtime's fusions.

        A ValueError where the attention was not fused.
        """

        def make(path: Path) -> None:
            model = self.model()
            counts = fuse(Path(self.onnx()), path, model.config)
            if counts.get("Attention") != model.config.num_hidden_layers:
                path.unlink()
                raise ValueError(
                    f"ONNX Runtime must fuse {model.config.num_hidden_layers} attentions, got "
                    f"{counts}"
                )

        return self.made("fused.onnx", make)

    def int8_onnx(self) -> str:
        """The fused graph in dynamic int8."""
        return self.made("int8.onnx", lambda path: quantize(Path(self.fused_onnx()), path))

    def openvino(self) -> str:
        """OpenVINO's file."""
        return self.made("openvino.xml", lambda path: convert_openvino(Path(self.onnx()), path))

    def ctranslate2(self) -> str:
        """CTranslate2's folder."""
        return self.made("ctranslate2", lambda path: convert_ctranslate2(self.weights, path))
