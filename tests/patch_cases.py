"""Families that read patches: transformers' classes with large random weights, and a `Case` each.

`C` channels, `B` images.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from cases import NO_DROPOUT, Case, randomize
from torch import nn

from bertlite.models.families import FAMILIES

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_labels": 3,
    **NO_DROPOUT,
}
IMAGES = {**SIZES, "image_size": 12, "patch_size": 4, "encoder_stride": 4}
SOUNDS = {**SIZES, "max_length": 40, "num_mel_bins": 12, "patch_size": 4}
SOUNDS |= {"frequency_stride": 3, "time_stride": 3}
AST = "audio-spectrogram-transformer"
# Settings of each family's config; the first is its usual form.
SETTINGS: dict[str, list[dict]] = {
    "vit": [
        IMAGES,
        {**IMAGES, "qkv_bias": False, "hidden_act": "relu", "num_channels": 1},
        {**IMAGES, "image_size": 16, "layer_norm_eps": 1e-5, "num_hidden_layers": 3},
    ],
    "deit": [
        IMAGES,
        {**IMAGES, "qkv_bias": False, "hidden_act": "gelu_new", "patch_size": 2},
    ],
    AST: [SOUNDS, {**SOUNDS, "qkv_bias": False, "patch_size": 5, "time_stride": 4}],
}
SETTINGS["deit"][1]["encoder_stride"] = 2
OUTPUTS = {
    "Model": ("last_hidden_state", "pooler_output"),
    "ForImageClassification": ("logits",),
    "ForImageClassificationWithTeacher": ("logits", "cls_logits", "distillation_logits"),
    "ForMaskedImageModeling": ("reconstruction",),
    "ForAudioClassification": ("logits",),
}
CLASSIFYING = ("ForImageClassification", "ForAudioClassification")
EVERY_HEAD = [(family, head) for family in SETTINGS for head in FAMILIES[family].heads]
EVERY_SETTING = [
    (family, head, setting)
    for family, head in EVERY_HEAD
    for setting in range(len(SETTINGS[family]))
]
MIXED = ((12, 12), (20, 9), (8, 8), (20, 9), (5, 30))  # heights and widths
CLIPS = (40, 9, 26, 9)  # frames


def theirs_of(family: str, head: str, setting: int = 0) -> nn.Module:
    """Transformers' class with large random weights, in `eval` mode."""
    stem = FAMILIES[family].stem
    config = getattr(transformers, f"{stem}Config")(**SETTINGS[family][setting])
    return randomize(getattr(transformers, stem + head)(config))


def pair(family: str, head: str, folder: Path, setting: int = 0) -> tuple[nn.Module, nn.Module]:
    """Transformers' class, and ours with what it has saved."""
    theirs = theirs_of(family, head, setting)
    theirs.save_pretrained(folder)
    return theirs, FAMILIES[family].model(head).from_pretrained(folder).eval()


def name_of(family: str) -> str:
    """The argument that images or clips are."""
    return "input_values" if family == AST else "pixel_values"


def values_of(config, count: int = 3, seed: int = 1) -> torch.Tensor:
    """Images or clips of the model's own size."""
    generator = torch.Generator().manual_seed(seed)
    if config.model_type == AST:
        return torch.randn(count, config.max_length, config.num_mel_bins, generator=generator)
    side = config.image_size
    return torch.randn(count, config.num_channels, side, side, generator=generator)


def mixed_values(config, seed: int = 1) -> list[torch.Tensor]:
    """Images or clips of several sizes."""
    generator = torch.Generator().manual_seed(seed)
    if config.model_type == AST:
        return [torch.randn(frames, config.num_mel_bins, generator=generator) for frames in CLIPS]
    return [torch.randn(config.num_channels, *sides, generator=generator) for sides in MIXED]


def one_by_one(theirs: nn.Module, values: list[torch.Tensor], output: str) -> list[torch.Tensor]:
    """What transformers' class gives for each image alone, at its own size.

    For a clip that is a class whose `max_length` is the clip's, with the positions of its times.
    """
    if theirs.config.model_type != AST:
        return [theirs(each[None], interpolate_pos_encoding=True)[output] for each in values]
    return [cut_to(theirs, len(each))(each[None])[output] for each in values]


def cut_to(theirs: nn.Module, frames: int) -> nn.Module:
    """An AST for clips of so many frames, whose position vectors are the first of `theirs`."""
    config = theirs.config
    down, across = (
        (size - config.patch_size) // step + 1
        for size, step in (
            (config.num_mel_bins, config.frequency_stride),
            (config.max_length, config.time_stride),
        )
    )
    kept = (frames - config.patch_size) // config.time_stride + 1
    state, shorter = dict(theirs.state_dict()), type(config)(**config.to_dict())
    shorter.max_length = frames
    (name,) = (name for name in state if name.endswith("position_embeddings"))
    table = state[name]
    grid = table[:, 2:].view(1, down, across, -1)[:, :, :kept]
    state[name] = torch.cat([table[:, :2], grid.reshape(1, down * kept, -1)], dim=1)
    made = type(theirs)(shorter)
    made.load_state_dict(state)
    return made.eval()


@dataclass(frozen=True)
class PatchCase(Case):
    """A `Case` of images: of one size, or a list of several."""

    family: str = "vit"
    is_mixed: bool = False

    def model(self, attention: str = "sdpa", **overrides) -> nn.Module:
        model = self.model_class(self.model_class.config_class(**{**self.config, **overrides}))
        model.set_attn_implementation(attention)
        return self.place(randomize(model).to(self.dtype))

    def batch(self, side: str = "right", masked: bool = True, seed: int = 1) -> dict:
        config = self.model_class.config_class(**self.config)
        if self.is_mixed:
            values = [each.to(self.device) for each in mixed_values(config, seed)]
        else:
            values = values_of(config, 4, seed).to(self.device)
        return {name_of(self.family): values}

    def make_labels(self, batch: dict, seed: int = 2) -> dict[str, torch.Tensor]:
        (values,) = batch.values()
        if not self.labels:
            return {}
        if "bool_masked_pos" in self.labels:
            return {"bool_masked_pos": torch.arange(len(values) * 9).view(-1, 9) % 3 == 0}
        return {"labels": torch.arange(len(values), device=self.device) % 3}

    def real(self, outputs, batch: dict) -> dict[str, torch.Tensor]:
        return {name: outputs[name].detach() for name in self.outputs}

    def loss(self, model: nn.Module, batch, labels=None, **kwargs) -> torch.Tensor:
        if labels:
            return model(**batch, **labels, **kwargs).loss
        outputs = model(**batch, **kwargs)
        return sum(outputs[name].square().mean() for name in self.outputs)


def cases(family: str) -> list[PatchCase]:
    """A case of each head, over images of one size and, where the head takes them, of several."""
    made = []
    for head in FAMILIES[family].heads:
        labels = {"labels": "class"} if head in CLASSIFYING else {}
        if head == "ForMaskedImageModeling":
            labels = {"bool_masked_pos": "mask"}
        model_class, outputs = FAMILIES[family].model(head), dict.fromkeys(OUTPUTS[head], "row")
        for is_mixed in (False, True):
            if is_mixed and head == "ForMaskedImageModeling":
                continue
            name = f"{model_class.__name__}{'-mixed' if is_mixed else ''}"
            config = SETTINGS[family][0]
            made.append(
                PatchCase(
                    model_class,
                    outputs,
                    labels,
                    config,
                    name=name,
                    family=family,
                    is_mixed=is_mixed,
                )
            )
    return made
