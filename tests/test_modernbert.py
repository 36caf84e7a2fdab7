"""ModernBERT: transformers' own class holds the numbers, over a grid of settings."""

import random

import pytest
import torch
import transformers
from cases import randomize

import bertlite
from bertlite.inspection.pruning import prune
from bertlite.inspection.value_norms import last_values
from bertlite.models.families import FAMILIES

FAMILY = FAMILIES["modernbert"]
IDS = {f"{name}_token_id": number for number, name in enumerate(("pad", "bos", "eos"))}
TINY = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 3}
TINY |= {"num_attention_heads": 3, "local_attention": 6, "max_position_embeddings": 64}
TINY |= {**IDS, "cls_token_id": 1, "sep_token_id": 2}
LENGTHS = (30, 9, 4, 17)  # of which a window of three to each side hides some, or nothing


def draw(number: int) -> dict:
    """Settings, drawn anew for each number."""
    chance = random.Random(number)
    layers = chance.choice((1, 2, 5))
    kinds = chance.choices(("full_attention", "sliding_attention"), k=layers)
    flags = ("norm_bias", "attention_bias", "mlp_bias", "decoder_bias", "classifier_bias")
    return {
        **TINY,
        **{name: chance.random() < 0.5 for name in flags},
        "hidden_size": (heads := chance.choice((1, 2, 4))) * chance.choice((4, 12)),
        "num_attention_heads": heads,
        "intermediate_size": chance.choice((7, 32)),
        "num_hidden_layers": layers,
        "layer_types": kinds,
        "local_attention": chance.choice((2, 7, 12, 128)),
        "hidden_activation": chance.choice(("gelu", "silu", "relu")),
        "classifier_pooling": chance.choice(("cls", "mean")),
        "norm_eps": chance.choice((1e-5, 1e-3)),
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": chance.choice((100.0, 8e4))},
            "sliding_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
        },
    }


def pair(folder, head: str, implementation: str = "sdpa", **fields):
    """Transformers' class with large random weights, and ours from its folder."""
    config = transformers.ModernBertConfig(**{**TINY, **fields})
    theirs = randomize(getattr(transformers, f"ModernBert{head}")(config), std=0.3)
    theirs.set_attn_implementation(implementation)
    theirs.save_pretrained(folder)
    ours = FAMILY.model(head).from_pretrained(folder, attn_implementation=implementation)
    return theirs, ours.eval()


def batch(side: str = "right") -> dict[str, torch.Tensor]:
    """A ragged batch, with random words in the padding."""
    mask = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    mask = mask.flip(-1) if side == "left" else mask
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, 61, mask.shape, generator=generator)
    return {"input_ids": ids, "attention_mask": mask.long()}


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, atol=1e-5 * scale, rtol=0)


@pytest.mark.processor
@pytest.mark.parametrize("number", range(12))
def test_vectors_over_a_grid(tmp_path, number):
    """Both paddings, both implementations; the plain core, the backend and packed weights."""
    head = ("Model", "ForSequenceClassification")[number % 2]
    for implementation in ("eager", "sdpa"):
        theirs, ours = pair(tmp_path, head, implementation, **draw(number))
        for side in ("right", "left"):
            given = batch(side)
            with torch.no_grad():
                expected = theirs(**given)[0]
                for backend in ("plain", "cpu", "packed"):
                    if backend == "packed":
                        bertlite.optimize(ours)
                    else:
                        bertlite.use_backend(ours, backend)
                    found = ours(**given)[0]
                    real = given["attention_mask"].bool() if head == "Model" else ...
                    assert_close(found[real], expected[real])
                    if head == "Model" and backend != "plain":
                        assert f"encode: {backend}" in ours.backend_report()[0]
            bertlite.undo_optimize(ours)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_choices_are_theirs(tmp_path, pooling):
    """The first real token of a row, wherever it stands, or the mean of the real ones."""
    theirs, ours = pair(tmp_path, "ForMultipleChoice", classifier_pooling=pooling)
    for side in ("right", "left"):
        given = {name: each.unflatten(0, (2, 2)) for name, each in batch(side).items()}
        with torch.no_grad():
            assert_close(ours(**given).logits, theirs(**given).logits)
        assert ours.backend_report() == ["ModernBertModel, encode: cpu"]


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_classification_is_trained_without_padding(tmp_path, pooling):
    """To the gradient of every weight."""
    head = "ForSequenceClassification"
    theirs, ours = pair(tmp_path, head, classifier_pooling=pooling, num_labels=2)
    gradients = []
    for model in (ours, theirs):
        loss = model.train()(**batch(), labels=torch.tensor([0, 1, 1, 0])).loss
        loss.backward()
        gradients.append({name: each.grad for name, each in model.named_parameters()})
    assert "encode: cpu" in ours.backend_report()[0]
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[1].items():
        assert_close(gradients[0][name], expected)


def test_padding_between_words_is_counted(tmp_path):
    """By the window, as theirs counts it; so the plain core does the work, and says why."""
    theirs, ours = pair(tmp_path, "Model")
    given = batch()
    given["attention_mask"][0, 5:9] = 0
    with torch.no_grad():
        found, expected = ours(**given)[0], theirs(**given)[0]
    real = given["attention_mask"].bool()
    assert_close(found[real], expected[real])
    assert "a window counts the padding between" in ours.backend_report()[0]


def test_a_prepared_mask_of_padding_keeps_the_window(tmp_path):
    """One that says no more than a `(B, T)` mask does; one of pairs is taken as it is."""
    theirs, ours = pair(tmp_path, "Model")
    given = batch()
    real = given["attention_mask"].bool()
    with torch.no_grad():
        expected = ours(**given)[0][real]
        hidden = torch.finfo(torch.float32).min * ~real[:, None, None]
        for mask in (real[:, None, None], hidden):
            found = ours(given["input_ids"], attention_mask=mask)[0]
            assert_close(found[real], expected)
        pairs = real[:, None, None] & real[:, None, :, None] | torch.eye(30, dtype=torch.bool)
        given["attention_mask"] = pairs
        assert_close(ours(**given)[0], theirs(**given)[0])


