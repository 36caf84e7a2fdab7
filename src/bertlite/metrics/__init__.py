"""Metrics that work without a network, with `evaluate`'s own interface.

`evaluate` downloads the code of each metric from the hub. These are installed with bertlite, and
give the numbers of the library that each wraps (scikit-learn, scipy, seqeval, sacrebleu,
rouge-score), which is imported on first use.

>>> from bertlite import metrics
>>> metrics.load("accuracy").compute(predictions=[0, 1, 1, 0], references=[0, 1, 0, 0])
{'accuracy': 0.75}

`evaluate` itself loads them by file too: `evaluate.load(metrics.metric_path("accuracy"))`.
"""

from pathlib import Path

from bertlite.metrics.accuracy import Accuracy
from bertlite.metrics.base import OfflineMetric
from bertlite.metrics.chrf import Chrf
from bertlite.metrics.entity_scores import EntityScores
from bertlite.metrics.f1 import F1
from bertlite.metrics.matthews_correlation import MatthewsCorrelation
from bertlite.metrics.pearson import Pearson
from bertlite.metrics.rouge import Rouge
from bertlite.metrics.sacre_bleu import SacreBleu
from bertlite.metrics.spearman import Spearman
from bertlite.metrics.squad import Squad
from bertlite.metrics.squad_v2 import SquadV2

METRICS: dict[str, type[OfflineMetric]] = {
    "accuracy": Accuracy,
    "chrf": Chrf,
    "entity_scores": EntityScores,
    "f1": F1,
    "matthews_correlation": MatthewsCorrelation,
    "pearson": Pearson,
    "rouge": Rouge,
    "sacre_bleu": SacreBleu,
    "spearman": Spearman,
    "squad": Squad,
    "squad_v2": SquadV2,
}
HUB_NAMES = {
    "pearsonr": "pearson",
    "sacrebleu": "sacre_bleu",
    "seqeval": "entity_scores",
    "spearmanr": "spearman",
}

__all__ = [
    "METRICS",
    *sorted(each.__name__ for each in METRICS.values()),
    "OfflineMetric",
    "load",
    "metric_path",
]


def _own_name(name: str) -> str:
    name = HUB_NAMES.get(name, name)
    if name not in METRICS:
        raise ValueError(
            f"name must be one of {sorted(METRICS)} (or {sorted(HUB_NAMES)}), got {name!r}"
        )
    return name


def load(name: str, config_name: str | None = None, **kwargs) -> OfflineMetric:
    """A metric by its name, as `evaluate.load(name)` gives with a network.

    Args:
        name: a key of `METRICS`, or the name that the same metric has on the hub.
        config_name: "multilabel" for `accuracy` and `f1` over several labels a row.
        kwargs: further arguments of `evaluate.Metric`.

    Raises:
        ValueError: no such metric, or it has no such config.
    """
    return METRICS[_own_name(name)](config_name=config_name, **kwargs)


def metric_path(name: str) -> str:
    """The file of a metric, for `evaluate.load(path)` and whatever else takes a path.

    Raises:
        ValueError: no such metric.
    """
    return str(Path(__file__).with_name(f"{_own_name(name)}.py"))
