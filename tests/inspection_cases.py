"""Tiny models with tokenizers, to look inside: the words are letters."""

import torch
from cases import bert_config, randomize, transformer_config
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import bertlite

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*"abcdefghijklmnop", "##b", "##c", "good", "bad", "film", "."]
WORDS = len(SPECIAL) + len(PIECES)
HEADS = ("SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM")


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece over `PIECES`: 'abc' is a, ##b, ##c."""
    vocabulary = {piece: number for number, piece in enumerate([*SPECIAL, *PIECES])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=40,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in names.items()},
    )


def tiny_bert(head: str = "SequenceClassification", **overrides) -> torch.nn.Module:
    """A BERT with large random weights; "" for one without a head."""
    name = f"BertLiteFor{head}" if head else "BertLiteModel"
    return randomize(getattr(bertlite, name)(bert_config(**{"vocab_size": WORDS, **overrides})))


def tiny_translator(**overrides) -> torch.nn.Module:
    """An encoder-decoder with large random weights, for the tokenizer's ids."""
    config = transformer_config(
        **{"vocab_size": WORDS, "eos_token_id": 3, "decoder_start_token_id": 0, **overrides}
    )
    model = randomize(bertlite.TransformerLiteForConditionalGeneration(config))
    model.generation_config.max_length = 9
    return model
