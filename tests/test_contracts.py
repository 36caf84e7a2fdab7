"""Every contract: checks × heads × backends × precisions, on the device of `--device`."""

import backend_contracts  # noqa: F401, enters its checks
import contracts
import pytest
from test_bertlite_heads import CASES as BERT_CASES
from test_transformerlite import CASES as TRANSFORMER_CASES

pytestmark = pytest.mark.processor


@pytest.mark.parametrize(("case", "check"), contracts.matrix([*BERT_CASES, *TRANSFORMER_CASES]))
def test_contract(case, check, device):
    only = contracts.DEVICES[case.backend]
    if only is not None and not device.startswith(only):
        pytest.skip(f"the {case.backend} backend is for models on the {only}")
    check(case.on(device=device))
