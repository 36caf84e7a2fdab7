"""The CUDA backend against the plain core, with stand-ins for a GPU's kernels; and what it asks.

Nothing here runs on a GPU. What runs is everything around the kernels: layouts, ends, positions
that are read, losses, checks of values, and how often a program would wait.
"""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cases import bert_config, randomize, transformer_config
from cuda_stand_ins import StandInBackend, WaitCounter, stand_in_kernels, use_stand_in

from torch import nn

import bertlite
from bertlite.backends.cuda import memory
from bertlite.backends.linear_cross_entropy import linear_cross_entropy
from bertlite.data.collators import lengths_of
from bertlite.models import masks
from bertlite.models.inputs import IGNORED

LENGTHS = [9, 5, 7, 2]
BERT_HEADS = [
    "BertLiteForMaskedLM",
    "BertLiteForPreTraining",
    "BertLiteForSequenceClassification",
    "BertLiteForTokenClassification",
    "BertLiteForQuestionAnswering",
    "BertLiteForNextSentencePrediction",
    "BertLiteForMultipleChoice",
]
WRITER = "TransformerLiteForConditionalGeneration"


@pytest.fixture
def stand_ins():
    with stand_in_kernels() as found:
        yield found


def make(name: str, **overrides):
    """A model with large weights, the same at each call."""
    config = (transformer_config if name.startswith("Transformer") else bert_config)(**overrides)
    return randomize(getattr(bertlite, name)(config))


def plain(model):
    """The same model by the plain core."""
    other = copy.deepcopy(model)
    for module in other.modules():
        if hasattr(module, "backend_choice"):
            module.backend_choice = "plain"
    return other


def batch_of(name: str, side: str = "right") -> dict:
    """Ragged rows whose padding holds random words, and the head's labels."""
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    mask = mask.flip(1) if side == "left" else mask
    ids = torch.randint(3, 60, mask.shape, generator=generator)
    batch = {"input_ids": ids, "attention_mask": mask}
    hidden = (torch.rand(ids.shape, generator=generator) < 0.5) | (mask == 0)
    words, rows = ids.masked_fill(hidden, IGNORED), torch.tensor([0, 1, 1, 0])
    if name in ("BertLiteForMaskedLM", "BertLiteForPreTraining"):
        batch["labels"] = words
    if name in ("BertLiteForPreTraining", "BertLiteForNextSentencePrediction"):
        key = "next_sentence_label" if name.endswith("Training") else "labels"
        batch[key] = rows
    if name == "BertLiteForTokenClassification":
        batch["labels"] = words.clamp(max=2)
    if name == "BertLiteForSequenceClassification":
        batch["labels"] = rows
    if name == "BertLiteForQuestionAnswering":
        batch |= {"start_positions": rows, "end_positions": rows + 1}
    if name == "BertLiteForMultipleChoice":
        batch = {key: value.view(2, 2, -1) for key, value in batch.items()}
        batch["labels"] = rows[:2]
    if name == WRITER:
        batch["labels"] = words.flip(1)[:, :6]
    return batch


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def assert_same(found: dict, expected: dict, atol: float = 2e-5) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=atol, rtol=1e-4, msg=name)


def took(model) -> set[str]:
    """Which backends did the work of the last forward."""
    return {line.split(": ")[1].split(";")[0] for line in model.backend_report()}


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("name", [*BERT_HEADS, WRITER])
def test_a_training_step_is_the_plain_one(name, pre_norm, stand_ins):
    """Loss and all gradients, with what the loss does not read left out."""
    model = make(name, norm_first=pre_norm).train()
    other, batch = plain(model), batch_of(name)
    use_stand_in(model)
    found, expected = model(**batch).loss, other(**batch).loss
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    found.backward()
    expected.backward()
    assert_same(gradients(model), gradients(other))
    assert took(model) == {"cuda"}
    assert stand_ins.calls["efficient"] > 1


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ["BertLiteModel", *BERT_HEADS, WRITER])
def test_evaluation_is_the_plain_one(name, side, stand_ins):
    model, batch = make(name), batch_of(name, side)
    other = plain(model)
    use_stand_in(model)
    with torch.no_grad():
        found, expected = model(**batch), other(**batch)
    real = batch["attention_mask"].bool()
    for key, value in expected.items():
        if not isinstance(value, torch.Tensor):
            continue
        mine = found[key]
        if value.shape[:2] == real.shape and key != "loss" and name != WRITER:
            mine, value = mine[real], value[real]
        if key == "encoder_last_hidden_state":
            mine, value = mine[real], value[real]
        torch.testing.assert_close(mine, value, atol=2e-5, rtol=1e-4, msg=key)


