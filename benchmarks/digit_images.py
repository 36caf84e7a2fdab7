"""Handwritten digits by a small ViT trained from scratch, beside k nearest neighbours.

The 1,797 images of 8 by 8 pixels that scikit-learn ships (Alpaydin and Kaynak 1998, UCI's test
part). A quarter is held out at random, which is the split that people report, several times with
other seeds; and, harder, the later half by order of the file, which other people have written.
Images are shifted, turned, sheared and scaled a little in training; the number of steps is fixed
beforehand and the last model is judged. Settings were chosen by looking at the split of seed 0, and
the number of steps at those of seeds 0 and 1.

`python -m benchmarks digit-images --out FOLDER` keeps the first model with its image processor.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from common import print_environment
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from transformers import ViTImageProcessorPil

from bertlite.models.vit import ViTConfig, ViTForImageClassification

BATCH, RATE = 64, 1e-3


def config() -> ViTConfig:
    """Four patches of four by four pixels, two narrow layers."""
    return ViTConfig(
        image_size=8,
        patch_size=4,
        num_channels=1,
        num_labels=10,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        initializer_range=0.1,
        id2label={digit: str(digit) for digit in range(10)},
    )


def pixels(images: np.ndarray) -> torch.Tensor:
    """Images `(B, 8, 8)` of 0 to 16 as `(B, 1, 8, 8)` of -1 to 1."""
    return torch.tensor(images, dtype=torch.float32)[:, None] / 8 - 1


def moved(images: torch.Tensor) -> torch.Tensor:
    """Images `(B, 1, 8, 8)`, each turned, sheared, scaled and shifted by chance; white is -1."""
    count = len(images)
    angle, shear = (torch.rand(2, count) - 0.5) * torch.tensor([[0.4], [0.3]])  # radians
    scale = 1 + (torch.rand(2, count) - 0.5) * 0.2
    shift = (torch.rand(2, count) - 0.5) * 0.5  # of half a width: a pixel to each side
    cosine, sine = angle.cos(), angle.sin()
    rows = [
        torch.stack([cosine * scale[0], (shear - sine) * scale[0], shift[0]], dim=1),
        torch.stack([sine * scale[1], cosine * scale[1], shift[1]], dim=1),
    ]
    grid = nn.functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), False)
    return nn.functional.grid_sample(images + 1, grid, align_corners=False) - 1


def train(images: torch.Tensor, labels: torch.Tensor, steps: int, seed: int) -> nn.Module:
    """A ViT from nothing, by AdamW with a warm-up and a cosine."""
    torch.manual_seed(seed)
    model = ViTForImageClassification(config()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    done = 0
    while done < steps:
        for rows in torch.randperm(len(images)).split(BATCH)[: steps - done]:
            model(moved(images[rows]), labels=labels[rows]).loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            done += 1
    return model.eval()


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of images whose digit is found."""
    with torch.no_grad():
        found = model(images).logits.argmax(-1)
    return float((found == labels).double().mean())


def neighbours(images: torch.Tensor, labels: torch.Tensor, train_rows, held_out) -> float:
    """The same of three nearest neighbours, by the pixels."""
    flat = images.flatten(1).numpy()
    known = KNeighborsClassifier(3).fit(flat[train_rows], labels[train_rows])
    return float(known.score(flat[held_out], labels[held_out]))


def keep(model: nn.Module, folder: Path) -> None:
    """The model and what prepares images for it."""
    model.save_pretrained(folder)
    processor = ViTImageProcessorPil(
        size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5]
    )
    processor.save_pretrained(folder)


def main() -> None:
    """Train and judge on each split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument(
        "--splits", nargs="+", default=["0", "1", "2", "later"], help="seeds, and the later half"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a folder for the first model")
    options = parser.parse_args()
    print_environment(options.threads)
    digits = load_digits()
    images, labels = pixels(digits.images), torch.tensor(digits.target)
    rows, half = np.arange(len(labels)), len(labels) // 2
    print(f"\n{'held out':34s} {'images':>6s}   ViT     3 neighbours   seconds of training")
    for split in options.splits:
        name, seed = "the later half, other writers", 0
        train_rows, held_out = rows[:half], rows[half:]
        if split != "later":
            name, seed = f"a quarter at random, seed {split}", int(split)
            train_rows, held_out = train_test_split(
                rows, test_size=0.25, stratify=labels, random_state=seed
            )
        start = time.process_time()
        model = train(images[train_rows], labels[train_rows], options.steps, seed)
        seconds = time.process_time() - start
        if options.out is not None and split == options.splits[0]:
            keep(model, options.out)
        ours = accuracy(model, images[held_out], labels[held_out])
        theirs = neighbours(images, labels, train_rows, held_out)
        line = f"{name:34s} {len(held_out):6d}   {ours:.4f}  {theirs:.4f}         {seconds:.0f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
