"""Translation, by an encoder-decoder."""

from collections.abc import Mapping
from typing import ClassVar

from transformers.utils import logging

from .. import metrics
from ..data.columns import find_columns
from ..data.labels import is_missing
from ..data.problems import BadRow
from ..inference import translate
from .writing import PairRows, Writing

logger = logging.get_logger(__name__)


class TranslationRows(PairRows):
    """`source`, `target`, which may be the languages of one column `translation`."""

    task = "translation"
    names: ClassVar = {
        "translation": ("translation",),
        "source": ("source", "src", "input"),
        "target": ("target", "tgt", "reference", "output"),
    }

    @classmethod
    def find_columns(cls, source, available, wanted):
        """See `TaskRows`; inside a `translation` column, its keys.

        Raises:
            ValueError: a language is not there, or it cannot be told which text is which.
        """
        given = dict(wanted.columns or {})
        sides = dict(zip(("source", "target"), wanted.languages, strict=True))
        needed = cls.needed(wanted.require_labels)
        nested = given.pop("translation", None) or (
            "translation" if "translation" in available else None
        )
        if nested in available and not given:
            rows = [row[nested] for row in source.peek() if isinstance(row.get(nested), Mapping)]
            keys = list(rows[0]) if rows else []
            if len(keys) < len(needed):
                raise ValueError(
                    f"columns: {nested} must hold one text a language, got "
                    f"{keys or 'something else'}"
                )
            if len(keys) > 2 and None in wanted.languages:
                raise ValueError(
                    "source_language and target_language must say which of "
                    f"{', '.join(keys)} are meant"
                )
            return {"translation": nested, **chosen_languages(sides, keys, needed)}
        for role, language in sides.items():
            if language is not None and role not in given and language in available:
                given[role] = language
        return find_columns(cls.task, cls.names, available, given, roles=needed)

    def read(self, row):
        """See `TaskRows`."""
        if "translation" not in self.columns:
            return super().read(row)
        column = self.columns["translation"]
        texts = row.get(column)
        if not isinstance(texts, Mapping):
            raise BadRow(
                "missing value" if is_missing(texts) else "not one text a language", column
            )
        return super().read(texts)


def chosen_languages(
    wanted: dict[str, str | None], keys: list[str], needed: list[str]
) -> dict[str, str]:
    """The key of each side.

    As given; otherwise the first for the source, and the other one for the target.
    """
    for role, language in wanted.items():
        if language is not None and language not in keys:
            raise ValueError(f"{role}_language must be one of {', '.join(keys)}, got {language!r}")
    source = wanted["source"] or next(key for key in keys if key != wanted["target"])
    target = wanted["target"] or next(key for key in keys if key != source)
    if source == target:
        raise ValueError(f"source_language and target_language must differ, got {source!r} twice")
    logger.info(f"translating from {source} to {target}")
    return {"source": source, "target": target} if "target" in needed else {"source": source}


class Translation(Writing):
    """From one language to another; figures are BLEU and chrF of sacrebleu.

    chrF chooses the best checkpoint: it needs no words, and so sees every script, and a model that
    has learnt little.
    """

    name = TranslationRows.task
    rows = TranslationRows
    main_metric = "chrf"
    pipeline_tag = "translation"
    function = translate
    usage = 'bertlite.translate("A text.", "FOLDER OR HUB NAME")'

    def score(self, rows, predictions, model):
        texts, references = (
            [each["text"] for each in predictions],
            [[row["target"]] for row in rows],
        )
        given = {"predictions": texts, "references": references}
        found = {
            "bleu": metrics.load("sacre_bleu").compute(**given),
            "chrf": metrics.load("chrf").compute(**given),
        }
        return {
            **{name: each["score"] for name, each in found.items()},
            **{f"{name}_signature": each["signature"] for name, each in found.items()},
        }
