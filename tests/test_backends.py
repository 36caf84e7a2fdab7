"""The seam: which backend is taken, what is said of the others, and what steps aside for whom."""

import copy

import pytest
import torch
from cases import IGNORED, Case, set_backend
from contracts import assert_equal
from test_bertlite_heads import CASES as BERT_CASES
from test_transformerlite import CASES as TRANSFORMER_CASES
from torch import nn

import bertlite
from bertlite import BertLiteForSequenceClassification, backends
from bertlite.backends.base import Backend
from bertlite.backends.flat_backend import is_plain_layer
from bertlite.models import seam

pytestmark = pytest.mark.processor

MODEL, MASKED_LM, CLASSES, SEQ2SEQ = (
    BERT_CASES[0],
    BERT_CASES[2],
    BERT_CASES[4],
    TRANSFORMER_CASES[1],
)
FAMILIES = pytest.mark.parametrize("case", [MODEL, MASKED_LM, CLASSES, SEQ2SEQ], ids=str)


def encoded_by(model: nn.Module, batch: dict, **options) -> str:
    """The line of the report about the encoder, without the encoder's name."""
    with torch.no_grad():
        model(**batch, **options)
    (line,) = [line for line in model.backend_report() if ", encode: " in line]
    return line.split(", encode: ")[1]


@FAMILIES
def test_a_model_on_a_cpu_takes_the_cpu_backend(case):
    model, batch = case.model(), case.batch()
    assert model.backend_choice == "auto"
    assert model.backend_report() == []
    assert encoded_by(model, batch) == "cpu"


@FAMILIES
def test_the_plain_core_is_a_choice(case):
    """Of the model, or of its config, as a file keeps it."""
    batch = case.batch()
    assert encoded_by(set_backend(case.model(), "plain"), batch) == "plain"
    assert encoded_by(case.model(unpad_inputs=False), batch) == "plain"


def test_a_forward_that_has_not_run_has_no_report_and_each_work_has_its_own():
    model, batch = MASKED_LM.model().train(), MASKED_LM.batch()
    model(**batch, **MASKED_LM.make_labels(batch))
    assert sorted(model.backend_report()) == [
        "BertLiteForMaskedLM, vocabulary_loss: cpu",
        "BertLiteModel, encode: cpu",
    ]


REASONS = {
    "output_attentions was asked for": {"output_attentions": True},
    "output_hidden_states was asked for": {"output_hidden_states": True},
    "the attention mask is prepared": {"attention_mask": torch.ones(4, 1, 9, 9)},
}


@pytest.mark.parametrize("case", [MODEL, SEQ2SEQ], ids=str)
@pytest.mark.parametrize("reason", REASONS)
def test_the_report_says_why_not(case, reason):
    options = {**case.batch(), **REASONS[reason]}
    if "prepared" in reason and case is SEQ2SEQ:
        options["attention_mask"] = torch.ones(4, 1, 1, 9)
    assert encoded_by(case.model(), options) == f"plain; not cpu: {reason}"


def test_the_report_says_who_watches_and_where():
    model, batch = MODEL.model(), MODEL.batch()
    handle = model.pooler.register_forward_hook(lambda *_: None)
    assert encoded_by(model, batch) == "plain; not cpu: a hook watches BertPooler"
    handle.remove()
    assert encoded_by(model, batch) == "cpu"


def test_the_report_names_left_padding_under_a_pooler():
    assert "a vector of padding is read" in encoded_by(MODEL.model(), MODEL.batch("left"))


def test_the_report_names_padding_in_training():
    report = encoded_by(MODEL.model().train(), MODEL.batch())
    assert report == "plain; not cpu: in training the vectors of padding are asked for"


def test_weights_on_another_device():
    model = MODEL.model().to("meta")
    (cpu,) = seam.installed_backends()
    assert not cpu.serves(model.device)
    assert cpu.unsupported("encode", model) == ["the weights are on meta"]


def test_another_work_is_nobodys():
    assert MODEL.model().take_backend("knit") is None


