"""What every test shares: a fixed seed, the device to check, and no thread storms."""

import pytest
import torch
from tasks_cases import CLASSIFICATION, QUIET, ROWS, base_folder, bpe_folder, write_rows


def pytest_addoption(parser):
    parser.addoption(
        "--device", default="cpu", help="where the contracts run: cpu (the default), cuda, mps"
    )


def pytest_configure(config):
    # One thread a process: tests run side by side on all cores, and on a busy machine threads that
    # wait for each other take ten times as long. Tests that want more ask for them.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def device(request) -> str:
    """Where the contracts run."""
    return request.config.getoption("--device")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(params=["eager", "sdpa"])
def attention(request) -> str:
    """Both implementations that run everywhere."""
    return request.param


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> str:
    """The folder of a tiny BERT without a head; no test changes it."""
    return base_folder(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def bpe(tmp_path_factory) -> str:
    """The folder of a tokenizer of byte pairs."""
    return bpe_folder(tmp_path_factory.mktemp("models") / "bpe")


@pytest.fixture
def given(base, tmp_path) -> dict:
    """The arguments of a run of two steps on eight texts."""
    file = write_rows(tmp_path / "rows.jsonl", ROWS[CLASSIFICATION])
    return {"model": base, "train": file, "output_dir": tmp_path / "out", "arguments": QUIET}
