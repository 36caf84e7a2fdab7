"""Translation, by an encoder-decoder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from transformers.utils import logging

from .. import metrics
from ..data.columns import find_columns, matching, with_remembered
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
        remembered = dict(wanted.remembered or {})
        nested = given.pop("translation", None) or remembered.get("translation")
        nested = next(iter(matching(nested or "translation", available)), None)
        if nested is not None and not given:
            return {"translation": nested, **cls.find_keys(source, nested, wanted)}
        needed = cls.needed(wanted.require_labels)
        if source.sides is None:
            given.update(language_columns(wanted.languages, needed, given, available))
        remembered = {} if "translation" in remembered else remembered
        given = with_remembered(given, remembered, available, needed)
        return find_columns(cls.task, cls.names, available, given, roles=needed)

    @classmethod
    def find_keys(cls, source, nested, wanted):
        """The keys of source and target in the column `nested`; errors as of `find_columns`."""
        needed = cls.needed(wanted.require_labels)
        rows = [row[nested] for row in source.peek() if isinstance(row.get(nested), Mapping)]
        keys = list(rows[0]) if rows else []
        if len(keys) < len(needed):
            raise ValueError(
                f"columns: {nested} must hold one text a language, got {keys or 'something else'}"
            )
        sides = dict(zip(("source", "target"), wanted.languages, strict=True))
        remembered = wanted.remembered or {}
        if not any(wanted.languages) and "translation" in remembered:
            earlier = {role: remembered.get(role) for role in sides}
            sides = {role: key if key in keys else None for role, key in earlier.items()}
        if len(keys) > 2 and any(sides[role] is None for role in needed):
            raise ValueError(
                f"source_language and target_language must say which of {', '.join(keys)} are meant"
            )
        return chosen_languages(sides, keys, needed)

    def hold(self, wanted):
        """See `TaskRows`: the languages of one split hold for the others."""
        wanted = super().hold(wanted)
        if "translation" not in self.columns:
            return wanted
        return replace(wanted, languages=(self.columns["source"], self.columns.get("target")))

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


def language_columns(
    languages: tuple[str | None, str | None],
    needed: Sequence[str],
    given: Mapping[str, Any],
    available: Sequence[str],
) -> dict[str, str]:
    """The columns that have the languages' names.

    Raises:
        ValueError: there is none of such a name, or both sides are the same.
    """
    found = {}
    for role, language in zip(("source", "target"), languages, strict=True):
        if language is None or role in given or role not in needed:
            continue
        names = matching(language, available)
        if len(names) != 1:
            raise ValueError(
                f"{role}_language must be a column of the data, got {language!r}; the columns are "
                f"{', '.join(available)}"
            )
        found[role] = names[0]
    if len(found) == 2 and found["source"] == found["target"]:
        raise ValueError(f"source_language and target_language must differ, got {languages[0]!r}")
    return found


def chosen_languages(
    wanted: Mapping[str, str | None], keys: list[str], needed: list[str]
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