class Recording(Backend):
    """A backend of a user's own, which gives zeros."""

    name = "recording"

    def __init__(self):
        self.asked, self.prepared = [], []

    def serves(self, device):
        return True

    def prepare(self, model):
        self.prepared.append(model)

    def unsupported(self, work, model, **wanted):
        self.asked.append(work)
        return [] if work == "encode" and not model.training else ["it only encodes"]

    def encode(self, encoder, batch, positions, **kwargs):
        count = batch.shape if positions is None else (int(positions.sum()),)
        return torch.zeros(*count, encoder.config.hidden_size)


def test_a_backend_of_ones_own():
    """It comes first; what it cannot do goes to the others, and the report says why."""
    case, own = MASKED_LM, Recording()
    model, batch = case.model(), case.batch()
    for module in (model, model.bert):
        module.backend_choice = own
        module.__dict__.pop("_prepared", None)
    with torch.no_grad():
        states = model.bert(**batch).last_hidden_state
    assert states.shape == (4, 9, 32)
    assert not states.any()
    assert own.prepared == [model.bert]
    model.train()(**batch, **case.make_labels(batch))
    assert own.asked == ["encode", "encode", "vocabulary_loss"]
    assert sorted(model.backend_report()) == [
        "BertLiteForMaskedLM, vocabulary_loss: cpu; not recording: it only encodes",
        "BertLiteModel, encode: cpu; not recording: it only encodes",
    ]


def test_another_version_of_the_seam_has_no_backends():
    assert backends.available(backends.SEAM_VERSION) != ()
    assert backends.available(backends.SEAM_VERSION + 1) == ()
    assert seam.VERSION == backends.SEAM_VERSION


@pytest.mark.parametrize("name", ["cpu", "packed"])
def test_hidden_states_that_were_asked_for_once_change_nothing_later(name):
    """The library's recorder stays on the layers; it is idle, and whoever reads only the first
    vector still gets no more.
    """
    case = CLASSES.on(backend=name)
    model, batch = case.model(), case.batch()
    with torch.no_grad():
        model(**batch, output_hidden_states=True)
    assert is_plain_layer(model.bert.encoder.layer[-1])
    assert encoded_by(model, batch) == name
    late = bertlite.optimize(CLASSES.model())
    with torch.no_grad():
        late(**batch, output_hidden_states=True)
    assert encoded_by(late, batch) == "packed"


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_keeps_the_backend(reentrant):
    """Its hook on the embeddings looks at nothing."""
    model, batch = CLASSES.model(), CLASSES.batch()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.train()(**batch, **CLASSES.make_labels(batch)).loss.backward()
    assert "BertLiteModel, encode: cpu" in model.backend_report()


def test_adapters_keep_the_backend_and_may_be_watched():
    from peft import LoraConfig, get_peft_model

    base, batch = CLASSES.model(), CLASSES.batch()
    labels = CLASSES.make_labels(batch)
    lora = LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"], r=4)
    model = get_peft_model(copy.deepcopy(base), lora).train()
    model(**batch, **labels).loss.backward()
    assert "BertLiteModel, encode: cpu" in model.base_model.model.backend_report()


def exchange_query(layer: nn.Module) -> None:
    layer.attention.self.query = nn.Sequential(layer.attention.self.query, nn.Tanh())


def exchange_sublayer(layer: nn.Module) -> None:
    class Louder(type(layer.attention)):
        def forward(self, *args, **kwargs):
            hidden_states, weights = super().forward(*args, **kwargs)
            return hidden_states * 2, weights

    layer.attention.__class__ = Louder


def exchange_forward(layer: nn.Module) -> None:
    right = layer.forward
    layer.forward = lambda *args, **kwargs: right(*args, **kwargs) * 2


def exchange_forward_of_a_node(layer: nn.Module) -> None:
    right = layer.attention.output.forward
    layer.attention.output.forward = lambda *args, **kwargs: right(*args, **kwargs) * 2


