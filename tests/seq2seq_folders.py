"""Folders of tiny encoder-decoders with their own tokenizers, as transformers saves them."""

import json
from pathlib import Path

import sentencepiece
import transformers
from seq2seq_cases import their_model

from bertlite.inference.language_codes import language_tokens

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXTS = ["a bad cab", "deaf hide", "jig"]


def pieces() -> list[str]:
    return [*(f"▁{letter}" for letter in LETTERS), *LETTERS]


def unigram(specials=("<s>", "<pad>", "</s>", "<unk>")) -> list[tuple[str, float]]:
    return [
        *((token, 0.0) for token in specials),
        ("▁", -9.0),
        *((each, -5.0) for each in pieces()),
    ]


def m2m100_tokenizer(folder: Path):
    """Its sentencepiece model, of BPE as in the published ones, is trained on the letters."""
    folder.mkdir(parents=True, exist_ok=True)
    text, prefix = folder / "text.txt", folder / "sentencepiece.bpe"
    text.write_text("\n".join([" ".join(LETTERS), LETTERS, *TEXTS]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(prefix),
        vocab_size=40,
        model_type="bpe",
        minloglevel=2,
    )
    trained = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    pieces_there = [trained.id_to_piece(number) for number in range(3, len(trained))]
    words = ["<s>", "<pad>", "</s>", "<unk>", *pieces_there]
    vocabulary = folder / "words.json"
    vocabulary.write_text(json.dumps({word: number for number, word in enumerate(words)}))
    return transformers.M2M100Tokenizer(str(vocabulary), f"{prefix}.model", num_madeup_words=0)


def nllb_tokenizer(folder: Path):
    words = ["<s>", "<pad>", "</s>", "<unk>", "▁", *pieces()]
    merges = [("▁", letter) for letter in LETTERS]
    return transformers.NllbTokenizer({word: i for i, word in enumerate(words)}, merges)


def mbart_tokenizer(folder: Path):
    return transformers.MBartTokenizer(unigram())


def mbart50_tokenizer(folder: Path):
    return transformers.MBart50Tokenizer(unigram())


def pegasus_tokenizer(folder: Path):
    specials = ("<pad>", "</s>", "<unk>", "<mask_1>", "<mask_2>")
    return transformers.PegasusTokenizer(
        [*((token, 0.0) for token in specials), ("▁", -9.0), *((each, -5.0) for each in pieces())],
        offset=0,
    )


def bart_tokenizer(folder: Path):
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *LETTERS, *(f"Ġ{x}" for x in LETTERS), "Ġ"]
    merges = [("Ġ", letter) for letter in LETTERS]
    return transformers.BartTokenizer({word: i for i, word in enumerate(words)}, merges)


# Name: how its tokenizer is made, its family, and its codes of three languages.
KINDS = {
    "m2m100": (m2m100_tokenizer, "m2m_100", ("en", "fr", "de")),
    "nllb": (nllb_tokenizer, "m2m_100", ("eng_Latn", "fra_Latn", "deu_Latn")),
    "mbart": (mbart_tokenizer, "mbart", ("en_XX", "fr_XX", "de_DE")),
    "mbart50": (mbart50_tokenizer, "mbart", ("en_XX", "fr_XX", "de_DE")),
    "bart": (bart_tokenizer, "bart", ()),
    "pegasus": (pegasus_tokenizer, "pegasus", ()),
}


def make_folder(kind: str, folder: Path, **fields):
    """Save a model and its tokenizer as transformers does; both, and the codes it knows."""
    make, family, codes = KINDS[kind]
    tokenizer = make(folder / "parts")
    known = [*tokenizer.get_vocab().values(), *language_tokens(tokenizer).values()]
    if kind == "mbart50":
        fields["decoder_start_token_id"] = 2
    model = their_model(family, vocab_size=max(known) + 1, std=0.3, **fields)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer, codes
