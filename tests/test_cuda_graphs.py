"""`optimize` as it will run on a GPU: copied layers, rounded sizes, recordings that are replayed.

The recorder is a stand-in that runs the recorded work again, over the same memory, as a CUDA graph
does. Nothing here runs on a GPU.
"""

import copy
from contextlib import nullcontext

import pytest
import torch
from cases import bert_config, randomize, transformer_config
from cuda_stand_ins import stand_in_kernels

import bertlite
from bertlite.backends.cuda.frozen_backend import FrozenCudaBackend, optimize_on_gpu
from bertlite.backends.cuda.graphs import MOST_TOKENS, Graphs, Size, power_of_two, rounded
from bertlite.backends.frozen import undo_optimize


class StandInRecorder:
    """Runs the work again at each replay, and writes where the first result lies."""

    def __init__(self):
        self.replays = 0

    stream = 0

    def on(self, device):
        return nullcontext()

    def where(self) -> int:
        return self.stream

    def record(self, work):
        result = work()

        def replay():
            self.replays += 1
            result.copy_(work())

        return replay, result


class Frozen(FrozenCudaBackend):
    device_type = "cpu"


@pytest.fixture
def stand_ins():
    with stand_in_kernels() as found:
        yield found


def frozen(model, dtype=None):
    """As `optimize` does it on a GPU."""
    model.eval()
    for module in model.modules():
        if hasattr(module, "encode_plainly"):
            backend = Frozen(module, dtype, StandInRecorder())
            module.requires_grad_(False)
            module.backend_choice = backend
    return model, backend


def ragged(lengths) -> dict:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(3, 60, mask.shape, generator=torch.Generator().manual_seed(len(lengths)))
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("BertLiteModel", bert_config),
        ("BertLiteForSequenceClassification", bert_config),
        ("BertLiteForTokenClassification", bert_config),
        ("TransformerLiteModel", transformer_config),
    ],
)
def test_outputs_are_those_of_the_plain_core(name, config, pre_norm, stand_ins):
    model = randomize(getattr(bertlite, name)(config(norm_first=pre_norm)))
    other = copy.deepcopy(model)
    model, backend = frozen(model)
    for lengths in ([9, 5, 7, 2], [30, 1], [4], [9, 5, 7, 2]):
        batch = ragged(lengths)
        if name.startswith("Transformer"):
            batch["decoder_input_ids"] = batch["input_ids"][:, :2]
        with torch.no_grad():
            found, expected = model(**batch), other(**batch)
        real = batch["attention_mask"].bool()
        for key in ("last_hidden_state", "pooler_output", "logits"):
            if expected.get(key) is None:
                continue
            ours, theirs = found[key], expected[key]
            if theirs.shape[:2] == real.shape:
                ours, theirs = ours[real], theirs[real]
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4, msg=key)
    assert backend.graphs.recorder.replays == 4


def test_batches_of_about_a_size_share_a_recording(stand_ins):
    """Sixty batches of 17 to 64 tokens need as many recordings as there are rounded sizes."""
    model, backend = frozen(randomize(bertlite.BertLiteModel(bert_config())))
    generator = torch.Generator().manual_seed(0)
    sizes = set()
    with torch.no_grad():
        for _ in range(60):
            lengths = torch.randint(4, 17, (4,), generator=generator).tolist()
            sizes.add(Size.of(sum(lengths), 4, max(lengths)))
            model(**ragged(lengths))
    assert backend.graphs.recorded == len(sizes) <= 14
    assert backend.graphs.recorder.replays == 60


def test_sizes():
    for tokens in range(1, 3000):
        assert tokens <= rounded(tokens) <= max(16, tokens * 9 / 8)
        size = Size.of(tokens, 3, min(tokens, 40))
        assert size.longest >= rounded(tokens) - tokens  # the spare tokens are a sequence too
        assert size.sequences >= 4
    assert [power_of_two(each) for each in (1, 2, 3, 16, 17)] == [1, 2, 4, 16, 32]


def test_many_tokens_are_not_recorded():
    """Nor do they wait in memory for a batch of their size."""
    seen = []
    graphs = Graphs(lambda hidden_states, ends: seen.append(ends) or hidden_states, None)
    hidden_states = torch.zeros(MOST_TOKENS + 1, 2)
    ends = torch.tensor([0, MOST_TOKENS + 1], dtype=torch.int32)
    assert graphs(hidden_states, ends, MOST_TOKENS + 1) is hidden_states
    assert not graphs.kept
    assert len(seen) == 1


