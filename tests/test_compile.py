"""`torch.compile`: the removal of padding stays, in one graph and in several, with gradients."""

import pytest
import torch
from cases import bert_config
from torch._dynamo.testing import CompileCounterWithBackend

import bertlite
from bertlite.backends.cpu.compiled import attend_end_to_end

pytestmark = pytest.mark.processor

LENGTHS = ((9, 5, 7, 2), (9, 9, 9, 9), (9, 1, 1, 1), (9, 3, 4, 4))


def batch_of(lengths, length: int = 9) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    ids = torch.randint(3, 61, (len(lengths), length), generator=generator)
    mask = torch.arange(length) < torch.tensor(lengths)[:, None]
    return {"input_ids": ids, "attention_mask": mask.long()}


def classifier(**overrides) -> bertlite.BertLiteForSequenceClassification:
    torch.manual_seed(0)
    return bertlite.BertLiteForSequenceClassification(bert_config(**overrides))


@pytest.mark.parametrize("fullgraph", [True, False])
def test_padding_is_left_out_of_the_graph(fullgraph):
    """The plain model's logits, by the flat layout, and no compiling after the first batches."""
    torch._dynamo.reset()
    model = classifier().eval()
    plain = bertlite.use_backend(classifier().eval(), "plain")
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(model, fullgraph=fullgraph, backend=counter)
    frames = []
    with torch.no_grad():
        for lengths in LENGTHS:
            batch = batch_of(lengths)
            expected = plain(**batch).logits
            torch.testing.assert_close(compiled(**batch).logits, expected, rtol=0, atol=1e-5)
            frames.append(counter.frame_count)
    assert frames[1] == frames[-1]
    assert any("attend_end_to_end" in str(graph.code) for graph in counter.graphs)


def test_gradients_in_a_graph_are_those_of_the_plain_model():
    torch._dynamo.reset()
    batch = {**batch_of(LENGTHS[0]), "labels": torch.tensor([0, 1, 2, 0])}
    model, plain = classifier().train(), bertlite.use_backend(classifier().train(), "plain")
    loss = torch.compile(model, backend="aot_eager")(**batch, zero_padding=True).loss
    expected = plain(**batch).loss
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for (name, found), wanted in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=0, atol=1e-6, msg=name)


def test_rows_that_begin_with_padding_are_no_silent_error():
    torch._dynamo.reset()
    batch = {name: tensor.flip(-1) for name, tensor in batch_of(LENGTHS[0]).items()}
    compiled = torch.compile(classifier().eval(), fullgraph=True, backend="eager")
    with pytest.raises(RuntimeError, match="use_backend"):
        compiled(**batch)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_operators_gradient_is_that_of_differences(dropout):
    torch.manual_seed(1)
    inputs = [torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    lengths, seed = torch.tensor([0, 2, 4]), torch.tensor(5)

    def attend(*tensors):
        return attend_end_to_end(*tensors, lengths, 0.5, dropout, seed)

    assert torch.autograd.gradcheck(attend, inputs)


def test_dropout_in_a_graph_keeps_the_mean_and_its_share():
    """Of weights that are all alike, a share is dropped and the rest is scaled."""
    query = torch.zeros(64, 1, 64)
    value = torch.eye(64)[:, None]  # what comes out are the weights themselves
    lengths = torch.tensor([64])
    made = attend_end_to_end(query, query, value, lengths, 1.0, 0.25, torch.tensor(3))
    dropped = (made == 0).float().mean().item()
    assert abs(dropped - 0.25) < 0.03  # 4,096 weights: five standard deviations
    torch.testing.assert_close(made[made > 0].unique(), torch.tensor([1 / 64 / 0.75]))
