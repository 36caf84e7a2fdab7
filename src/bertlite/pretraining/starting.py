"""A trained BERT that pretraining goes on from: checked first, loaded when the text is ready."""

from typing import Any

import torch
from transformers.utils import logging

from ..inference.loading import read_config
from ..models.configuration import BertLiteConfig
from ..models.modeling_bertlite import BertLiteForPreTraining
from ..tokenization import vocabulary_size

PAIR_HEADS = ("ForPreTraining", "ForNextSentencePrediction")


def read_start(source: str) -> BertLiteConfig:
    """The config of a folder or hub name, without its weights.

    Raises:
        ValueError: there is no such model, or it is no BERT.
    """
    fields = read_config("", source)
    family = fields.get("model_type")
    if family is not None and family not in BertLiteConfig.accepted_model_types:
        raise ValueError(f"model must be a BERT, got model_type {family!r} in {source}")
    return BertLiteConfig.from_pretrained(source)


def judges_pairs(config: BertLiteConfig) -> bool:
    """Whether a model has a head that says if one segment follows another."""
    return any(name.endswith(PAIR_HEADS) for name in config.architectures or [])


def check_tokenizer(tokenizer: Any, config: BertLiteConfig, own: Any = None) -> None:
    """Refuse a tokenizer whose ids are not those that the model has learned.

    Args:
        tokenizer: to train with.
        config: of the model.
        own: the model's own tokenizer, where another one was given.

    Raises:
        ValueError: ids beyond the model's table, or tokens that have another id in the model's own.
    """
    needed = vocabulary_size(tokenizer)
    if needed > config.vocab_size:
        raise ValueError(
            f"tokenizer must give ids below the model's vocab_size = {config.vocab_size}, got ids "
            f"up to {needed - 1}; for new tokens, call resize_token_embeddings on the model first"
        )
    if own is None:
        return
    known = own.get_vocab()
    for token, number in sorted(tokenizer.get_vocab().items()):
        if known.get(token, number) != number:
            raise ValueError(
                "tokenizer must give the ids that the model was trained with, got "
                f"{number} for {token!r}, which was {known[token]}"
            )


def load_start(source: str) -> tuple[BertLiteForPreTraining, list[str], list[str]]:
    """The model in float32, with both pretraining heads.

    Returns:
        It; the names of weights that the folder lacks, which are random: heads, and the pooler; and
        of those that it has no place for, such as a classifier.

    Raises:
        ValueError: weights of the encoder are missing.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # the report is for the caller, who knows what may be missing
    try:
        model, info = BertLiteForPreTraining.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, RuntimeError) as error:  # no weights, or those of other sizes
        raise ValueError(
            f"model must hold a BERT's weights, got {source}: {' '.join(str(error).split())[:300]}"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    new, left = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    lacking = [name for name in new if not name.startswith("cls.") and ".pooler." not in name]
    if lacking:
        raise ValueError(
            f"model must hold a BERT's weights, got {source} without {', '.join(lacking[:3])}"
        )
    return model, new, left