def test_inference_mode_and_no_grad_in_turn(stand_ins):
    model, backend = frozen(randomize(bertlite.BertLiteModel(bert_config())))
    batch = ragged([9, 5])
    with torch.inference_mode():
        first = model(**batch).last_hidden_state
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).last_hidden_state, first)
    assert backend.graphs.recorded == 1


def test_each_stream_has_recordings_of_its_own(stand_ins):
    """Two of them may run at a time, and a recording has one place for its inputs."""
    model, backend = frozen(randomize(bertlite.BertLiteModel(bert_config())))
    with torch.no_grad():
        for stream in (0, 7, 0):
            backend.recorder.stream = stream
            model(**ragged([9, 5]))
    assert backend.graphs.recorded == 2


def test_a_result_is_not_overwritten_by_the_next_call(stand_ins):
    model, _ = frozen(randomize(bertlite.BertLiteModel(bert_config())))
    with torch.no_grad():
        first = model(input_ids=torch.full((2, 8), 5)).last_hidden_state
        kept = first.clone()
        model(input_ids=torch.full((2, 8), 9))
    assert torch.equal(first, kept)


def test_weights_that_change_are_copied_again(stand_ins):
    model, backend = frozen(randomize(bertlite.BertLiteModel(bert_config())))
    batch = ragged([9, 5])
    with torch.no_grad():
        before = model(**batch).last_hidden_state
        model.encoder.layer[0].intermediate.dense.weight.mul_(1.5)
        after = model(**batch).last_hidden_state
        other = copy.deepcopy(model)
        other.backend_choice = "plain"
        expected = other(**batch).last_hidden_state
    assert not torch.allclose(before, after)
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(after[real], expected[real], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(dtype, stand_ins):
    """Within three times the distance that the plain core in that precision has from fp32."""
    model, batch = randomize(bertlite.BertLiteModel(bert_config())), ragged([9, 5, 7, 2])
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        exact = model(**batch).last_hidden_state[real]
        theirs = copy.deepcopy(model).to(dtype)(**batch).last_hidden_state[real].float()
        model, _ = frozen(model, dtype)
        ours = model(**batch).last_hidden_state[real]
    assert ours.dtype == torch.float32
    assert (ours - exact).abs().mean() < 3 * (theirs - exact).abs().mean()


def test_training_is_refused(stand_ins):
    model, _ = frozen(randomize(bertlite.BertLiteModel(bert_config())))
    with pytest.raises(ValueError, match="evaluation mode while it is optimised"):
        model.train()(input_ids=torch.full((2, 8), 5))
    model.eval().embeddings.requires_grad_(True)
    with pytest.raises(ValueError, match="must run without gradients"):
        model(input_ids=torch.full((2, 8), 5))


def test_what_the_copies_do_not_cover_runs_plainly(stand_ins):
    model, _ = frozen(randomize(bertlite.BertLiteModel(bert_config())))
    with torch.no_grad():
        outputs = model(**ragged([9, 5]), output_attentions=True)
        assert len(outputs.attentions) == 2
        assert "not cuda-frozen: output_attentions was asked for" in model.backend_report()[0]
        model(**ragged([9, 5]))  # and is not left behind by it
    assert model.backend_report() == ["BertLiteModel, encode: cuda-frozen"]


def test_copies_of_an_optimised_model_have_copies_of_their_own(stand_ins):
    model, backend = frozen(randomize(bertlite.BertLiteModel(bert_config())))
    batch = ragged([9, 5])
    with torch.no_grad():
        expected = model(**batch).last_hidden_state
        other = copy.deepcopy(model)
        assert other.backend_choice.encoder is other
        assert other.backend_choice.graphs is None
        torch.testing.assert_close(other(**batch).last_hidden_state, expected)


def test_optimize_and_undo():
    """What was trainable is given back; a precision that a GPU does not have is refused."""
    model = bertlite.BertLiteModel(bert_config()).eval()
    model.pooler.requires_grad_(False)
    trainable = {name for name, each in model.named_parameters() if each.requires_grad}
    optimize_on_gpu(model, "bf16")
    assert not any(each.requires_grad for each in model.parameters())
    undo_optimize(model)
    assert {name for name, each in model.named_parameters() if each.requires_grad} == trainable
    assert model.backend_choice == "auto"
    with pytest.raises(ValueError, match=r"dtype must be None, 'fp32', 'fp16', 'bf16' on a GPU"):
        optimize_on_gpu(model, "int8")
    with pytest.raises(ValueError, match="must be in evaluation mode"):
        optimize_on_gpu(model.train(), None)
