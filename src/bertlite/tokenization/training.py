"""Tokenizers of one's own.

WordPiece for BERT, joint byte-pair encoding (BPE) for translation; `bertlite tokenizer`.

Both are trained by the `tokenizers` library and saved so that `AutoTokenizer.from_pretrained` loads
them.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import BertTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils.logging import tqdm

from ..data.formats import READERS, lines_of, open_text, suffix_of
from ..data.problems import BadRow, has_surrogates

# As in bert-base-uncased: padding at 0, the other special tokens at 100 to 103, and places for
# tokens to come between.
BERT_SPECIAL_TOKENS = (
    "[PAD]",
    *(f"[unused{number}]" for number in range(99)),
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
)
TRANSLATION_SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")  # 0, 1, 2
LONGEST_TOKEN = 64  # characters; lines of dashes would fill the vocabulary otherwise
MEASURED = 10_000  # held-out texts at most


def train_wordpiece(
    texts: Iterable[str],
    *,
    vocab_size: int = 30_522,
    lowercase: bool = True,
    min_frequency: int = 2,
    limit_alphabet: int | None = None,
    model_max_length: int = 512,
    show_progress: bool = False,
) -> BertTokenizer:
    """Train BERT's tokenizer.

    Words and punctuation apart, each Chinese character a word, WordPiece inside words.

    Special tokens have the numbers of bert-base-uncased (0, 100 to 103), with 99 unused ones
    between.

    Deviation: the trainer of `tokenizers` joins the most frequent pair, where WordPiece (Schuster
    and Nakajima 2012) joins the pair that raises the likelihood most; Google's own trainer was not
    published with BERT.

    Args:
        texts: what to learn from; read once, of which the different words are kept.
        vocab_size: tokens at most, special ones included; BERT's has 30,522.
        lowercase: lower case and without accents ("uncased"); False keeps both ("cased").
        min_frequency: occurrences below which a pair is not joined.
        limit_alphabet: the most frequent characters only, others are [UNK]; None: a quarter of
            `vocab_size`.
        model_max_length: tokens of the longest input, which `truncation=True` cuts to.
        show_progress: show bars while training.

    Returns:
        The fast tokenizer, ready for `save_pretrained`.

    Raises:
        ValueError: a number is too small, `texts` is a single text, or there was no text.
    """
    check_sizes(vocab_size, len(BERT_SPECIAL_TOKENS), min_frequency, model_max_length)
    limit = max(vocab_size // 4, 1) if limit_alphabet is None else limit_alphabet
    if limit < 1:
        raise ValueError(f"limit_alphabet must be at least 1, got {limit_alphabet}")
    backend = Tokenizer(models.WordPiece(vocab={}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lowercase
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    chunks: Counter[str] = Counter()
    for text in not_empty(texts):
        chunks.update(text.split())
    alphabet, inside = characters(backend, chunks, limit)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        special_tokens=[*BERT_SPECIAL_TOKENS, *inside],
        continuing_subword_prefix="##",
        show_progress=show_progress,
    )
    backend.train_from_iterator(repeated(chunks), trainer=trainer)
    return BertTokenizer(
        vocab=backend.get_vocab(), do_lower_case=lowercase, model_max_length=model_max_length
    )


def train_joint_bpe(
    texts: Iterable[str],
    *,
    vocab_size: int = 8_000,
    min_frequency: int = 2,
    model_max_length: int = 512,
    show_progress: bool = False,
) -> PreTrainedTokenizerFast:
    """Train one byte-pair encoding for both languages of a translation model (Sennrich et al.

    2016, joint BPE).

    The alphabet is the 256 bytes, so that any text can be written and `decode(encode(x),
    skip_special_tokens=True)` is `x` again, spaces and all. Words are kept apart from punctuation,
    and carry the space before them; the first word is given one too, so that it is the same token
    wherever it stands. Every text ends with `</s>`, as in Marian. Numbers: `<pad>` 0, with which a
    decoder starts as well (`decoder_start_token_id = tokenizer.pad_token_id`), `</s>` 1, `<unk>` 2
    (never needed).

    Args:
        texts: of source and target together; read once, and not kept.
        vocab_size: tokens at most; the paper has 37,000 for 4.5 million pairs, a small corpus wants
            4,000 to 16,000.
        min_frequency: occurrences below which a pair is not joined.
        model_max_length: tokens of the longest input, which `truncation=True` cuts to.
        show_progress: show bars while training.

    Returns:
        The fast tokenizer, ready for `save_pretrained`.

    Raises:
        ValueError: a number is too small, `texts` is a single text, or there was no text.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    check_sizes(
        vocab_size, len(TRANSLATION_SPECIAL_TOKENS) + len(alphabet), min_frequency, model_max_length
    )
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.Prepend(" ")
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        initial_alphabet=alphabet,
        special_tokens=list(TRANSLATION_SPECIAL_TOKENS),
        max_token_length=LONGEST_TOKEN,
        show_progress=show_progress,
    )
    backend.train_from_iterator(not_empty(texts), trainer=trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", backend.token_to_id("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=model_max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def check_sizes(vocab_size: int, least: int, min_frequency: int, model_max_length: int) -> None:
    """Refuse a vocabulary that has no room for a token of its own, and numbers below their least."""
    if vocab_size <= least:
        raise ValueError(
            f"vocab_size must be above {least}, which special tokens and bytes take, got "
            f"{vocab_size}"
        )
    if min_frequency < 1:
        raise ValueError(f"min_frequency must be at least 1, got {min_frequency}")
    if model_max_length < 2:
        raise ValueError(f"model_max_length must be at least 2, got {model_max_length}")


def not_empty(texts: Iterable[str]) -> Iterator[str]:
    """The texts; a ValueError where there is none to learn from."""
    if isinstance(texts, str):
        raise ValueError(
            "texts must be many texts, got a single one: give [text], or the lines of a file"
        )
    count = 0
    for text in texts:
        if text.strip():
            count += 1
            yield text
    if not count:
        raise ValueError("texts must hold at least one that is not empty, got none")


def characters(backend: Tokenizer, chunks: Counter[str], limit: int) -> tuple[list[str], list[str]]:
    """The most frequent characters, and those of them that stand inside words, with "##" before
    them.

    The trainer would number the latter by the order of a hash map, another one each time, and
    equally frequent pairs by these numbers: named in advance, the same texts always give the same
    vocabulary.
    """
    counts: Counter[str] = Counter()
    inside: set[str] = set()
    for chunk, count in chunks.items():
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(
            backend.normalizer.normalize_str(chunk)
        ):
            inside.update(word[1:])
            for character in word:
                counts[character] += count
    alphabet = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:limit])
    return alphabet, [f"##{character}" for character in alphabet if character in inside]


