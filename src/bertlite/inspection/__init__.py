"""Look inside a model: who attends to whom, and what an answer leans on.

Names are imported when they are first used. A figure is no proof: what a map of attention shows,
and how faithful an attribution is, stands in the guide, `docs/inspection.md`.
"""

import importlib
from typing import Any

# Where each public name lives.
NAMES = {
    ".attribution": ["METHODS", "Attribution", "WordScore", "attribute"],
    ".attention": ["AttentionMaps", "attention_maps"],
    ".attention_graph": ["attention_flow", "attention_rollout"],
    ".explanation": ["Explanation", "explain"],
    ".erasure": ["Faithfulness", "faithfulness", "randomised"],
    ".head_figures": ["head_statistics"],
    ".value_norms": ["value_weighted_norms"],
    ".tokens": ["TextTokens"],
    ".heads": ["mask_heads", "mask_neurons"],
    ".importance": ["Importance", "ablation_importance", "gradient_importance"],
    ".pruning": ["prune"],
    ".compression": ["Compression", "compress"],
    ".prune_options": ["PruneOptions"],
    ".probes": ["Probes", "probe"],
    ".lens": ["Lens", "logit_lens"],
    ".patches": ["attention_over_patches", "occluded_patches"],
    ".neighbours": ["Neighbour", "Neighbourhood"],
}
MODULES = {name: module for module, names in NAMES.items() for name in names}

__all__ = sorted(MODULES)


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module 'bertlite.inspection' has no attribute {name!r}")
    value = getattr(importlib.import_module(MODULES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES})
