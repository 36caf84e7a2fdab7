"""The common contracts over the encoder-decoder families and their heads, on every backend."""

import backend_contracts  # noqa: F401, enters its checks
import contracts
import pytest
from cases import Case
from test_transformerlite import LOGITS, WORDS

from bertlite import TransformerLiteForConditionalGeneration
from bertlite.models.transformer_families import FAMILIES

pytestmark = [pytest.mark.processor, pytest.mark.slow]

CASES = [
    Case(
        TransformerLiteForConditionalGeneration,
        LOGITS,
        WORDS,
        # Their embedding scales words itself, where ours is scaled by who asks it: hooks see that.
        {
            "family": name,
            "scale_embedding": False,
            "activation_function": "gelu",
            "attention_dropout": 0.0,
            "encoder_layerdrop": 0.0,
            "decoder_layerdrop": 0.0,
        },
        name=name,
    )
    for name in FAMILIES
    if name != "marian"
]
# On every backend for one that is post-norm and one that is pre-norm; the others as users get them.
WHOLE = ("bart", "m2m_100")


def is_run(name: str) -> bool:
    """In fp32: half precision is held to transformers' in test_oracle_seq2seq_families.py."""
    return "float32" in name and (name.startswith(WHOLE) or "-auto-" in name or "-cpu-" in name)


CHECKS = {each.id: each for each in contracts.matrix([CASES[0], *CASES]) if is_run(each.id)}


@pytest.mark.parametrize(("case", "check"), CHECKS.values())
def test_contract(case, check, device):
    only = contracts.DEVICES[case.backend]
    if only is not None and not device.startswith(only):
        pytest.skip(f"the {case.backend} backend is for models on the {only}")
    check(case.on(device=device))