@pytest.mark.parametrize("name", ["BertLiteModel", "BertLiteForMaskedLM"])
def test_packed_rows_are_the_plain_ones(name, stand_ins, monkeypatch):
    """Sequences of 4, 3 and 2 in one row, of 5 and 4 in the next, the last token of it padding."""
    monkeypatch.setattr(masks, "is_traced", lambda: True)  # no look at positions, as on a GPU
    use_stand_in(make(name))(torch.ones(1, 2, dtype=torch.long))  # a first trial of the kernels
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0, 1], [0, 1, 2, 3, 4, 0, 1, 2, 3]])
    ids = torch.randint(3, 60, positions.shape, generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, -1] = 0
    for given in ({}, {"attention_mask": mask, "packed": True}):
        model = make(name)
        other = plain(model)
        use_stand_in(model)
        batch = {"input_ids": ids, "position_ids": positions, **given}
        lengths = lengths_of(batch)
        assert lengths.sequences == ((4, 3, 2, 5, 3) if given else (4, 3, 2, 5, 4))
        with torch.no_grad():
            expected = other(**batch)[0]
            for known, waits in ((None, 1), (lengths, 0)):
                with WaitCounter() as counter:
                    found = model(**batch, lengths=known)[0]
                assert len(counter.waits) == waits, counter.waits
                kept = mask.bool() if given else torch.ones_like(mask, dtype=torch.bool)
                torch.testing.assert_close(found[kept], expected[kept], atol=2e-5, rtol=1e-4)
        assert took(model) == {"cuda"}


def test_sequences_that_the_caller_laid_end_to_end(stand_ins, monkeypatch):
    """As the library's flattening collator gives them: with their longest length, nothing waits."""
    monkeypatch.setattr(masks, "is_traced", lambda: True)  # no look at positions, as on a GPU
    use_stand_in(make("BertLiteModel"))(torch.ones(1, 2, dtype=torch.long))
    model, batch = make("BertLiteModel"), batch_of("BertLiteModel")
    real = batch["attention_mask"].bool()
    ends = torch.tensor([0, *LENGTHS]).cumsum(0).to(torch.int32)
    flat = {
        "input_ids": batch["input_ids"][real][None],
        "position_ids": torch.cat([torch.arange(each) for each in LENGTHS])[None],
    }
    flat |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends}
    flat |= {"max_length_q": max(LENGTHS), "max_length_k": max(LENGTHS)}
    other = plain(model)
    use_stand_in(model)
    with torch.no_grad():
        expected = other(**batch).last_hidden_state[real]
        with WaitCounter() as counter:
            found = model(**flat).last_hidden_state[0]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert not counter.waits


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_as_far_off_as_the_plain_core(dtype, stand_ins):
    model, batch = make("BertLiteModel"), batch_of("BertLiteModel")
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        exact = plain(model)(**batch).last_hidden_state[real]
        theirs = plain(model).to(dtype)(**batch).last_hidden_state[real].float()
        ours = use_stand_in(model.to(dtype))(**batch).last_hidden_state[real].float()
    assert stand_ins.calls["flash"] > 1
    assert (ours - exact).abs().mean() < 3 * (theirs - exact).abs().mean()


def test_autocast_training(stand_ins):
    model, batch = make("BertLiteForMaskedLM").train(), batch_of("BertLiteForMaskedLM")
    other = plain(model)
    exact = plain(model)
    exact(**batch).loss.backward()
    use_stand_in(model)
    for each in (model, other):
        with torch.autocast("cpu", torch.bfloat16):
            each(**batch).loss.backward()
    far = {"ours": 0.0, "theirs": 0.0}
    theirs_of = gradients(other)
    for name, mine in gradients(model).items():
        far["ours"] += float((mine - gradients(exact)[name]).norm())
        far["theirs"] += float((theirs_of[name] - gradients(exact)[name]).norm())
    assert far["ours"] < 3 * far["theirs"]
    assert stand_ins.calls["flash"] > 1


@pytest.mark.slow
def test_dropout_of_attention_in_training(stand_ins):
    """Mean and spread over 64 draws are those of the core; the kernels themselves draw."""
    model = make("BertLiteForMaskedLM", attention_probs_dropout_prob=0.2).train()
    batch, other = batch_of("BertLiteForMaskedLM"), plain(model)
    use_stand_in(model)
    with torch.no_grad():
        found = torch.stack([model(**batch).loss for _ in range(64)])
        expected = torch.stack([other(**batch).loss for _ in range(64)])
    assert found.std() > 0
    error = ((found.var() + expected.var()) / 64).sqrt()
    assert abs(found.mean() - expected.mean()) < 5 * error
    assert 0.5 < found.std() / expected.std() < 2


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing(use_reentrant, stand_ins):
    model, batch = make("BertLiteForMaskedLM").train(), batch_of("BertLiteForMaskedLM")
    other = copy.deepcopy(model)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    for each in (model, other):
        use_stand_in(each)(**batch).loss.backward()
    assert_same(gradients(model), gradients(other))


def test_accumulated_gradients_are_those_of_the_whole_batch(stand_ins):
    model, batch = make("BertLiteForMaskedLM").train(), batch_of("BertLiteForMaskedLM")
    other = copy.deepcopy(model)
    use_stand_in(model)
    use_stand_in(other)(**batch).loss.backward()
    count = (batch["labels"] != IGNORED).sum()
    for rows in (slice(0, 1), slice(1, 4)):
        part = {key: value[rows] for key, value in batch.items()}
        model(**part, num_items_in_batch=count).loss.backward()
    assert_same(gradients(model), gradients(other))