def repeated(chunks: Counter[str]) -> Iterator[str]:
    """Texts in which each chunk stands as often as it was counted."""
    for chunk, count in chunks.items():
        for start in range(0, count, 1000):
            yield " ".join([chunk] * min(1000, count - start))


@dataclass(frozen=True)
class TokenizerReport:
    """How a tokenizer does on texts that it was not trained on.

    `str(report)` is made to be printed.

    Attributes:
        vocab_size: tokens in the vocabulary.
        texts: that were measured.
        words: between spaces.
        tokens: without special ones.
        unknown: tokens that stand for what the vocabulary cannot write.
        whole_words: words that are a single token.
        lossless_texts: texts that decode to themselves; None for WordPiece, which forgets spaces
            and case by design.
    """

    vocab_size: int
    texts: int
    words: int
    tokens: int
    unknown: int
    whole_words: int
    lossless_texts: int | None

    @property
    def tokens_per_word(self) -> float:
        """Also called fertility; 1 is the least, about 1.2 to 1.6 is usual."""
        return self.tokens / max(self.words, 1)

    @property
    def unknown_rate(self) -> float:
        """Share of tokens that are unknown."""
        return self.unknown / max(self.tokens, 1)

    @property
    def coverage(self) -> float:
        """Share of words that are a single token."""
        return self.whole_words / max(self.words, 1)

    def __str__(self) -> str:
        lines = [
            f"vocabulary        {self.vocab_size:,} tokens",
            f"measured on       {self.texts:,} held-out texts, {self.words:,} words, "
            f"{self.tokens:,} tokens",
            f"tokens per word   {self.tokens_per_word:.3f}",
            f"coverage          {self.coverage:.2%} of the words are a single token",
            f"unknown rate      {self.unknown_rate:.4%} of the tokens",
        ]
        if self.lossless_texts is not None:
            lines.append(
                f"round trip        {self.lossless_texts / max(self.texts, 1):.2%} of the texts "
                "decode to themselves"
            )
        return "\n".join(lines)


