"""WordPiece, BERT's tokenizer, trained from texts by the `tokenizers` library."""

from collections import Counter
from collections.abc import Iterable, Iterator

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer

from .texts import check_sizes, not_empty

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


def train_wordpiece(
    texts: Iterable[str],
    *,
    vocab_size: int = 30_522,
    lowercase: bool = True,
    strip_accents: bool | None = None,
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
        lowercase: lower case ("uncased"); False keeps case ("cased").
        strip_accents: take accents away; None: where case goes too, as in BERT. German and most
            languages but English are better served by lower case with accents (False).
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
        clean_text=True, handle_chinese_chars=True, strip_accents=strip_accents, lowercase=lowercase
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
        vocab=backend.get_vocab(),
        do_lower_case=lowercase,
        strip_accents=strip_accents,
        model_max_length=model_max_length,
    )


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
