"""Which tokens are to be predicted, and what the model sees in their place (Devlin et al.

2018, section 3.1).

Shapes: `B` rows, `T` length, `V` vocabulary.
"""

from dataclasses import dataclass

import numpy as np

from bertlite.models.inputs import IGNORED


@dataclass(frozen=True)
class MaskingOptions:
    """How tokens are masked.

    Args:
        probability: share of a row's tokens to predict ([CLS] and [SEP] count for the share, but
            are never chosen).
        max_predictions: at most so many a row; None: no further limit.
        whole_words: choose words, all of whose pieces are then predicted, instead of pieces.
        mask_share: of the chosen, how many the model sees as [MASK]; `random_share`: as a random
            token; the rest stays.

    Raises:
        ValueError: a share outside its range.
    """

    probability: float = 0.15
    max_predictions: int | None = None
    whole_words: bool = False
    mask_share: float = 0.8
    random_share: float = 0.1

    def __post_init__(self):
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability must be above 0 and at most 1, got {self.probability}")
        if self.mask_share < 0 or self.random_share < 0 or self.mask_share + self.random_share > 1:
            came = f"{self.mask_share} and {self.random_share}"
            raise ValueError(
                "mask_share and random_share must be at least 0, and at most 1 together, got "
                f"{came}"
            )
        if self.max_predictions is not None and self.max_predictions < 1:
            raise ValueError(
                f"max_predictions must be at least 1 or None, got {self.max_predictions}"
            )


def mask_tokens(
    ids: np.ndarray,
    maskable: np.ndarray,
    continues: np.ndarray,
    lengths: np.ndarray,
    options: MaskingOptions,
    *,
    mask_id: int,
    ordinary_ids: np.ndarray,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the tokens to predict and what stands in their place.

    Args:
        ids: `(B, T)`.
        maskable: `(B, T)` True but for special tokens and padding.
        continues: `(B, T)` True where a token goes on with the word of the one before it.
        lengths: `(B,)` tokens of each row, special ones included.
        options: how many, and how.
        mask_id: of [MASK].
        ordinary_ids: the ids to draw random tokens from: no special ones.
        generator: draws everything, so that the result depends on its seed only.

    Returns:
        The ids that the model sees, `(B, T)`, and the labels, `(B, T)`: -100 where nothing is
        predicted.
    """
    wanted = np.maximum(1, np.rint(lengths * options.probability).astype(int))
    wanted = np.minimum(wanted, options.max_predictions or wanted)  # (B,)
    choose = choose_words if options.whole_words else choose_tokens
    chosen = choose(maskable, continues, wanted, generator)  # (B, T)
    labels = np.where(chosen, ids, IGNORED)
    draw = generator.random(ids.shape)
    random_ids = ordinary_ids[generator.integers(len(ordinary_ids), size=ids.shape)]
    seen = np.where(chosen & (draw < options.mask_share), mask_id, ids)
    as_random = (draw >= options.mask_share) & (draw < options.mask_share + options.random_share)
    return np.where(chosen & as_random, random_ids, seen), labels


def choose_tokens(maskable, continues, wanted, generator) -> np.ndarray:
    """`wanted` tokens of each row, all equally likely: those of the smallest random keys."""
    keys = np.where(maskable, generator.random(maskable.shape), 2.0)  # (B, T)
    ranks = keys.argsort(-1).argsort(-1)
    return maskable & (ranks < wanted[:, None])


def choose_words(maskable, continues, wanted, generator) -> np.ndarray:
    """Whole words in random order, as long as their tokens fit into `wanted`.

    One that is too long is passed over.

    A word that a cut has left without its beginning counts as a word. Deviation: where no word
    fits, as in a row of one long word, the original predicts nothing; here the shortest is taken,
    so that every row carries a label.
    """
    chosen = np.zeros_like(maskable)
    for row in range(len(maskable)):
        places = maskable[row].nonzero()[0]
        if not len(places):
            continue
        begins = ~continues[row, places] | (np.diff(places, prepend=-2) != 1)
        words = np.split(places, begins.nonzero()[0][1:])
        room = int(wanted[row])
        for number in generator.permutation(len(words)):
            if len(words[number]) <= room:
                chosen[row, words[number]] = True
                room -= len(words[number])
            if not room:
                break
        if not chosen[row].any():
            chosen[row, min(words, key=len)] = True
    return chosen