class Twice(nn.Module):
    """Something in the place of a part."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, hidden_states):
        return self.inner(hidden_states) * 2


def exchange_step(layer: nn.Module) -> None:
    layer.intermediate = Twice(layer.intermediate)


def exchange_dropout(layer: nn.Module) -> None:
    layer.output.dropout = Twice(layer.output.dropout)


def exchange_activation(layer: nn.Module) -> None:
    layer.intermediate.intermediate_act_fn = nn.ReLU()


def exchange_norm(layer: nn.Module) -> None:
    class Louder(nn.LayerNorm):
        def forward(self, hidden_states):
            return super().forward(hidden_states) * 2

    layer.attention.output.LayerNorm.__class__ = Louder


def exchange_forward_of_a_product(layer: nn.Module) -> None:
    layer.output.dense.forward = lambda x: nn.functional.linear(x, layer.output.dense.weight) * 2


EXCHANGES = [
    exchange_query,
    exchange_sublayer,
    exchange_forward,
    exchange_forward_of_a_node,
    exchange_step,
    exchange_dropout,
    exchange_activation,
    exchange_norm,
    exchange_forward_of_a_product,
]


@pytest.mark.parametrize("case", [CLASSES, MASKED_LM], ids=str)
@pytest.mark.parametrize("name", ["cpu", "packed"])
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_part_that_somebody_exchanged_is_the_one_that_runs(case, name, exchange):
    """Under every backend as plainly; it makes a difference; before or after the first call."""
    batch, (plain, model, untouched) = case.batch(), (case.model() for _ in range(3))
    plain, model = set_backend(plain, "plain"), case.on(backend=name).place(model)
    for each in (plain, model):
        exchange(each.bert.encoder.layer[-1])
    with torch.no_grad():
        expected = case.real(plain(**batch), batch)
        assert_equal(case.real(model(**batch), batch), expected)
        before = case.real(untouched(**batch), batch)
        assert (before["logits"] - expected["logits"]).abs().max() > 1e-3
        case.on(backend=name).place(untouched)(**batch)
        exchange(untouched.bert.encoder.layer[-1])
        assert_equal(case.real(untouched(**batch), batch), expected)


@pytest.mark.parametrize("case", [CLASSES, MASKED_LM], ids=str)
def test_layers_offloaded_to_disk_give_the_same(case, tmp_path):
    """The last layer's weights come from a disk each time, also where only one vector is read."""
    model, batch = case.model(), case.batch()
    model.save_pretrained(tmp_path / "model")
    rest = {name: "cpu" for name, _ in model.named_children() if name != "bert"}
    places = {
        "bert.embeddings": "cpu",
        "bert.encoder.layer.0": "cpu",
        "bert.encoder.layer.1": "disk",
        **({"bert.pooler": "cpu"} if case is CLASSES else {}),
        **rest,
    }
    options = {"device_map": places, "offload_folder": str(tmp_path / "offload")}
    loaded = case.model_class.from_pretrained(tmp_path / "model", **options).eval()
    assert loaded.bert.encoder.layer[1].output.dense.weight.is_meta
    with torch.no_grad():
        assert_equal(case.real(loaded(**batch), batch), case.real(model(**batch), batch))


def test_a_pooler_that_reads_more_gets_more():
    """Mean pooling in its place reads every vector."""

    class MeanPooler(nn.Module):
        def forward(self, hidden_states):
            return hidden_states.mean(1)

    case: Case = CLASSES
    plain, model = case.plainly().model(), case.model()
    batch = {name: tensor[:1] for name, tensor in case.batch().items()}  # without padding
    for each in (plain, model):
        each.bert.pooler = MeanPooler()
    with torch.no_grad():
        assert_equal(case.real(model(**batch), batch), case.real(plain(**batch), batch))


def test_a_hook_on_the_encoder_sees_what_mean_pooling_needs():
    """A hook on `model.bert` that averages is not shown zeros at padding."""
    model, batch = BertLiteForSequenceClassification(MODEL.model().config).eval(), MODEL.batch()
    seen = []
    model.bert.register_forward_hook(lambda _, __, output: seen.append(output[0]))
    with torch.no_grad():
        model(**batch)
        expected = set_backend(model, "plain").bert(**batch)[0]
    torch.testing.assert_close(seen[0], expected)
    assert seen[0][batch["attention_mask"] == 0].any(-1).all()


def test_labels_of_nothing_take_the_same_way():
    """A batch of which nothing is predicted: loss 0, under a backend as plainly."""
    batch = MASKED_LM.batch()
    labels = torch.full_like(batch["input_ids"], IGNORED)
    for name in ("cpu", "plain"):
        model = MASKED_LM.on(backend=name).model().train()
        loss = model(**batch, labels=labels).loss
        loss.backward()
        assert loss == 0
