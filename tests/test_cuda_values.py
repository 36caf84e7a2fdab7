"""What the CUDA backend asks of a GPU, how often a program would wait, and what it refuses.

Waits are counted by code, on a CPU with stand-ins for the kernels. Nothing here runs on a GPU.
"""

import subprocess
import sys

import pytest
import torch
from cuda_cases import BERT_HEADS, LENGTHS, WRITER, batch_of, make, plain, took
from cuda_stand_ins import WaitCounter, stand_in_kernels, use_stand_in
from torch import nn

from bertlite.backends.cuda import memory
from bertlite.backends.linear_cross_entropy import linear_cross_entropy
from bertlite.data.collators import lengths_of
from bertlite.models.inputs import assert_in_range, assert_labels
from bertlite.models.losses import check_shares


@pytest.fixture
def stand_ins():
    with stand_in_kernels() as found:
        yield found


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["BertLiteModel", *BERT_HEADS, WRITER])
def test_one_wait_a_forward_and_none_with_lengths(name, training, stand_ins):
    if name == "BertLiteModel" and training:
        pytest.skip("in training all its vectors are asked for, those of padding too")
    model, batch = use_stand_in(make(name).train(training)), batch_of(name)
    model(**batch)  # the kernels are tried at the first call of a process
    for lengths, waits in ((None, 1), (lengths_of(batch), 0)):
        given = {key: value.clone() for key, value in batch.items()}  # masks that it has not seen
        with WaitCounter() as counter:
            model(**given, lengths=lengths)
        assert len(counter.waits) == waits, counter.waits
    assert took(model) == {"cuda"}


def test_rows_without_padding_wait_for_nothing(stand_ins):
    model = use_stand_in(make("BertLiteModel"))
    ids = torch.randint(3, 60, (4, 9))
    model(input_ids=ids)
    with WaitCounter() as counter:
        model(input_ids=ids)
    assert not counter.waits
    assert took(model) == {"cuda"}


def test_a_full_mask_needs_no_layout(stand_ins):
    """Nothing is gathered where nothing is left out."""
    model, ids = make("BertLiteModel"), torch.randint(3, 60, (4, 9))
    expected = plain(model)(input_ids=ids).last_hidden_state
    found = use_stand_in(model)(input_ids=ids, attention_mask=torch.ones_like(ids))
    torch.testing.assert_close(found.last_hidden_state, expected, atol=2e-5, rtol=1e-4)


def test_a_mask_that_is_written_to_is_asked_again(stand_ins):
    model = make("TransformerLiteModel")
    other = plain(model)
    use_stand_in(model)
    batch = {key: value for key, value in batch_of(WRITER).items() if key != "labels"}
    batch["decoder_input_ids"] = batch["input_ids"][:, :4]
    with torch.no_grad():
        for _ in range(2):
            found, expected = model(**batch)[0], other(**batch)[0]
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
            batch["attention_mask"][0, 4:] = 0


@pytest.mark.parametrize(
    ("name", "values", "limit"),
    [
        ("input_ids", 61, r"input_ids must lie in \[0, 61\) \(vocab_size\), got 61"),
        ("input_ids", -1, r"input_ids must lie in \[0, 61\) \(vocab_size\), got -1"),
        ("token_type_ids", 2, r"token_type_ids must lie in \[0, 2\) \(type_vocab_size\), got 2"),
        ("position_ids", 40, r"position_ids must lie in \[0, 40\) .*, got 40"),
    ],
)
def test_an_id_out_of_range_is_an_error_before_any_work(name, values, limit, stand_ins):
    """In the one copy where one is due, and on the host where a collator has looked."""
    model, batch = use_stand_in(make("BertLiteModel")), batch_of("BertLiteModel")
    batch[name] = batch.get(name, torch.zeros_like(batch["input_ids"])).clone()
    batch[name][1, 2] = values
    calls = dict(stand_ins.calls)
    for lengths in (None, lengths_of(batch)):
        with pytest.raises(ValueError, match=limit):
            model(**batch, lengths=lengths)
    assert stand_ins.calls["efficient"] <= calls["efficient"] + 1  # a trial, no forward


def test_an_id_out_of_range_where_nobody_waits(stand_ins):
    """An assertion with our words stands before the look-up; on a CPU it is an error at once."""
    model = use_stand_in(make("BertLiteModel"))
    with pytest.raises(ValueError, match=r"input_ids must lie in \[0, 61\) \(vocab_size\)"):
        model(input_ids=torch.full((2, 5), 61))
    with pytest.raises(ValueError, match=r"input_ids must lie in \[0, 61\) \(vocab_size\)"):
        model(input_ids=torch.full((2, 5), 61), output_attentions=True)


