"""ROUGE, by rouge-score."""

from collections.abc import Callable
from typing import Any

from datasets import Features, List, Value

from bertlite.metrics.base import OfflineMetric, string_lists, strings
from bertlite.metrics.languages import UnicodeTokenizer

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
TOKENIZERS = ("unicode", "rouge_score")


class Rouge(OfflineMetric):
    """F1 of the words, pairs of words and longest common subsequence that a summary shares with its
    reference.

    Rows of `predictions` are strings, of `references` a string or a list of strings, of which the
    best counts.

    Deviation: rouge-score's tokenizer keeps ASCII letters and digits only, and so gives 0 to every
    text in another script. Here words of all scripts count, which is the same for ASCII text;
    `tokenizer="rouge_score"` gives the published tokens.
    """

    source = "https://github.com/google-research/google-research/tree/master/rouge"

    def row_features(self) -> Features:
        return Features({"predictions": Value("string"), "references": List(Value("string"))})

    def prepare(self, name: str, values) -> list:
        return (
            strings(name, values)
            if name == "predictions"
            else string_lists(name, values, allow_single=True)
        )

    def _compute(
        self,
        *,
        predictions,
        references,
        rouge_types: tuple[str, ...] = ROUGE_TYPES,
        use_stemmer: bool = False,
        use_aggregator: bool = True,
        tokenizer: str | Callable[[str], list[str]] = "unicode",
    ):
        """Compute ROUGE.

        Args:
            rouge_types: "rouge1" to "rouge9", "rougeL", and "rougeLsum" (sentences are split at
                line ends).
            use_stemmer: whether Porter's stemmer runs first.
            use_aggregator: the mean over rows; False gives a list with one number a row.
            tokenizer: "unicode", "rouge_score", or a function from a string to a list of strings.

        Returns:
            F1 from 0 to 1 under each of `rouge_types`, and the name of the `tokenizer`, which is to
            be reported with them.

        Raises:
            ValueError: an unknown type or tokenizer.
        """
        try:
            from rouge_score.rouge_scorer import RougeScorer
        except ImportError as error:
            raise ImportError("ROUGE needs rouge-score: pip install 'bertlite[metrics]'") from error
        known = (*(f"rouge{order}" for order in range(1, 10)), "rougeL", "rougeLsum")
        unknown = [name for name in rouge_types if name not in known]
        if unknown or not rouge_types:
            raise ValueError(f"rouge_types must be some of {known}, got {list(rouge_types)}")
        tokens = chosen_tokenizer(tokenizer, use_stemmer)
        scorer = RougeScorer(list(rouge_types), use_stemmer=use_stemmer, tokenizer=tokens)
        rows = [
            scorer.score_multi(texts, text)
            for text, texts in zip(predictions, references, strict=True)
        ]
        made = {name: [float(row[name].fmeasure) for row in rows] for name in rouge_types}
        scores = {name: sum(each) / len(each) for name, each in made.items()}
        name = tokenizer if isinstance(tokenizer, str) else getattr(tokenizer, "__name__", "own")
        return {**(scores if use_aggregator else made), "tokenizer": name}


def chosen_tokenizer(tokenizer: Any, use_stemmer: bool) -> Any:
    """The object that rouge-score asks for, None for its own.

    Raises:
        ValueError: neither a name that is known nor a function.
    """
    if tokenizer == "rouge_score":
        return None
    if tokenizer == "unicode":
        return UnicodeTokenizer(use_stemmer)
    if not callable(tokenizer):
        raise ValueError(f"tokenizer must be one of {TOKENIZERS} or a function, got {tokenizer!r}")
    return OwnTokenizer(tokenizer)


class OwnTokenizer:
    """A function in the form that rouge-score asks for."""

    def __init__(self, function: Callable[[str], list[str]]):
        self.tokenize = function
