"""What every backend must keep: it gives what the plain core gives, and steps aside for who looks.

In fp32 closely. In half precision its distance from fp32 may be three times that of the plain core
in the same precision.
"""

import copy
import pickle
import warnings

import torch
from cases import Case, packed, sequences
from contracts import (
    EVERY_BACKEND,
    FULL,
    HALVES,
    TRAINING_BACKENDS,
    assert_equal,
    contract,
    has_vocabulary,
)
from torch import nn
from watching import Watch, assert_same_view, counterpart, has_counterpart, unseen_of

# Modules of a decoder that read the encoder's vectors.
OF_SOURCE = ("encoder_attn.k_proj", "encoder_attn.v_proj")
SIDES = (("right", True), ("left", True), ("right", False))  # of the padding; whether there is any


def evaluated(model: nn.Module, case: Case, batch: dict, **kwargs) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return case.real(model(**batch, **kwargs), batch)


def assert_close(case: Case, found: dict, expected: dict, plain_half: dict) -> None:
    """Equal in fp32; in half precision about as far from `expected` as the plain core is."""
    if case.dtype == torch.float32:
        assert_equal(found, expected)
        return
    for name, value in expected.items():
        assert found[name].isfinite().all(), name
        ours, plain = ((each[name].float() - value).abs().mean() for each in (found, plain_half))
        assert ours <= 3 * plain + 1e-6, f"{name} is {ours:.2e} from fp32, plainly {plain:.2e}"


@contract(EVERY_BACKEND, FULL + HALVES)
def check_values(case: Case) -> None:
    """Outputs, whichever side the padding is on, by every implementation that runs everywhere."""
    reference, model = case.plainly().model("eager"), case.model("eager")
    plain = case.on(backend="plain").model("eager")
    for side, masked in SIDES:
        batch = case.batch(side, masked)
        expected = evaluated(reference, case, batch)
        half = expected if case.dtype == torch.float32 else evaluated(plain, case, batch)
        for implementation in ("eager", "sdpa"):
            model.set_attn_implementation(implementation)
            assert_close(case, evaluated(model, case, batch), expected, half)


@contract(TRAINING_BACKENDS, FULL + HALVES)
def check_gradients(case: Case) -> None:
    """Gradients of the loss, padded left and right, by both implementations."""
    plainly, half = case.plainly(), case.on(backend="plain")
    for side, implementation in (("right", "sdpa"), ("right", "eager"), ("left", "sdpa")):
        batch = case.batch(side)
        labels = case.make_labels(batch)
        expected = plainly.gradients(plainly.model("eager"), batch, labels)
        found = case.gradients(case.model(implementation), batch, labels)
        if case.dtype == torch.float32:
            assert_equal(found, expected)
        else:
            plain = half.gradients(half.model(implementation), batch, labels)
            assert_close(case, *(joined(each) for each in (found, expected, plain)))
            break