def test_labels_and_targets_out_of_range(stand_ins):
    model, batch = (
        use_stand_in(make("BertLiteForMaskedLM").train()),
        batch_of("BertLiteForMaskedLM"),
    )
    batch["labels"][0, 0] = 61
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 61\)"):
        model(**batch)
    writer = use_stand_in(make(WRITER))
    batch = batch_of(WRITER)
    del batch["labels"]
    with pytest.raises(ValueError, match=r"decoder_input_ids must lie in \[0, 61\)"):
        writer(**batch, decoder_input_ids=torch.full((4, 3), 61))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([9, 5, 7], "lengths must hold a number from 1 to 9 for each sequence of 4 rows"),
        ([9, 5, 7, 0], "lengths must hold a number from 1 to 9"),
        ([9, 5, 7, 10], "lengths must hold a number from 1 to 9"),
        ([9, 5, 3, 4, 2], "lengths must hold 4 numbers, one a row, unless rows are packed"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths, message, stand_ins):
    model, batch = use_stand_in(make("BertLiteModel")), batch_of("BertLiteModel")
    with pytest.raises(ValueError, match=message):
        model(**batch, lengths=lengths)


def test_lengths_that_are_not_those_of_the_mask(stand_ins):
    model, batch = use_stand_in(make("BertLiteModel")), batch_of("BertLiteModel")
    with pytest.raises(RuntimeError, match="lengths must agree with the batch"):
        model(**batch, lengths=[9, 5, 7, 3])


def test_a_model_without_the_backend_takes_lengths_too():
    """Plain core and CPU backend pass over them."""
    model, batch = make("BertLiteModel"), batch_of("BertLiteModel")
    expected = model(**batch).last_hidden_state
    found = model(**batch, lengths=LENGTHS).last_hidden_state
    torch.testing.assert_close(found, expected)


def test_out_of_memory_says_what_to_lower_once(stand_ins, monkeypatch):
    from accelerate.utils.memory import should_reduce_batch_size

    model, batch = use_stand_in(make("BertLiteModel")), batch_of("BertLiteModel")

    def full(*args, **kwargs):
        with memory.explained_memory():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(model.encoder.layer[1], "feed_forward_sublayer", full)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory") as caught:
        model(**batch)
    assert str(caught.value).count("Lower the tokens of a batch") == 1
    assert should_reduce_batch_size(caught.value)


@pytest.mark.slow
def test_it_is_not_loaded_without_a_gpu():
    code = (
        "import sys, bertlite, torch; m = bertlite.BertLiteModel(bertlite.preset('bert-tiny'));"
        "m.eval()(input_ids=torch.ones(1, 4, dtype=torch.long));"
        "assert torch.cuda.is_available() or 'bertlite.backends.cuda.backend' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_replicas_of_data_parallel_pass_over_lengths(stand_ins):
    """They see some rows of a batch, and the lengths of all."""
    model, batch = use_stand_in(make("BertLiteModel")), batch_of("BertLiteModel")
    part = {key: value[:2] for key, value in batch.items()}
    expected = model(**part).last_hidden_state
    model._is_replica = True
    found = model(**part, lengths=lengths_of(batch)).last_hidden_state
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_small_gradients_of_the_vocabulary_survive(dtype):
    """With a scaler's factor on the loss, as torch's own loss keeps them: 2,000 labels, fp16."""
    torch.manual_seed(0)
    hidden, labels = torch.randn(2000, 16), torch.randint(0, 50, (2000,))
    weight, scale = torch.randn(50, 16) / 4, 65536.0

    def gradient(loss_of, precision) -> torch.Tensor:
        layer = nn.Linear(16, 50, bias=False)
        layer.weight = nn.Parameter(weight.to(precision))
        vectors = hidden.to(precision).requires_grad_()
        (loss_of(vectors, layer) * scale).backward()
        return torch.cat([vectors.grad.float(), layer.weight.grad.float()]) / scale

    def in_chunks(vectors, layer):
        product = nn.functional.linear
        return linear_cross_entropy(vectors, layer, labels, product=product, chunk_size=300)

    def at_once(vectors, layer):
        return nn.functional.cross_entropy(layer(vectors).float(), labels)

    exact = gradient(at_once, torch.float64)
    theirs, ours = gradient(at_once, dtype), gradient(in_chunks, dtype)
    assert (ours - exact).norm() < 3 * (theirs - exact).norm()
    assert (ours != 0).float().mean() > 0.99


def test_labels_of_classes_on_a_device():
    """By an assertion with our words; the meta device stands for one where nothing can be read."""
    assert_labels("labels", torch.tensor([0, 5], device="meta"), 3)
    labels = torch.tensor([0, 5, -100])
    known = labels.masked_fill(labels == -100, 0)
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\) or be -100"):
        assert_in_range("labels", known, 3, "or be -100")
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\) or be -100, got 5"):
        assert_labels("labels", labels, 3)  # on a CPU the value is at hand, and named
    check_shares(torch.tensor([0.5, 2.0], device="meta"))
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        check_shares(torch.tensor([0.5, 2.0]))
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        check_shares(torch.tensor([0.5, float("nan")]))
