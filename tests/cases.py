"""Tiny models and ragged batches for the checks in `contracts.py`: one `Case` a model class.

Batches are ragged and their padding holds random words, so that whatever reads padding shows. `B`
batch, `T` length.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import nn

from bertlite import BertLiteConfig, TransformerLiteConfig, optimize, use_backend

VOCABULARY, IGNORED = 61, -100
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
BERT |= {"intermediate_size": 48, "max_position_embeddings": 40, "num_labels": 3, **NO_DROPOUT}
TRANSFORMER = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "max_position_embeddings": 40,
    "scale_embedding": True,
}
TRANSFORMER |= {
    f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("layers", "attention_heads")
}
TRANSFORMER |= {"encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "dropout": 0.0, "num_labels": 3}
TRANSFORMER |= {
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}


def bert_config(**overrides) -> BertLiteConfig:
    return BertLiteConfig(**{**BERT, **overrides})


def transformer_config(**overrides) -> TransformerLiteConfig:
    return TransformerLiteConfig(**{**TRANSFORMER, **overrides})


def set_backend(model: nn.Module, name: str) -> nn.Module:
    """Have a model computed by the backend of this name alone, or plainly."""
    return use_backend(model, name)


def randomize(model: nn.Module, std: float = 0.2, seed: int = 0) -> nn.Module:
    """Weights large enough that a wrong mask, position or tie shows in the output.

    What is computed, such as sinusoids, stays. In `eval` mode.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if not tensor.requires_grad:
                continue
            centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            tensor.copy_(centre + std * torch.randn(tensor.shape, generator=generator))
        for name, tensor in model.named_buffers():
            if name.endswith("final_logits_bias"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return model.eval()


def padded(lengths, side: str, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random ids, in the padding too, and the mask of the real ones: `(B, T)` each."""
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    mask = mask.flip(-1) if side == "left" else mask
    return torch.randint(3, VOCABULARY, mask.shape, generator=generator), mask.long()


@dataclass(frozen=True)
class Case:
    """A model class to check.

    Args:
        outputs: what it returns, and whether by "source" token, "target" token or "row".
        labels: label arguments, and their kind: "token", "word", "class", "score", "marks", "span",
            "target".
        config: overrides of the tiny config.
        choices: C where rows belong together, as in multiple choice.
        backend: by which its models are computed: "plain", the name of one, or "auto".
        dtype: of its models.
        device: of its models and batches.
    """

    model_class: type
    outputs: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    choices: int = 0
    name: str = ""
    backend: str = "auto"
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def __str__(self) -> str:
        return self.name or self.model_class.__name__

    @property
    def is_seq2seq(self) -> bool:
        return self.model_class.config_class is TransformerLiteConfig

    def on(self, **changes) -> "Case":
        """The same case with another backend, dtype or device."""
        return replace(self, **changes)

    def plainly(self) -> "Case":
        """The same case as the plain core computes it in fp32: what others are held to."""
        return replace(self, backend="plain", dtype=torch.float32)

    def model(self, attention: str = "sdpa", **overrides) -> nn.Module:
        """A tiny model with large random weights, the same ones on every call, in `eval` mode."""
        fields = {**(TRANSFORMER if self.is_seq2seq else BERT), **self.config, **overrides}
        model = self.model_class(self.model_class.config_class(**fields))
        model.set_attn_implementation(attention)
        return self.place(randomize(model).to(self.dtype))

    def place(self, model: nn.Module) -> nn.Module:
        """A model on this case's device, computed by its backend."""
        model = model.to(self.device)
        if self.backend in ("packed", "onnxruntime", "openvino"):
            return optimize(model, backend=self.backend)
        return set_backend(model, self.backend)

    def batch(
        self, side: str = "right", masked: bool = True, seed: int = 1
    ) -> dict[str, torch.Tensor]:
        """Inputs without labels: rows of 9, 5, 7 and 2 tokens; targets of 6, 3, 4 and 5."""
        generator = torch.Generator().manual_seed(seed)
        ids, mask = padded((9, 5, 7, 2), side, generator)
        batch = {"input_ids": ids, "attention_mask": mask}
        if self.is_seq2seq:
            batch["decoder_input_ids"], batch["decoder_attention_mask"] = padded(
                (6, 3, 4, 5), "right", generator
            )
        else:
            batch["token_type_ids"] = torch.randint(0, 2, ids.shape, generator=generator)
        if not masked:
            batch = {name: tensor for name, tensor in batch.items() if not name.endswith("mask")}
        return self.grouped({name: tensor.to(self.device) for name, tensor in batch.items()})

    def grouped(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Rows that belong together get a side of their own: `(B * C, T)` to `(B, C, T)`."""
        if not self.choices:
            return batch
        return {name: tensor.unflatten(0, (-1, self.choices)) for name, tensor in batch.items()}

    def make_labels(self, batch: dict[str, torch.Tensor], seed: int = 2) -> dict[str, torch.Tensor]:
        """Labels that fit.

        A third of the real tokens stay without, so that rows differ in how many they have.
        """
        generator = torch.Generator().manual_seed(seed)
        batch = {name: tensor.cpu() for name, tensor in batch.items()}
        mask, rows = batch["attention_mask"].bool(), len(batch["attention_mask"])
        made = {}
        for name, kind in self.labels.items():
            if kind in ("token", "word", "target", "replaced"):
                real = batch["decoder_attention_mask"].bool() if kind == "target" else mask
                drawn = torch.randint(
                    0,
                    {"token": 3, "replaced": 2}.get(kind, VOCABULARY),
                    real.shape,
                    generator=generator,
                )
                kept = real & (torch.rand(real.shape, generator=generator) > 1 / 3)
                made[name] = drawn.masked_fill(~kept, IGNORED)
            elif kind == "span":
                made[name] = (torch.rand(rows, generator=generator) * mask.sum(-1)).long()
            elif kind == "score":
                made[name] = torch.randn(rows, generator=generator)
            elif kind == "marks":
                made[name] = torch.randint(0, 2, (rows, 3), generator=generator).float()
            else:
                made[name] = torch.randint(0, 2, (rows,), generator=generator)
        return {name: tensor.to(self.device) for name, tensor in made.items()}

    def real(self, outputs, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Each output as `(values, ...)`, in the order of the rows and without what stands at
        padding.
        """
        kept = {}
        for name, place in self.outputs.items():
            mask = batch.get("decoder_attention_mask" if place == "target" else "attention_mask")
            value = outputs[name].detach()
            kept[name] = (
                value
                if place == "row"
                else value.flatten(0, 1)
                if mask is None
                else value[mask.bool()]
            )
        return kept

    def loss(self, model: nn.Module, batch, labels=None, **kwargs) -> torch.Tensor:
        """The model's own loss, or for a model without one the mean square of its real outputs.

        The latter reads no padding, and says so, that a backend may leave it out.
        """
        if labels:
            return model(**batch, **labels, **kwargs).loss
        outputs = model(**batch, zero_padding=True, **kwargs)
        masks = {"source": batch["attention_mask"], "target": batch.get("decoder_attention_mask")}
        parts = [(outputs[name], masks.get(place)) for name, place in self.outputs.items()]
        return sum(
            (value if mask is None else value[mask.bool()]).square().mean() for value, mask in parts
        )

    def gradients(self, model: nn.Module, batch, labels=None, **kwargs) -> dict[str, torch.Tensor]:
        """Gradients of the loss in training mode, by parameter."""
        model.train()
        model.zero_grad()
        self.loss(model, batch, labels, **kwargs).backward()
        return {
            name: parameter.grad.clone()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }


def pick(batch: dict[str, torch.Tensor], rows: slice) -> dict[str, torch.Tensor]:
    """Some rows, without the columns that are padding in all of them.

    Masks that then hide nothing go too.
    """
    picked = {name: tensor[rows] for name, tensor in batch.items()}
    for name in ("attention_mask", "decoder_attention_mask"):
        if name in picked:
            columns = picked[name].flatten(0, -2).any(0)
            for other, tensor in picked.items():
                if tensor.ndim > 1 and tensor.shape[-1] == len(columns):
                    picked[other] = tensor[..., columns]
            if picked[name].all():
                del picked[name]
    return picked


def singles(batch: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    return [pick(batch, slice(row, row + 1)) for row in range(len(batch["input_ids"]))]


def sequences(batch: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """The real tokens of each row, `(length,)` a tensor."""
    rows = {name: tensor.flatten(0, -2) for name, tensor in batch.items()}
    found = []
    for row in range(len(rows["input_ids"])):
        sides = {
            name: "decoder_attention_mask" if name.startswith("decoder") else "attention_mask"
            for name in rows
        }
        found.append(
            {name: tensor[row][rows[sides[name]][row].bool()] for name, tensor in rows.items()}
        )
    return found


def packed(
    case: Case, whole: list[dict[str, torch.Tensor]], groups: list[tuple[int, ...]]
) -> dict[str, torch.Tensor]:
    """One row for each group of sequences, with positions that start again at each.

    Padded on the right, with a mask: `packed=True` has to say that rows hold several sequences.
    """
    rows = []
    for group in groups:
        parts = [dict(whole[index]) for index in group]
        for part in parts:
            places = torch.arange(40, device=case.device)
            part["position_ids"] = places[: len(part["input_ids"])]
            if case.is_seq2seq:
                part["decoder_position_ids"] = places[: len(part["decoder_input_ids"])]
        rows.append({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    joined = {
        name: nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True)
        for name in rows[0]
    }
    return case.grouped(joined)
