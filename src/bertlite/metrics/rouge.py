"""ROUGE, by rouge-score."""

from datasets import Features, List, Value

from bertlite.metrics.base import OfflineMetric, string_lists, strings

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class Rouge(OfflineMetric):
    """F1 of the words, pairs of words and longest common subsequence that a summary shares with its
    reference.

    Rows of `predictions` are strings, of `references` a string or a list of strings, of which the
    best counts. The tokenizer of rouge-score keeps ASCII letters and digits only; other scripts
    need a `tokenizer`.
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
        tokenizer=None,
    ):
        """Compute ROUGE.

        Args:
            rouge_types: "rouge1" to "rouge9", "rougeL", and "rougeLsum" (sentences are split at
                line ends).
            use_stemmer: whether Porter's stemmer runs first.
            use_aggregator: the mean over rows; False gives a list with one number a row.
            tokenizer: a function from a string to a list of strings; None: rouge-score's.

        Returns:
            F1 from 0 to 1 under each of `rouge_types`.

        Raises:
            ValueError: an unknown type.
        """
        try:
            from rouge_score.rouge_scorer import RougeScorer
        except ImportError as error:
            raise ImportError("ROUGE needs rouge-score: pip install 'bertlite[metrics]'") from error
        known = (*(f"rouge{order}" for order in range(1, 10)), "rougeL", "rougeLsum")
        unknown = [name for name in rouge_types if name not in known]
        if unknown or not rouge_types:
            raise ValueError(f"rouge_types must be some of {known}, got {list(rouge_types)}")
        tokens = None if tokenizer is None else _Tokenizer(tokenizer)
        scorer = RougeScorer(list(rouge_types), use_stemmer=use_stemmer, tokenizer=tokens)
        rows = [
            scorer.score_multi(texts, text)
            for text, texts in zip(predictions, references, strict=True)
        ]
        made = {name: [float(row[name].fmeasure) for row in rows] for name in rouge_types}
        return (
            {name: sum(each) / len(each) for name, each in made.items()} if use_aggregator else made
        )


class _Tokenizer:
    """A function in the form that rouge-score asks for."""

    def __init__(self, function):
        self.tokenize = function
