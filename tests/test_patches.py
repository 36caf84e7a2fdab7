"""ViT, DeiT and the Audio Spectrogram Transformer: transformers' own classes hold the numbers."""

import json

import backend_contracts  # noqa: F401, enters its checks
import contracts
import pytest
import torch
import transformers
from contracts import assert_equal
from patch_cases import (
    AST,
    CLASSIFYING,
    EVERY_HEAD,
    EVERY_SETTING,
    OUTPUTS,
    SETTINGS,
    cases,
    mixed_values,
    one_by_one,
    pair,
    values_of,
)
from safetensors import safe_open

import bertlite
from bertlite.models.families import FAMILIES

BACKENDS = ("plain", "auto", "packed")
LISTED = [each for each in EVERY_HEAD if each[1] != "ForMaskedImageModeling"]


def by(backend: str, model):
    """A model that this backend computes."""
    return bertlite.optimize(model) if backend == "packed" else bertlite.use_backend(model, backend)


def picked(outputs, head: str) -> dict[str, torch.Tensor]:
    """What the head gives, without what this one lacks."""
    return {name: outputs[name].detach() for name in OUTPUTS[head] if outputs.get(name) is not None}


@pytest.mark.processor
@pytest.mark.parametrize(("family", "head", "setting"), EVERY_SETTING)
def test_outputs_are_theirs(tmp_path, family, head, setting):
    """Both implementations; the plain core, the backend, packed weights."""
    theirs, ours = pair(family, head, tmp_path, setting)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    values = values_of(theirs.config)
    with torch.no_grad():
        expected = picked(theirs(values), head)
        assert set(expected) == set(OUTPUTS[head])
        for attention in ("eager", "sdpa"):
            ours.set_attn_implementation(attention)
            for backend in BACKENDS:
                assert_equal(picked(by(backend, ours)(values), head), expected)
            bertlite.undo_optimize(ours)


@pytest.mark.processor
@pytest.mark.parametrize(("family", "head"), LISTED)
@pytest.mark.parametrize("setting", [0, 1])
def test_several_sizes_equal_each_alone(tmp_path, family, head, setting):
    """A list of images of any sizes gives what transformers gives for each one at its own size."""
    theirs, ours = pair(family, head, tmp_path, setting)
    values = mixed_values(theirs.config)
    with torch.no_grad():
        for backend in BACKENDS:
            outputs = by(backend, ours)(values)
            for name in OUTPUTS[head]:
                expected = one_by_one(theirs, values, name)
                if name == "last_hidden_state":
                    assert outputs.lengths.tolist() == [each.shape[1] for each in expected]
                    assert_equal({name: outputs[name]}, {name: torch.cat(expected, dim=1)})
                else:
                    assert_equal({name: outputs[name]}, {name: torch.cat(expected)})
            base = ours.base_model
            wanted = {"plain": "plain", "auto": "cpu", "packed": "packed"}[backend]
            assert base.backend_report() == [f"{type(base).__name__}, encode: {wanted}"]


@pytest.mark.processor
@pytest.mark.parametrize(
    ("family", "head", "is_mixed"),
    [
        (family, head, is_mixed)
        for family, head in EVERY_HEAD
        for is_mixed in (False, True)
        if head in CLASSIFYING and not (is_mixed and family == AST)  # theirs reads one length
    ],
)
def test_one_training_step_is_theirs(tmp_path, family, head, is_mixed):
    """The gradient of every weight; of a list, that of transformers' losses of each image alone."""
    theirs, ours = pair(family, head, tmp_path)
    values = mixed_values(theirs.config) if is_mixed else values_of(theirs.config)
    labels = torch.arange(len(values)) % 3
    if is_mixed:
        rows = zip(values, labels, strict=True)
        options = {"interpolate_pos_encoding": True}
        losses = [theirs(each[None], labels=label[None], **options).loss for each, label in rows]
        expected = torch.stack(losses).mean()
    else:
        expected = theirs(values, labels=labels).loss
    loss = ours.train()(values, labels=labels).loss
    torch.testing.assert_close(loss, expected)
    gradients = []
    for model, made in ((ours, loss), (theirs, expected)):
        made.backward()
        gradients.append({name: each.grad for name, each in model.named_parameters()})
    assert_equal(*gradients)


