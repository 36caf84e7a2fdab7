"""BLEU, by sacrebleu."""

from datasets import Features, List, Value

from bertlite.metrics.base import OfflineMetric, string_lists, strings
from bertlite.metrics.languages import bleu_tokenizer


class SacreBleu(OfflineMetric):
    """Corpus BLEU of raw, detokenised text (Post 2018), from 0 to 100.

    Rows of `predictions` are strings, of `references` a string or a list of strings, whose number
    may differ by row.
    """

    source = "https://github.com/mjpost/sacrebleu"

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
        smooth_method: str = "exp",
        smooth_value: float | None = None,
        lowercase: bool = False,
        tokenize: str | None = None,
        language: str | None = None,
        effective_order: bool = False,
    ):
        """Compute BLEU.

        Args:
            smooth_method: "exp", "floor", "add-k" or "none": what to do about n-grams that never
                match.
            smooth_value: of "floor" and "add-k".
            lowercase: whether case counts for nothing.
            tokenize: sacrebleu's tokenizer, such as "13a", "intl", "zh" or "char"; None: that of
                the language, which is "13a" for languages with spaces between words.
            language: of the references, as a code or name; None: told from their script.
            effective_order: stop at the longest n-gram that matches; for scores of single
                sentences.

        Returns:
            `score`, `counts`, `totals`, `precisions`, `bp` (brevity penalty), `sys_len`, `ref_len`,
            `tokenize`, the tokenizer's name, and `signature`, which is to be reported with the
            score.

        Raises:
            ValueError: an unknown tokenizer.
        """
        try:
            from sacrebleu.metrics import BLEU
        except ImportError as error:
            raise ImportError("BLEU needs sacrebleu: pip install 'bertlite[metrics]'") from error
        if tokenize is None:
            tokenize = bleu_tokenizer(language, (text for row in references for text in row))
        if tokenize not in BLEU.TOKENIZERS:
            raise ValueError(f"tokenize must be one of {sorted(BLEU.TOKENIZERS)}, got {tokenize!r}")
        bleu = BLEU(
            lowercase=lowercase,
            force=True,  # no notice about text that looks tokenised
            tokenize=tokenize,
            smooth_method=smooth_method,
            smooth_value=smooth_value,
            effective_order=effective_order,
        )
        result = bleu.corpus_score(predictions, by_position(references))
        fields = ("score", "counts", "totals", "precisions", "bp", "sys_len", "ref_len")
        return {
            **{name: getattr(result, name) for name in fields},
            "tokenize": tokenize,
            "signature": str(bleu.get_signature()),
        }


def by_position(references: list[list[str]]) -> list[list]:
    """Sacrebleu's order.

    The first references of all rows, then the second ones, None where a row has no more.
    """
    most = max(len(row) for row in references)
    return [
        [row[place] if place < len(row) else None for row in references] for place in range(most)
    ]
