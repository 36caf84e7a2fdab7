"""The command `bertlite tokenizer train`: a tokenizer of one's own, by the `tokenizers` library."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import BertTokenizer, PreTrainedTokenizerFast

from ..inference.loading import check_counts

KINDS = ("wordpiece", "bpe")
EXAMPLES = """examples:
  bertlite tokenizer train wordpiece texts.txt --output_dir out/tokenizer --vocab_size 30522
  bertlite tokenizer train bpe train.en train.de --output_dir out/tokenizer --vocab_size 32000    (one for both sides)
  bertlite tokenizer train bpe rows.jsonl --columns source target --output_dir out/tokenizer
"""


def main(argv: list[str]) -> int:
    """Run `bertlite tokenizer`."""
    parser = argparse.ArgumentParser(
        prog="bertlite tokenizer",
        description="Train a tokenizer: WordPiece for BERT, byte-level BPE for translation.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=["train"])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("files", nargs="+", help="text files, one text a line, or JSON lines with --columns")
    parser.add_argument("--output_dir", "--output-dir", required=True, help="a new or empty folder")
    parser.add_argument("--vocab_size", "--vocab-size", type=int, default=30522, help="default: %(default)s")
    parser.add_argument("--columns", nargs="+", help="columns of a table whose texts are read, nested ones by dots")
    parser.add_argument("--cased", action="store_true", help="wordpiece: keep capitals and accents")
    given = parser.parse_args(argv)
    options = {"vocab_size": given.vocab_size, "columns": given.columns, "lowercase": not given.cased}
    tokenizer = train_tokenizer(given.kind, given.files, given.output_dir, **options)
    sys.stdout.write(f"{len(tokenizer):,} entries: {given.output_dir}\n")
    return 0


def train_tokenizer(
    kind: str,
    files: list[str],
    output_dir: str | Path,
    *,
    vocab_size: int = 30522,
    columns: list[str] | None = None,
    lowercase: bool = True,
) -> Any:
    """Train a tokenizer and save it, so that `AutoTokenizer` loads it.

    Args:
        kind: "wordpiece", as BERT's, or "bpe", byte-level and with "</s>" at the end of a text, for both languages of
            a translation at once.
        files: text files, one text a line; or tables (JSON lines, CSV, Parquet) with `columns`.
        output_dir: a new or empty folder.
        vocab_size: at most so many entries.
        columns: of tables, whose texts are read; `translation.en` reads within a column.
        lowercase: WordPiece: without capitals and accents.

    Returns:
        The tokenizer.

    Raises:
        ValueError: an unknown kind, a file or column that is not there, no text, a folder that is in use.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    check_counts(300 if kind == "bpe" else 10, vocab_size=vocab_size)
    target = Path(output_dir)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise ValueError(f"output_dir must be new or empty, got {target}, which is in use")
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise ValueError(f"files must be there, got {missing[0]}, which is not")
    texts = read_texts(files, columns)
    first = next(texts, None)
    if first is None:
        raise ValueError(f"files must hold some text, got none in {', '.join(files)}")
    every = (text for part in ([first], texts) for text in part)
    tokenizer = train_wordpiece(every, vocab_size, lowercase) if kind == "wordpiece" else train_bpe(every, vocab_size)
    tokenizer.save_pretrained(target)
    return tokenizer


def read_texts(files: list[str], columns: list[str] | None) -> Iterator[str]:
    """Every text that is not blank."""
    if columns is None:
        for file in files:
            with open(file, encoding="utf-8") as lines:
                yield from (line.strip() for line in lines if line.strip())
        return
    from datasets import load_dataset

    kinds = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
    for file in files:
        extra = {"sep": "\t"} if ".tsv" in file else {}
        kind = next((kind for ending, kind in kinds.items() if ending in Path(file).suffixes), "json")
        for row in load_dataset(kind, data_files=file, split="train", streaming=True, **extra):
            for column in columns:
                value: Any = row
                for name in column.split("."):
                    if not isinstance(value, dict) or name not in value:
                        raise ValueError(f"columns must be columns of {file}, got {column!r} for {sorted(row)}")
                    value = value[name]
                if isinstance(value, str) and value.strip():
                    yield value


def train_wordpiece(texts: Iterator[str], vocab_size: int, lowercase: bool) -> Any:
    """BERT's: [PAD] 0, [UNK], [CLS], [SEP], [MASK]."""
    from tokenizers.implementations import BertWordPieceTokenizer

    trained = BertWordPieceTokenizer(lowercase=lowercase)
    special: list[Any] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained.train_from_iterator(texts, vocab_size=vocab_size, special_tokens=special, show_progress=True)
    return BertTokenizer(vocab=trained.get_vocab(), do_lower_case=lowercase, model_max_length=512)


def train_bpe(texts: Iterator[str], vocab_size: int) -> Any:
    """Byte-level: <pad> 0, </s> 1 at the end of every text, as the presets have them; no text is unknown."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "</s>"]
    trained.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet)
    )
    trained.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=trained, pad_token="<pad>", eos_token="</s>", model_input_names=inputs
    )