def joined(gradients: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All gradients as one: in half precision a small one is noise."""
    return {"gradient": torch.cat([gradient.flatten() for gradient in gradients.values()])}


@contract(EVERY_BACKEND, FULL + HALVES)
def check_packed(case: Case) -> None:
    """Two sequences in a row, their positions starting again, equal each alone.

    Row outputs are the first one's. With a mask `packed=True` says so; without, the positions do.
    """
    whole = sequences(case.batch())
    rows, ends = packed(case, whole, [(0, 1), (2, 3)]), packed(case, whole, [(0,), (2,)])
    alone = packed(case, whole, [(0,), (1,), (2,), (3,)])
    reference, model = case.plainly().model("eager"), case.model("eager")
    half = case.on(backend="plain").model("eager")
    expected, plain = (merged(each, case, alone, ends) for each in (reference, half))
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        assert_close(case, evaluated(model, case, rows, packed=True), expected, plain)
    if case.choices or case.dtype != torch.float32:  # rows of several lengths need a mask
        return
    row, first = packed(case, whole[:2], [(0, 1)]), packed(case, whole[:2], [(0,)])
    row = {name: tensor for name, tensor in row.items() if not name.endswith("mask")}
    alone = packed(case, whole[:2], [(0,), (1,)])
    expected = merged(reference, case, alone, first)
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        assert_equal(evaluated(model, case, row), expected)


def merged(model: nn.Module, case: Case, alone: dict, first: dict) -> dict[str, torch.Tensor]:
    """Outputs of sequences alone; those of rows, of the first ones only."""
    of_rows = evaluated(model, case, first)
    return {
        name: of_rows[name] if case.outputs[name] == "row" else value
        for name, value in evaluated(model, case, alone).items()
    }


@contract(TRAINING_BACKENDS)
def check_packed_gradients(case: Case) -> None:
    """Packed rows give the gradients that the plain core gives for them."""
    whole = sequences(case.batch())
    batch = packed(case, whole, [(0, 1), (2, 3)])
    labels = case.make_labels(batch)
    plainly = case.plainly()
    expected = plainly.gradients(plainly.model(), batch, labels, packed=True)
    assert_equal(case.gradients(case.model(), batch, labels, packed=True), expected)


@contract(TRAINING_BACKENDS, concerns=lambda case: bool(case.labels))
def check_outputs_in_training(case: Case) -> None:
    """Whoever touches logits in training gets the plain core's, at every position."""
    batch = case.batch()
    labels = case.make_labels(batch)
    outputs = case.model().train()(**batch, **labels)
    expected = case.plainly().model().train()(**batch, **labels)
    assert_equal({"loss": outputs.loss.detach()}, {"loss": expected.loss.detach()})
    for name in case.outputs:
        assert_equal({name: outputs[name].detach()}, {name: expected[name].detach()})


@contract(EVERY_BACKEND)
def check_report(case: Case) -> None:
    """The backend that was chosen is the one that is taken, and the report says so."""
    model, batch = case.model(), case.batch()
    evaluated(model, case, batch)
    encoder = "TransformerEncoder" if case.is_seq2seq else type(model.base_model).__name__
    report = model.backend_report()
    assert f"{encoder}, encode: {case.backend}" in report, report
    if case.labels and case.backend not in ("packed", "onnxruntime", "openvino"):
        model.train()(**batch, **case.make_labels(batch))
        report = model.backend_report()
        assert f"{encoder}, encode: {case.backend}" in report, report
        if has_vocabulary(case) and case.backend != "plain":
            name = case.model_class.__name__
            assert f"{name}, vocabulary_loss: {case.backend}" in report, report


@contract(EVERY_BACKEND)
def check_copies(case: Case) -> None:
    """A model that has run can be copied and pickled; a copy has weights of its own."""
    model, batch = case.model(), case.batch()
    expected = evaluated(model, case, batch)
    for made in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_equal(evaluated(made, case, batch), expected, atol=0)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.zero_()
        for value in evaluated(made, case, batch).values():
            assert value.unique().numel() <= 61, "a copy computes with the weights of the first"
        assert_equal(evaluated(model, case, batch), expected, atol=0)


@contract(EVERY_BACKEND, concerns=has_counterpart)
def check_hooks(case: Case) -> None:
    """Who watches sees transformers' class: every module shows the same tensors, by forward hooks
    on all, on one, and by torch's global hook.
    """
    model = case.model("eager")
    theirs = counterpart(case, model)
    for side in ("right", "left"):
        batch = case.batch(side)
        for kind in ("forward", "global"):
            views = []
            for each in (model, theirs):
                with torch.no_grad(), Watch(each, kind=kind) as seen:
                    each(**batch)
                views.append(seen)
            assert_same_view(*views, atol=1e-5, unseen=unseen_of(theirs))
        everything = {name: views[1][name] for name in views[1] if name not in unseen_of(theirs)}
    base = case.model_class.base_model_prefix + "." if case.labels else ""
    for name in watched_alone(everything, base):
        with torch.no_grad(), Watch(model, [name]) as seen:
            model(**batch)
        # Who watches nothing of the encoder may get zeros for its padding.
        real = batch["attention_mask"] if name.endswith(OF_SOURCE) else None
        assert_same_view(seen, {name: everything[name]}, atol=1e-5, real=real)


def watched_alone(everything: dict, base: str) -> list[str]:
    """Every sixth module of the base model from the first on, the base model itself, and one of
    those that read the source.
    """
    names = [name for name in everything if name.startswith(base)]
    of_source = [name for name in names if name.endswith(OF_SOURCE)]
    return [*names[:: max(1, len(names) // 6)], names[-1], *of_source[:1]]


@contract(
    TRAINING_BACKENDS,
    concerns=lambda case: has_counterpart(case) and not case.config.get("label_smoothing"),
)
def check_backward_hooks(case: Case) -> None:
    """The gradients that pass through every module are those of transformers' class."""
    model = case.model("eager").train()
    theirs, batch = counterpart(case, model).train(), case.batch()
    views = []
    for each in (model, theirs):
        with warnings.catch_warnings(), Watch(each, kind="backward") as seen:
            warnings.simplefilter("ignore")  # of modules whose output is no tensor: not seen
            outputs = each(**batch)
            sum(outputs[name].square().mean() for name in case.outputs).backward()
        views.append(seen)
    assert_same_view(*views, atol=1e-5, unseen=unseen_of(theirs), gradients=True)


@contract(TRAINING_BACKENDS, concerns=lambda case: has_counterpart(case) and bool(case.labels))
def check_hooks_in_training(case: Case) -> None:
    """With labels, where an unwatched model leaves out what the loss does not read."""
    model = case.model("eager").train()
    theirs, batch = counterpart(case, model).train(), case.batch()
    labels = case.make_labels(batch)
    views = []
    for each in (model, theirs):
        with Watch(each) as seen:
            each(**batch, **labels)
        del seen[""]  # the head itself shows its loss first, which differs where it is documented
        views.append(seen)
    assert_same_view(*views, atol=1e-5, unseen=unseen_of(theirs))
