"""A folder of weights to damage, for the tests of damaged and hostile files."""

import shutil
from pathlib import Path

import pytest
import torch
from cases import bert_config
from transformers import BertConfig, BertModel
from transformers.utils import logging


@pytest.fixture(scope="module", autouse=True, name="silence")
def silent_library():
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(level)


@pytest.fixture(scope="module", name="bert")
def bert_folder(tmp_path_factory):
    """A tiny BERT as transformers saves it: without checksums, which would refuse any damage."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    BertModel(BertConfig(**bert_config().to_diff_dict())).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", name="scratch")
def scratch_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


def copy_of(folder: Path, scratch: Path) -> Path:
    """A fresh copy of a folder, at the same place each time."""
    target = scratch / "copy"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    return target
