"""Small texts, tokenizers and models for the tests of `bertlite.inference`, and one way to compare
results.
"""

import functools

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertTokenizer, PreTrainedTokenizerFast

import bertlite

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SENTENCE = "the cat sat on a mat in paris london anna went to cafe and drank tea with bob who where"
WORDS = SENTENCE.split()
TEXTS = [
    "Anna went to Paris.",
    "the cat",
    "Bob  drank tea with Anna in a café, and the cat sat on a mat in London; who went to Paris?",
    "naïve cafe\u0301  zoo \U0001f600 中文 Łódź",
]
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


@functools.cache
def wordpiece() -> BertTokenizer:
    """A small vocabulary that can spell every other word of letters."""
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *WORDS,
        *LETTERS,
        *(f"##{c}" for c in LETTERS),
        *".,;?",
    ]
    return BertTokenizer(
        vocab={piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    )


def bert(head, tokenizer, positions=64, labels=None, **config):
    """A tiny model with weights large enough that its outputs differ from token to token."""
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    if labels is not None:
        config.update(
            id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)}
        )
    config = bertlite.BertLiteConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=positions,
        initializer_range=0.4,
        **sizes,
        **config,
    )
    torch.manual_seed(1)
    return getattr(bertlite, f"BertLiteFor{head}")(config).eval()


@functools.cache
def byte_pairs() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that ends every text with </s>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=280, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def tiny_writer(bpe) -> bertlite.TransformerLiteForConditionalGeneration:
    """A tiny encoder-decoder, with weights large enough that its outputs differ."""
    torch.manual_seed(3)
    layers = {
        f"{side}_{name}": n
        for side in ("encoder", "decoder")
        for name, n in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 64))
    }
    config = bertlite.preset(
        "transformer-base",
        vocab_size=len(bpe),
        d_model=32,
        max_position_embeddings=128,
        init_std=0.3,
        **layers,
    )
    return bertlite.TransformerLiteForConditionalGeneration(config).eval()


def same(found, expected, tolerance=1e-4):
    """Equal structure and strings, numbers within the tolerance."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            same(found[key], expected[key], tolerance)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other, tolerance)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=tolerance)
    else:
        assert found == expected
