"""What every test shares: a fixed seed, and no thread storms on small machines."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(params=["eager", "sdpa"])
def attention(request) -> str:
    """Both implementations that run everywhere."""
    return request.param
