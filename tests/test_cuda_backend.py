"""The CUDA backend against the plain core, with stand-ins for a GPU's kernels.

Nothing here runs on a GPU. What runs is everything around the kernels: layouts, ends, positions
that are read, losses, and what is left to the core.
"""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from cuda_cases import (
    BERT_HEADS,
    LENGTHS,
    WRITER,
    assert_same,
    batch_of,
    gradients,
    make,
    plain,
    took,
)
from cuda_stand_ins import StandInBackend, WaitCounter, stand_in_kernels, use_stand_in
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from bertlite.backends.cuda import kernels
from bertlite.backends.cuda.kernels import Ends
from bertlite.data.collators import lengths_of
from bertlite.models import masks
from bertlite.models.inputs import IGNORED


@pytest.fixture
def stand_ins():
    with stand_in_kernels() as found:
        yield found


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


def test_the_librarys_own_kernels_where_they_were_chosen(stand_ins):
    """They are told the ends of all sequences at once, and ours are not called."""
    seen = []

    def attend(module, query, key, value, mask, scaling, dropout=0.0, **kwargs):
        seen.append((kwargs["cu_seq_lens_q"].tolist(), kwargs["max_length_k"]))
        ends = Ends(kwargs["cu_seq_lens_q"], kwargs["cu_seq_lens_k"], 9, 9)
        rows = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
        return kernels.attend_by_formula(*rows, ends, scaling, 0.0, False)[None], None

    model, batch = make("BertLiteModel"), batch_of("BertLiteModel")
    other, real = plain(model), batch["attention_mask"].bool()
    ALL_ATTENTION_FUNCTIONS.register("flash_stand_in", attend)
    try:
        for module in use_stand_in(model).modules():
            if hasattr(module, "config"):
                module.config._attn_implementation = "flash_stand_in"
        with torch.no_grad():
            found = model(**batch).last_hidden_state[real]
            expected = other(**batch).last_hidden_state[real]
    finally:
        ALL_ATTENTION_FUNCTIONS._global_mapping.pop("flash_stand_in")
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert seen == [([0, 9, 14, 21, 23], 9)] * 2
    assert not stand_ins.calls["efficient"]
