"""How a tokenizer does on texts that it was not trained on."""

from collections.abc import Iterable
from dataclasses import dataclass

from transformers import BertTokenizer, PreTrainedTokenizerBase


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