def test_packed_rows_are_as_their_sequences_alone():
    ids = batch()["input_ids"][:2, :20]
    model = randomize(FAMILY.model("Model")(FAMILY.get("ModernBertConfig")(**TINY)), std=0.3)
    positions = torch.cat([torch.arange(13), torch.arange(7)])[None].expand(2, -1)
    for backend in ("plain", "cpu"):
        bertlite.use_backend(model, backend)
        with torch.no_grad():
            found = model(ids, position_ids=positions).last_hidden_state
            alone = [model(part).last_hidden_state for part in ids.split([13, 7], dim=1)]
        assert_close(found, torch.cat(alone, dim=1))


@pytest.mark.parametrize("name", ["attention_dropout", "mlp_dropout", "embedding_dropout"])
def test_each_dropout_drops(name):
    config = FAMILY.get("ModernBertConfig")(**TINY, **{name: 0.5})
    model = randomize(FAMILY.model("Model")(config))
    given = batch()
    for backend in ("plain", "cpu"):
        bertlite.use_backend(model, backend)
        runs = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            runs.append(model.train()(**given, zero_padding=True).last_hidden_state)
        assert torch.equal(runs[0], runs[1])
        assert not torch.allclose(runs[0], runs[2])
        assert torch.equal(*(model.eval()(**given).last_hidden_state for _ in range(2)))


@pytest.mark.parametrize("head", ["ForMaskedLM", "ForTokenClassification"])
def test_a_new_model_is_drawn_as_theirs(head):
    """The spread of every tensor."""
    fields = {**TINY, "hidden_size": 96, "intermediate_size": 96, "tie_word_embeddings": False}
    torch.manual_seed(0)
    ours = FAMILY.model(head)(FAMILY.get("ModernBertConfig")(**fields, num_labels=40))
    config = transformers.ModernBertConfig(**fields, num_labels=40)
    theirs = getattr(transformers, f"ModernBert{head}")(config)
    expected = dict(theirs.named_parameters())
    for name, tensor in ours.named_parameters():
        if tensor.ndim == 2:
            spread = expected[name].std().item()
            assert tensor.std().item() == pytest.approx(spread, rel=0.06), name
        else:
            assert torch.equal(tensor, expected[name]), name


def test_rows_may_be_longer_than_the_config_says(tmp_path):
    """As rotary positions allow; some kinds of them change there."""
    kinds = {"full_attention": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}
    theirs, ours = pair(tmp_path, "Model", max_position_embeddings=12, rope_parameters=kinds)
    given = batch()
    real = given["attention_mask"].bool()
    with torch.no_grad():
        for _ in range(2):
            assert_close(ours(**given)[0][real], theirs(**given)[0][real])
            given = {name: each[2:, :4] for name, each in given.items()}
            real = given["attention_mask"].bool()


def test_old_configs_are_read():
    """As published, before `layer_types` and `rope_parameters`."""
    old = {"global_attn_every_n_layers": 2, "global_rope_theta": 1e5, "local_rope_theta": 7e3}
    ours = FAMILY.get("ModernBertConfig")(**TINY, **old)
    theirs = transformers.ModernBertConfig(**TINY, **old)
    assert ours.layer_types == theirs.layer_types
    assert ours.rope_parameters == theirs.rope_parameters
    windows = [layer.attn.window for layer in FAMILY.model("Model")(ours).layers]
    assert windows == [None, 3, None]


def test_layers_may_be_left_out():
    """`model.layers` is a list of modules, of which people keep some."""
    model = randomize(FAMILY.model("Model")(FAMILY.get("ModernBertConfig")(**TINY)), std=0.3)
    model.layers = model.layers[:2]
    given = batch()
    with torch.no_grad():
        found = model(**given).last_hidden_state
        bertlite.use_backend(model, "plain")
        real = given["attention_mask"].bool()
        assert_close(found[real], model(**given).last_hidden_state[real])
    assert len(model.layers) == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"norm_first": False}, "norm_first must be True"),
        ({"local_attention": -2}, "local_attention must be at least 0"),
        ({"hidden_activation": "sharp"}, "hidden_act must be one of"),
    ],
)
def test_what_it_has_not_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        FAMILY.get("ModernBertConfig")(**{**TINY, **fields})


def test_a_mean_needs_a_mask_of_tokens():
    config = FAMILY.get("ModernBertConfig")(**TINY, classifier_pooling="mean")
    model = FAMILY.model("ForSequenceClassification")(config)
    ids = batch()["input_ids"]
    with pytest.raises(ValueError, match=r"attention_mask must have shape \(4, 30\), got"):
        model(ids, attention_mask=torch.ones(4, 1, 30, 30))


def test_what_a_head_takes_from_each_token_is_its_own(tmp_path):
    """The values of the fused product, which maps of attention weigh by."""
    _, model = pair(tmp_path, "Model")
    attention = model.layers[1].attn
    with last_values([attention]) as found, torch.no_grad():
        model(batch()["input_ids"][:1])
        inputs = torch.randn(1, 5, 24)
        attention(inputs)
    torch.testing.assert_close(found[attention], inputs @ attention.Wqkv.weight[48:].T)


def test_its_layers_are_not_cut(tmp_path):
    _, model = pair(tmp_path, "Model")
    with pytest.raises(ValueError, match="layers that are alike, got a ModernBertModel"):
        prune(model, layers=[0])