@pytest.mark.parametrize("family", ["vit", "deit"])
@pytest.mark.parametrize("setting", [0, 1])
def test_masked_patches_are_theirs(tmp_path, family, setting):
    theirs, ours = pair(family, "ForMaskedImageModeling", tmp_path, setting)
    values = values_of(theirs.config)
    patches = (theirs.config.image_size // theirs.config.patch_size) ** 2
    hidden = torch.rand(3, patches, generator=torch.Generator().manual_seed(5)) < 0.4
    gradients = []
    for model in (ours.train(), theirs.train()):
        outputs = model(values, bool_masked_pos=hidden)
        outputs.loss.backward()
        gradients.append({name: each.grad for name, each in model.named_parameters()})
        gradients[-1] |= {"loss": outputs.loss.detach()}
        gradients[-1] |= {"reconstruction": outputs.reconstruction.detach()}
    assert_equal(*gradients)


@pytest.mark.parametrize(("family", "head"), EVERY_HEAD)
def test_what_is_saved_is_theirs(tmp_path, family, head):
    """The file has the names of published ones, and their class reads it with no bit changed."""
    case = next(each for each in cases(family) if each.model_class.__name__.endswith(head))
    ours = case.model()
    ours.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == family
    assert config["architectures"] == [FAMILIES[family].stem + head]
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        prefix = "" if head == "Model" else f"{ours.base_model_prefix}."
        assert f"{prefix}encoder.layer.0.attention.attention.query.weight" in file.keys()  # noqa: SIM118
    theirs, report = getattr(transformers, FAMILIES[family].stem + head).from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(report.values()), report
    found, expected = theirs.state_dict(), ours.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert type(bertlite.load(tmp_path)) is type(ours)


@pytest.mark.parametrize(
    "case", [each for each in [*cases("vit"), *cases(AST)] if not each.labels], ids=str
)
def test_first_vectors_are_the_first_ones(case):
    """As a head reads them: of the last layer, what comes after attention is for those alone."""
    model, (values,) = case.model(), case.batch().values()
    with torch.no_grad():
        whole = model(values)
        for count in (1, 2):
            found = model(values, first=count)
            if case.is_mixed:
                rows = whole.last_hidden_state[0].split(whole.lengths.tolist())
            else:
                rows = whole.last_hidden_state
            expected = torch.stack([row[:count] for row in rows])
            assert_equal({"": found.last_hidden_state}, {"": expected})
            assert_equal({"": found.pooler_output}, {"": whole.pooler_output})


@pytest.mark.parametrize("family", ["vit", AST])
def test_a_mask_hides_tokens(tmp_path, family):
    theirs, ours = pair(family, "Model", tmp_path)
    values = values_of(theirs.config)
    with torch.no_grad():
        tokens = theirs(values).last_hidden_state.shape[1]
        mask = torch.ones(3, tokens).long()
        mask[0, 4:], mask[2, 7:] = 0, 0
        expected = theirs(values, attention_mask=mask)
        for backend in BACKENDS:
            found = by(backend, ours)(values, attention_mask=mask)
            for name in OUTPUTS["Model"]:
                pairs = [each[name] for each in (found, expected)]
                if name == "last_hidden_state":
                    pairs = [each[mask.bool()] for each in pairs]
                assert_equal({name: pairs[0]}, {name: pairs[1]})


@pytest.mark.parametrize("is_mixed", [False, True])
@pytest.mark.parametrize(("family", "head"), [("vit", "Model"), ("deit", "ForImageClassification")])
def test_what_is_looked_at_is_theirs(tmp_path, family, head, is_mixed):
    """Attention weights and the vectors of every layer."""
    theirs, ours = pair(family, head, tmp_path)
    options = {"output_attentions": True, "output_hidden_states": True}
    values = mixed_values(theirs.config)[:1] if is_mixed else values_of(theirs.config)
    theirs.set_attn_implementation("eager")
    with torch.no_grad():
        found = ours(values, **options)
        values = values[0][None] if is_mixed else values
        expected = theirs(values, interpolate_pos_encoding=True, **options)
    for name in ("attentions", "hidden_states"):
        assert_equal(dict(enumerate(found[name])), dict(enumerate(expected[name])))


def test_a_distilled_folder_gives_both_heads(tmp_path):
    theirs, _ = pair("deit", "ForImageClassificationWithTeacher", tmp_path)
    model = bertlite.load(tmp_path, "image-classification")
    assert type(model).__name__ == "DeiTForImageClassificationWithTeacher"
    values = values_of(theirs.config)
    with torch.no_grad():
        assert_equal({"logits": model(values).logits}, {"logits": theirs(values).logits})


TASKS = {
    "image-classification": "ViTForImageClassification",
    "masked-image-modeling": "ViTForMaskedImageModeling",
    "base": "ViTModel",
}


def test_load_finds_the_class_of_a_task(tmp_path):
    pair("vit", "Model", tmp_path)
    for task, name in TASKS.items():
        assert type(bertlite.load(tmp_path, task)).__name__ == name
    with pytest.raises(ValueError, match="a vit can do, base, image-classification"):
        bertlite.load(tmp_path, "audio-classification")


def test_weights_of_patches_may_not_be_missing(tmp_path):
    theirs, _ = pair("vit", "Model", tmp_path)
    state = theirs.state_dict()
    del state["embeddings.cls_token"]
    theirs.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ValueError, match=r"not the weights of a vit: .*embeddings\.cls_token"):
        bertlite.load(tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (torch.zeros(2, 3, 16, 16), r"images of \(12, 12\).*as a list, got images of \(16, 16\)"),
        (torch.zeros(2, 1, 12, 12), r"shape \(batch, 3, height, width\).*got \(2, 1, 12, 12\)"),
        (torch.zeros(3, 12, 12), "must have shape"),
        ([torch.zeros(3, 3, 12)], r"as large as a patch, \(4, 4\), got an image of \(3, 12\)"),
        ([torch.zeros(1, 12, 12)], r"got \(1, 1, 12, 12\)"),
        ([], "list of one at least, got an empty one"),
        (None, "pixel_values must be given, .* got None"),
    ],
)
def test_images_that_do_not_fit_are_refused(values, said):
    model = cases("vit")[0].model()
    with pytest.raises(ValueError, match=said):
        model(values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (torch.zeros(2, 41, 12), r"4 to 40 frames, got \(2, 41, 12\)"),
        ([torch.zeros(3, 12)], r"4 to 40 frames, got \(1, 3, 12\)"),
        (torch.zeros(2, 40, 11), r"shape \(batch, frames, 12\).*got \(2, 40, 11\)"),
        (None, "input_values must be given, .* got None"),
    ],
)
def test_clips_that_do_not_fit_are_refused(values, said):
    model = cases(AST)[0].model()
    with pytest.raises(ValueError, match=said):
        model(values)


