"""Images and clips of differing sizes: patches end to end against transformers' padded batch.

Random weights of layers of the base size; the same images and weights for all, in turn in one
process, outputs compared. Transformers' class takes images of one size, so its batch is made here
in the two ways that people use: tokens of each image padded to the longest, with a mask, which
gives the numbers of each image alone; and images resized to the largest, which gives others.

`python -m benchmarks mixed-sizes --help`.
"""

import argparse
import tempfile

import numpy as np
import torch
import transformers
from common import Race, print_environment
from torch import nn

import bertlite

TOLERANCE = 1e-4
AST = "audio-spectrogram-transformer"


def image_sides(count: int, low: int, high: int, seed: int = 0) -> list[tuple[int, int]]:
    """Heights and widths, each log-uniform between two sides, in whole patches of 16."""
    generator = np.random.default_rng(seed)
    drawn = np.exp(generator.uniform(np.log(low), np.log(high), (count, 2)))
    return [(int(height) // 16 * 16, int(width) // 16 * 16) for height, width in drawn]


def clip_frames(count: int, low: int, high: int, seed: int = 0) -> list[int]:
    """Frames of 10 ms, log-uniform."""
    generator = np.random.default_rng(seed)
    return np.exp(generator.uniform(np.log(low), np.log(high), count)).astype(int).tolist()


def tokens_of(model: nn.Module, value: torch.Tensor) -> torch.Tensor:
    """Transformers' embedding of one image or clip at its own size, `(T, E)`."""
    embeddings = model.embeddings
    if model.config.model_type != AST:
        return embeddings(value[None], interpolate_pos_encoding=True)[0]
    down, across = embeddings.get_shape(model.config)
    patches = embeddings.patch_embeddings(value[None])  # of a shorter clip, fewer columns
    table = embeddings.position_embeddings
    columns = patches.shape[1] // down
    places = table[:, 2:].unflatten(1, (down, across))[:, :, :columns].flatten(1, 2)
    own = torch.cat([embeddings.cls_token, embeddings.distillation_token], dim=1)
    return torch.cat([own + table[:, :2], patches + places], dim=1)[0]


class Padded(nn.Module):
    """Transformers' class on tokens that are padded to the longest image, with a mask."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.body = model, model.base_model

    def forward(self, values: list[torch.Tensor]) -> torch.Tensor:
        """The vectors of the class tokens, `(B, E)`."""
        tokens = [tokens_of(self.body, value) for value in values]
        lengths = torch.tensor([len(each) for each in tokens])
        hidden_states = nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        mask = (torch.arange(hidden_states.shape[1]) < lengths[:, None])[:, None, None]
        for layer in self.body.layers:
            hidden_states = layer(hidden_states, mask)
        return self.body.layernorm(hidden_states)[:, 0]


def resized(model: nn.Module, values: list[torch.Tensor], side: int) -> torch.Tensor:
    """Transformers' class on images that are brought to one size first; its numbers are others."""
    images = [
        nn.functional.interpolate(value[None], (side, side), mode="bilinear", antialias=True)
        for value in values
    ]
    outputs = model(torch.cat(images), interpolate_pos_encoding=True)
    return outputs.last_hidden_state[:, 0]


def class_vectors(model: nn.Module, values: list[torch.Tensor]) -> torch.Tensor:
    """Ours, `(B, E)`."""
    return model(values, first=1).last_hidden_state[:, 0]


def measure(name: str, theirs: nn.Module, values: list, largest: int | None, rounds: int) -> None:
    """One table: transformers' padded batch first, to which the others are compared."""
    with tempfile.TemporaryDirectory() as folder:
        transformers.utils.logging.set_verbosity_error()
        theirs.save_pretrained(folder)
        loaded = bertlite.load(folder)
        fast = bertlite.optimize(bertlite.load(folder))
    padded = Padded(theirs)
    calls = {
        "transformers, padded with a mask": lambda: padded(values),
        "bertlite, end to end, as loaded": lambda: class_vectors(loaded, values),
        "bertlite, end to end, optimised": lambda: class_vectors(fast, values),
        "bertlite, one by one": lambda: torch.cat([class_vectors(loaded, [v]) for v in values]),
    }
    with torch.inference_mode():
        expected = calls["transformers, padded with a mask"]()
        for call in calls.values():
            difference = (call() - expected).abs().max().item()
            assert difference < TOLERANCE, difference
        if largest is not None:
            calls["transformers, resized to the largest"] = lambda: resized(theirs, values, largest)
        lengths = torch.tensor([len(tokens_of(theirs.base_model, value)) for value in values])
        ratio = len(lengths) * lengths.max() / lengths.sum()
        race = Race(calls, pause=0.1).run(rounds)
    race.print(
        f"{name}: {len(values)} of {lengths.min()} to {lengths.max()} tokens, "
        f"{ratio:.2f} padded positions a real token"
    )


def main() -> None:
    """Measure images, then clips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--count", type=int, default=16, help="images, and clips, in a batch")
    parser.add_argument("--sides", type=int, nargs=2, default=(64, 384), help="pixels, from and to")
    parser.add_argument(
        "--frames", type=int, nargs=2, default=(64, 512), help="of 10 ms, from and to"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print_environment(options.threads)
    torch.manual_seed(0)
    config = transformers.ViTConfig(num_hidden_layers=options.layers)
    sides = image_sides(options.count, *options.sides)
    images = [torch.randn(3, *each) for each in sides]
    largest = max(max(each) for each in sides)
    model = transformers.ViTModel(config).eval()
    measure("ViT", model, images, largest, options.rounds)
    config = transformers.ASTConfig(num_hidden_layers=options.layers)
    frames = clip_frames(options.count, *options.frames)
    clips = [torch.randn(each, config.num_mel_bins) for each in frames]
    measure("AST", transformers.ASTModel(config).eval(), clips, None, options.rounds)


if __name__ == "__main__":
    main()
