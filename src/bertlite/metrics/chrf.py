"""chrF and chrF++, by sacrebleu."""

from typing import Any

from datasets import Features, List, Value

from bertlite.metrics.base import OfflineMetric, string_lists, strings
from bertlite.metrics.sacre_bleu import by_position


class Chrf(OfflineMetric):
    """F-score of the character n-grams that a translation shares with its reference (Popović 2015),
    from 0 to 100.

    Rows as in `SacreBleu`.
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
        char_order: int = 6,
        word_order: int = 0,
        beta: int = 2,
        lowercase: bool = False,
        whitespace: bool = False,
        eps_smoothing: bool = False,
    ):
        """Compute chrF.

        Args:
            char_order: the longest n-gram of characters.
            word_order: the longest n-gram of words; 0: chrF, 2: chrF++.
            beta: how many times recall weighs as much as precision.
            lowercase: whether case counts for nothing.
            whitespace: whether spaces count as characters.
            eps_smoothing: smooth as NLTK and Moses do.

        Returns:
            `score`, `char_order`, `word_order`, `beta`, and `signature`, which is to be reported
            with the score.
        """
        try:
            from sacrebleu.metrics import CHRF
        except ImportError as error:
            raise ImportError("chrF needs sacrebleu: pip install 'bertlite[metrics]'") from error
        options: dict[str, Any] = {"char_order": char_order, "word_order": word_order, "beta": beta}
        chrf = CHRF(
            **options, lowercase=lowercase, whitespace=whitespace, eps_smoothing=eps_smoothing
        )
        score = chrf.corpus_score(predictions, by_position(references)).score
        return {"score": score, **options, "signature": str(chrf.get_signature())}