def measure(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> TokenizerReport:
    """Measure a fast tokenizer on texts that it was not trained on."""
    texts = [text for text in texts if text.strip()]
    words = [word for text in texts for word in text.split()]
    encoded = (
        tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        if texts
        else []
    )
    alone = tokenizer(words, add_special_tokens=False)["input_ids"] if words else []
    unknown = tokenizer.unk_token_id
    lossless = None
    if not isinstance(tokenizer, BertTokenizer):
        lossless = sum(
            text == back for text, back in zip(texts, tokenizer.batch_decode(encoded), strict=True)
        )
    return TokenizerReport(
        vocab_size=len(tokenizer),
        texts=len(texts),
        words=len(words),
        tokens=sum(map(len, encoded)),
        unknown=sum(ids.count(unknown) for ids in encoded),
        whole_words=sum(len(ids) == 1 and ids != [unknown] for ids in alone),
        lossless_texts=lossless,
    )


def read_texts(paths: Sequence[str | Path], fields: Sequence[str] = ()) -> Iterator[str]:
    """Texts of files.

    A line each of plain text; of rows (JSON lines, CSV, Parquet, …) each of the fields.

    Args:
        paths: files, compressed or not.
        fields: of rows; `translation.en` is the field `en` inside `translation`.

    Raises:
        ValueError: a file or a field is missing, a line is not UTF-8 or broken, or rows come
            without fields.
    """
    for path in map(Path, paths):
        if suffix_of(path) not in READERS:
            if fields:
                raise ValueError(
                    f"--field is for rows ({', '.join(READERS)}), got the plain text {path}"
                )
            with open_text(path) as file:
                for number, line in enumerate(lines_of(file), start=1):
                    yield checked(line, f"{path.name} line {number}")
            continue
        if not fields:
            raise ValueError(f"--field must name the texts' fields in {path}, got none")
        for where, row in READERS[suffix_of(path)](path):
            if isinstance(row, BadRow):
                raise ValueError(f"{where}: {row}")
            for name in fields:
                yield checked(field_of(row, name, where), where)


def field_of(row: dict[str, Any], name: str, where: str) -> Any:
    """The field of a row; a dot goes one level in."""
    value: Any = row
    for key in [name] if name in row else name.split("."):
        if not isinstance(value, dict) or key not in value:
            raise ValueError(
                f"{where}: --field must be one of {', '.join(row)} (or inside one), got {name!r}"
            )
        value = value[key]
    return value


def checked(text: Any, where: str) -> str:
    """The text, if it is one and UTF-8."""
    if not isinstance(text, str):
        raise ValueError(f"{where}: must be a text, got {type(text).__name__}")
    if has_surrogates(text):
        raise ValueError(f"{where}: must be UTF-8, got {ascii(text[:60])}")
    return text


DESCRIPTION = """Train a tokenizer on your own texts, measure it on others that it has not seen, and save it.

wordpiece   BERT's: for pretraining a BERT, or one in a new language or field.
bpe         joint byte-pair encoding: for translation and summarisation; give source and target texts together.
"""
EPILOG = """examples:
  bertlite tokenizer train wordpiece books.txt --output-dir out/tokenizer
  bertlite tokenizer train wordpiece articles.jsonl.gz --field text --vocab-size 16000 --cased --output-dir out/cased
  bertlite tokenizer train bpe train.jsonl.gz --field translation.en --field translation.de --output-dir out/en-de
  bertlite tokenizer train bpe train.en train.de --vocab-size 8000 --output-dir out/en-de

then, in Python:
  tokenizer = transformers.AutoTokenizer.from_pretrained("out/en-de")

how many tokens: more make shorter inputs and larger embeddings, of which rare ones learn little. BERT has 30,522 for
3.3 billion words; 4,000 to 16,000 suit up to some million words. "tokens per word" below 1.6 is usual.
"""
VOCAB_SIZES = {"wordpiece": 30_522, "bpe": 8_000}


def main(argv: list[str]) -> int:
    """Run `bertlite tokenizer`.

    See its `--help`. A ValueError refuses bad input before any work.
    """
    arguments = make_parser().parse_args(argv)
    output = Path(arguments.output_dir)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"--output-dir must be new or empty, got {output}")
    if arguments.held_out < 2:
        raise ValueError(f"--held-out must be at least 2, got {arguments.held_out}")
    for name in [*arguments.files, *(arguments.held_out_files or [])]:
        if not Path(name).is_file():
            raise ValueError(f"files must exist, got {name}")
    options = {
        "vocab_size": arguments.vocab_size or VOCAB_SIZES[arguments.type],
        "min_frequency": arguments.min_frequency,
        "model_max_length": arguments.model_max_length,
    }
    held_out: list[str] = []
    texts = tqdm(training_texts(arguments, held_out), desc="reading", unit=" texts")
    tokenizer: PreTrainedTokenizerBase
    if arguments.type == "wordpiece":
        tokenizer = train_wordpiece(
            texts,
            lowercase=not arguments.cased,
            limit_alphabet=arguments.limit_alphabet,
            show_progress=True,
            **options,
        )
    else:
        tokenizer = train_joint_bpe(texts, show_progress=True, **options)
    if arguments.held_out_files:
        held_out = list(islice(read_texts(arguments.held_out_files, arguments.field), MEASURED))
    tokenizer.save_pretrained(output)
    sys.stdout.write(f"{measure(tokenizer, held_out)}\nsaved in          {output}\n")
    return 0