@pytest.mark.parametrize(
    ("reason", "call", "config"),
    [
        ("output_attentions was asked for", {"output_attentions": True}, {}),
        ("output_hidden_states was asked for", {"output_hidden_states": True}, {}),
        ("the attention mask is prepared", {"mask": 4}, {}),
        ("attention 'eager' takes padded batches", {}, {"attn": "eager"}),
        ("in training the vectors of padding are asked for", {}, {"train": True}),
        ("a vector of padding is read", {}, {"side": "left"}),
    ],
)
def test_what_it_leaves_to_the_core_and_why(reason, call, config, stand_ins):
    model = make("BertLiteModel").train(config.get("train", False))
    model.set_attn_implementation(config.get("attn", "sdpa"))
    batch = batch_of("BertLiteModel", config.get("side", "right"))
    if call.pop("mask", None):
        batch["attention_mask"] = batch["attention_mask"][:, None, None].bool()
    other = plain(model)
    use_stand_in(model)
    with torch.no_grad():
        found, expected = model(**batch, **call), other(**batch, **call)
    assert model.backend_report() == [f"BertLiteModel, encode: plain; not cuda: {reason}"]
    torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state)


def test_no_kernel_is_said_once_and_rows_are_padded(caplog):
    with stand_in_kernels((7, 0)):  # no bf16 on such a card
        model = use_stand_in(make("BertLiteModel").to(torch.bfloat16))
        model(**batch_of("BertLiteModel"))
        (line,) = model.backend_report()
    assert "plain; not cuda: no kernel attends end to end in torch.bfloat16 on cpu" in line


def test_hooks_see_the_core(stand_ins):
    model, seen = use_stand_in(make("BertLiteModel")), []
    model.encoder.layer[0].register_forward_hook(lambda *each: seen.append(each[2].shape))
    model(**batch_of("BertLiteModel"))
    assert seen == [(4, 9, 32)]


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
    with pytest.raises(RuntimeError, match=r"input_ids must lie in \[0, 61\) \(vocab_size\)"):
        model(input_ids=torch.full((2, 5), 61))
    with pytest.raises(RuntimeError, match=r"input_ids must lie in \[0, 61\) \(vocab_size\)"):
        model(input_ids=torch.full((2, 5), 61), output_attentions=True)


def test_labels_and_targets_out_of_range(stand_ins):
    model, batch = (
        use_stand_in(make("BertLiteForMaskedLM").train()),
        batch_of("BertLiteForMaskedLM"),
    )
    batch["labels"][0, 0] = 61
    with pytest.raises((RuntimeError, ValueError), match=r"labels must lie in \[0, 61\)"):
        model(**batch)
    writer = use_stand_in(make(WRITER))
    batch = batch_of(WRITER)
    del batch["labels"]
    with pytest.raises(RuntimeError, match=r"decoder_input_ids must lie in \[0, 61\)"):
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
    import subprocess
    import sys

    code = (
        "import sys, bertlite, torch; m = bertlite.BertLiteModel(bertlite.preset('bert-tiny'));"
        "m.eval()(input_ids=torch.ones(1, 4, dtype=torch.long));"
        "assert torch.cuda.is_available() or 'bertlite.backends.cuda.backend' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_that_holds_the_backend_can_be_copied():
    backend = StandInBackend()
    assert isinstance(copy.deepcopy(backend), StandInBackend)


def test_layers_whose_weights_are_fetched_by_a_forward_of_their_own(stand_ins):
    """As `device_map` and offload do it: no step of a layer is taken behind its back."""
    from accelerate.hooks import ModelHook, add_hook_to_module

    class Fetching(ModelHook):
        calls = 0

        def pre_forward(self, module, *args, **kwargs):
            Fetching.calls += 1
            return args, kwargs

    model, batch = make("BertLiteForMaskedLM").train(), batch_of("BertLiteForMaskedLM")
    expected = plain(model)(**batch).loss
    for layer in model.bert.encoder.layer:
        add_hook_to_module(layer, Fetching())
    found = use_stand_in(model)(**batch).loss
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert Fetching.calls == 2
    assert took(model) == {"cuda"}


def test_threads_do_not_meet(stand_ins):
    """One model, eight threads, each with batches of its own."""
    model = use_stand_in(make("BertLiteModel"))
    model(torch.ones(1, 2, dtype=torch.long))
    given = [
        {key: value[rows] for key, value in batch_of("BertLiteModel").items()}
        for rows in ([0], [1], [2], [3], [0, 1], [1, 2], [2, 3], [0, 3])
    ]
    expected = [model(**batch).last_hidden_state for batch in given]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda batch: model(**batch).last_hidden_state, given * 4))
    for ours, theirs in zip(found, expected * 4, strict=True):
        torch.testing.assert_close(ours, theirs)


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
