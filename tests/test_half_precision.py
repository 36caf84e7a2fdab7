"""bf16 and fp16 from files stored in each: every class no further from fp32 than three times what
transformers' own class is.
"""

import pytest
import torch
from cases import Case
from contracts import assert_equal
from test_bertlite_heads import CASES as BERT_CASES
from test_transformerlite import CASES as TRANSFORMER_CASES
from watching import counterpart

pytestmark = pytest.mark.processor

CASES = pytest.mark.parametrize(
    "case",
    [*BERT_CASES[:5], *BERT_CASES[7:10], *TRANSFORMER_CASES[:2]],
    ids=lambda case: case.model_class.__name__,
)
HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])


@pytest.fixture
def stored(case, dtype, tmp_path):
    """A folder with transformers' class in half precision, that class, and the folder's in fp32."""
    theirs = counterpart(case, case.plainly().model()).to(dtype)
    theirs.save_pretrained(tmp_path)
    return tmp_path, theirs, type(theirs).from_pretrained(tmp_path, dtype=torch.float32).eval()


def outputs_and_loss(case: Case, model, batch: dict) -> dict[str, torch.Tensor]:
    """What a model gives, and its loss; without a mask, since ours of a span leaves padding out."""
    with torch.no_grad():
        found = case.real(model(**batch), batch)
        if case.labels:
            labels = case.make_labels(batch)
            given = {name: value for name, value in batch.items() if not name.endswith("mask")}
            found["loss"] = model(**given, **labels).loss
    return found


@CASES
@HALVES
def test_distance_from_fp32(case, dtype, stored):
    """By both implementations and backends, padded right and left."""
    folder, theirs, reference = stored
    ours = case.model_class.from_pretrained(folder, dtype="auto").eval()
    assert ours.dtype == dtype
    for side, implementation in (("right", "sdpa"), ("left", "eager")):
        batch = case.batch(side)
        expected = outputs_and_loss(case, reference, batch)
        theirs.set_attn_implementation(implementation)
        ours.set_attn_implementation(implementation)
        half = outputs_and_loss(case, theirs, batch)
        for backend in ("cpu", "plain"):
            case.on(backend=backend).place(ours)
            found = outputs_and_loss(case, ours, batch)
            for name, value in expected.items():
                errors = [
                    (each[name].float() - value).abs().mean().item() for each in (found, half)
                ]
                # A loss is one number, which may come out right by chance.
                allowed = 3 * errors[1] + (1e-2 if name == "loss" else 1e-6)
                assert errors[0] <= allowed, (name, side, implementation, backend, errors)


@CASES
@HALVES
def test_a_file_in_half_precision_loads_in_fp32(case, dtype, stored):
    folder, _, reference = stored
    ours = case.model_class.from_pretrained(folder, dtype=torch.float32).eval()
    batch = case.batch()
    found, expected = (outputs_and_loss(case, model, batch) for model in (ours, reference))
    assert_equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_generation_in_half_precision(dtype):
    """Greedy and by beams: some end, none is refused, and scores are finite."""
    case = TRANSFORMER_CASES[1].on(dtype=dtype)
    model, batch = case.model(), case.batch()
    source = {name: batch[name] for name in ("input_ids", "attention_mask")}
    for beams in (1, 2):
        options = {"num_beams": beams, "output_scores": True, "return_dict_in_generate": True}
        made = model.generate(**source, max_new_tokens=4, **options)
        assert made.sequences.shape[0] == 4
        assert not any(scores.isnan().any() for scores in made.scores)
