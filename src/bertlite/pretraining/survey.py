"""What training will show of a text, and what cannot be learned from it: said in advance."""

import random
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import regex

from .batch_stream import StreamOptions
from .sentence_pairs import RANDOM, document_rows
from .token_store import TokenStore

DOCUMENTS = 4096  # looked at, evenly over the corpus
TOKENS = 10_000_000  # after which no further document is looked at
LITTLE_SHOWN = 0.8
MOSTLY_RANDOM = 0.9
HAN = regex.compile(r"\p{Han}")  # the characters of Chinese, in Japanese and Korean too
MANY_HAN = 0.1
FEW_PIECES = 0.01


@dataclass(frozen=True)
class TextSurvey:
    """What was found.

    Attributes:
        shown: the share of the text's tokens that one pass shows, for each length of rows. Pairs
            lose some at their ends, other ones in each pass.
        passes: how often the run goes through the text.
        random_pairs: share of the pairs whose second segment is of another document; None where
            the task is not next-sentence prediction.
        one_sentence: share of documents that are one sentence.
        continuing: share of tokens that go on with a word.
        han: share of tokens that are one Chinese character.
    """

    shown: dict[int, float]
    passes: float
    random_pairs: float | None
    one_sentence: float
    continuing: float
    han: float

    def to_dict(self) -> dict[str, Any]:
        """For a JSON file, shares to four digits."""
        found = {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }
        return {**found, "shown": {str(n): round(share, 4) for n, share in self.shown.items()}}

    def __str__(self) -> str:
        shown = ", ".join(f"{share:.1%} in rows of {n}" for n, share in self.shown.items())
        return f"text shown by one pass: {shown}; the run makes {self.passes:.2f} passes"


def survey_text(store: TokenStore, tokenizer: Any, options: StreamOptions) -> TextSurvey:
    """Plan a pass over documents of the corpus, as training will, and count.

    Args:
        store: the text to train on.
        tokenizer: that made it.
        options: what will be trained on.
    """
    documents = range(0, len(store), -(-len(store) // DOCUMENTS))
    shown, passes = {}, 0.0
    pairs = np.zeros(2, int)  # real and random ones
    for phase in options.phases:
        counts, pairs = count_pass(store, documents, phase.max_length, options)
        seen, of_rows, total = counts
        shown[phase.max_length] = seen / total
        tokens = phase.updates * options.batches_per_update * options.tokens_per_batch
        passes += tokens / (of_rows / total * len(store.ids))
    sentences = np.diff(store.document_ends, prepend=0)
    sample = np.asarray(store.ids[: TOKENS // 10])
    han = [number for token, number in tokenizer.get_vocab().items() if HAN.fullmatch(token)]
    return TextSurvey(
        shown=shown,
        passes=passes,
        random_pairs=pairs[RANDOM] / pairs.sum() if options.pairs.task == "next_sentence" else None,
        one_sentence=float((sentences == 1).mean()),
        continuing=float(np.asarray(store.continues[: TOKENS // 10]).mean()),
        han=float(np.isin(sample, han).mean()),
    )


def count_pass(
    store: TokenStore, documents: range, max_length: int, options: StreamOptions
) -> tuple[tuple[int, int, int], np.ndarray]:
    """Count over the rows of some documents.

    Returns:
        Tokens of them that are in a row, tokens of the rows, tokens of the documents; and how many
        pairs have each label.
    """
    generator = random.Random(options.seed)
    seen = of_rows = total = 0
    pairs = np.zeros(2, int)
    for document in documents:
        bounds = store.bounds(document)
        total += bounds[-1] - bounds[0]
        for row in document_rows(store, document, max_length, options.pairs, generator):
            own = options.pairs.task != "next_sentence" or row.label != RANDOM
            seen += row.a_end - row.a_start + (row.b_end - row.b_start if own else 0)
            of_rows += row.length
            if row.label >= 0:
                pairs[row.label] += 1
        if total > TOKENS:
            break
    return (seen, of_rows, total), pairs


def doubts(found: TextSurvey, options: StreamOptions) -> list[str]:
    """What the user should hear before training, each with the option that helps."""
    said = []
    least = min(found.shown, key=lambda length: found.shown[length])
    if found.shown[least] < LITTLE_SHOWN:
        said.append(
            f"one pass shows {found.shown[least]:.1%} of the text only, since sentences are long "
            f"for pairs in rows of {least}; larger --max-lengths, or --task none, show more"
        )
    if found.random_pairs is not None and found.random_pairs > MOSTLY_RANDOM:
        reason = (
            f"{found.one_sentence:.1%} of the documents are one sentence (in text files, blank "
            "lines divide documents; a document should hold several sentences)"
            if found.one_sentence > 0.5
            else "sentences are as long as rows (larger --max-lengths make room for a second one)"
        )
        said.append(
            f"{found.random_pairs:.1%} of the pairs have a random second segment, since {reason}: "
            "there is next to nothing to learn from them. --task none trains on masked words alone"
        )
    if options.masking.whole_words and found.han > MANY_HAN:
        said.append(
            f"--whole-words masks no whole words of Chinese: {found.han:.1%} of the tokens are "
            "single Chinese characters, each of which the tokenizer makes a word of its own, and "
            "bertlite does not divide Chinese into words. They are masked one by one"
        )
    elif options.masking.whole_words and found.continuing < FEW_PIECES:
        said.append(
            f"--whole-words changes next to nothing: {found.continuing:.1%} of the tokens go on "
            "with a word, so that nearly every word is one token"
        )
    return said