def training_texts(arguments: argparse.Namespace, held_out: list[str]) -> Iterator[str]:
    """Texts to train on.

    Every `held_out`th goes into the list instead, unless there are files to measure on.
    """
    for number, text in enumerate(read_texts(arguments.files, arguments.field), start=1):
        if (
            not arguments.held_out_files
            and number % arguments.held_out == 0
            and len(held_out) < MEASURED
        ):
            held_out.append(text)
        else:
            yield text


def make_parser() -> argparse.ArgumentParser:
    """The options of `bertlite tokenizer train`."""
    parser = argparse.ArgumentParser(
        prog="bertlite tokenizer", description="Train a tokenizer on your own texts."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser(
        "train",
        help="train, measure and save one",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(name: str, **options: Any) -> None:
        """Add an option in both spellings, as `bertlite finetune` has them."""
        names = dict.fromkeys([name, name[:2] + name[2:].replace("-", "_")])
        train.add_argument(*names, **options)

    add("type", choices=sorted(VOCAB_SIZES), help="which kind, see above")
    add(
        "files",
        nargs="+",
        help="plain text (one a line), or JSON lines, CSV, TSV, Parquet with --field; also .gz",
    )
    add("--output-dir", required=True, metavar="FOLDER", help="where it is saved; new or empty")
    add(
        "--field",
        action="append",
        default=[],
        metavar="NAME",
        help="field that holds texts, may be given again; translation.en is en inside translation",
    )
    add(
        "--vocab-size",
        type=int,
        metavar="N",
        help="tokens at most (default: 30522 for wordpiece, 8000 for bpe)",
    )
    add(
        "--min-frequency",
        type=int,
        default=2,
        metavar="N",
        help="do not join pairs that are rarer (default: %(default)s)",
    )
    add(
        "--model-max-length",
        type=int,
        default=512,
        metavar="N",
        help="tokens of the longest input of your model (default: %(default)s)",
    )
    add("--cased", action="store_true", help="wordpiece: keep case and accents (default: neither)")
    add(
        "--limit-alphabet",
        type=int,
        metavar="N",
        help="wordpiece: characters to keep, the most frequent (default: a quarter of the "
        "vocabulary)",
    )
    add(
        "--held-out",
        type=int,
        default=100,
        metavar="N",
        help="measure on every Nth text, which is not trained on (default: %(default)s)",
    )
    add(
        "--held-out-files",
        nargs="+",
        metavar="FILE",
        help="measure on these instead, with the same fields",
    )
    return parser