def test_masks_that_do_not_fit_are_refused():
    model, hiding = cases("vit")[0].model(), cases("vit")[-1].model()
    images, hidden = torch.zeros(2, 3, 12, 12), torch.ones(2, 9).bool()
    with pytest.raises(ValueError, match="a model with a mask token"):
        model(images, bool_masked_pos=hidden)
    with pytest.raises(ValueError, match=r"shape \(2, 9\), a place for each patch, got \(2, 8\)"):
        hiding(images, bool_masked_pos=hidden[:, 1:])
    with pytest.raises(ValueError, match="must be a tensor, images of one size, got list"):
        hiding(list(images))
    with pytest.raises(ValueError, match="attention_mask must be None where .* is a list"):
        model(list(images), attention_mask=torch.ones(2, 10))
    with pytest.raises(ValueError, match="bool_masked_pos must be None where .* is a list"):
        model(list(images), bool_masked_pos=hidden)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"norm_first": False}, "norm_first must be True"),
        ({"patch_size": 0}, "patch_size must be at least 1"),
        ({"patch_size": 16}, r"patch_size must be at most \(12, 12\), got 16"),
        (
            {"hidden_size": 30, "pad_token_id": 0},
            "hidden_size must be a positive multiple of the 4",
        ),
    ],
)
def test_configs_that_do_not_fit_are_refused(fields, said):
    config_class = FAMILIES["vit"].get("ViTConfig")
    with pytest.raises(ValueError, match=said):
        FAMILIES["vit"].model("Model")(config_class(**{**SETTINGS["vit"][0], **fields}))


# Those that are of texts alone ask for ids, words, padding or packed rows.
KEPT = (
    "check_tuple_equals_dict",
    "check_training",
    "check_gradient_checkpointing",
    "check_determinism",
    "check_feed_forward_chunking",
    "check_round_trip",
    "check_switching",
    "check_custom_attention",
    "check_values",
    "check_gradients",
    "check_outputs_in_training",
    "check_report",
    "check_copies",
)


WATCHED = ("check_hooks", "check_backward_hooks", "check_hooks_in_training")


def contracts_of(families: tuple[str, ...], dtype: str) -> list:
    """The contracts that images keep too."""
    found = contracts.matrix([case for family in families for case in cases(family)])
    wanted = [each for each in found if each.id.endswith(dtype)]
    return [
        each
        for each in wanted
        if each.values[1].__name__ in KEPT
        # Transformers' classes, which show what is to be seen, read no list.
        or (each.values[1].__name__ in WATCHED and not each.values[0].is_mixed)
    ]


@pytest.mark.slow
@pytest.mark.processor
@pytest.mark.parametrize(("case", "check"), contracts_of(("vit", AST), "float32"))
def test_contract(case, check, device):
    check(case.on(device=device))


def test_a_config_may_name_padding():
    """Images have no words; transformers' own tests set the id on every config."""
    config = FAMILIES["vit"].get("ViTConfig")(**SETTINGS["vit"][0])
    config.pad_token_id = 0
    model = FAMILIES["vit"].model("Model")(config)
    assert model(torch.zeros(1, 3, 12, 12)).last_hidden_state.shape == (1, 10, 32)
