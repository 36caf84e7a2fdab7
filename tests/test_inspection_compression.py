"""From a trained model to a faster one: what is cut, how it recovers, and the command."""

import json

import pytest
import torch
from cases import bert_config, randomize
from test_travelling import WORDS, make_tokenizer
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput

import bertlite
from bertlite.cli.main import main
from bertlite.inspection import Importance, PruneOptions, compression, cutting
from bertlite.inspection.layer_parts import layers_of
from bertlite.inspection.recovery import answers_distance, states_distance

TEXTS = {"good": ["the film was good .", "good film .", "a good film .", "the good film"]}
TEXTS["dull"] = ["the film was dull .", "dull film .", "a dull film .", "the dull film"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny classifier in a folder, and files of rows."""
    folder = tmp_path_factory.mktemp("pruning")
    config = bert_config(
        vocab_size=len(WORDS),
        num_labels=2,
        intermediate_size=96,
        id2label={0: "dull", 1: "good"},
        label2id={"dull": 0, "good": 1},
        problem_type="single_label_classification",
    )
    model = randomize(bertlite.BertLiteForSequenceClassification(config))
    model.save_pretrained(folder / "model")
    make_tokenizer(folder).save_pretrained(folder / "model")
    rows = [{"text": text, "label": label} for label, texts in TEXTS.items() for text in texts]
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / "train.jsonl").write_text("".join(lines * 2))
    (folder / "held.jsonl").write_text("".join(lines[:6]))
    (folder / "rest.jsonl").write_text("".join(lines[3:]))
    return folder


def importance_of(heads, neurons) -> Importance:
    return Importance([torch.tensor(each) for each in heads], neurons, 1, "encoder")


def counted(model, other, batches, rounds=3):
    """A speed that is counted: tests time nothing."""
    sizes = [cutting.weights_of(layers_of(each)) + 10_000 for each in (model, other)]
    return sizes[0] / sizes[1]


def test_the_least_important_for_its_cost_goes_first():
    """Heads of layer 0 weigh 4 x 32 x 8 each, a block of 32 neurons 2 x 32 x 32: twice as much."""
    model = bertlite.BertLiteModel(bert_config(intermediate_size=96))
    neurons = [torch.full((96,), 1.0), torch.full((96,), 1.0)]
    neurons[1][40:72] = 0.01  # a block worth 0.32 in all, 0.16 for the cost of a head
    importance = importance_of([[0.1, 5.0, 0.2, 9.0], [7.0, 8.0, 6.0, 0.15]], neurons)
    whole = 2 * (4 * 32 * 32 + 2 * 32 * 96)
    head, block = 4 * 32 * 8, 2 * 32 * 32
    expected = [
        (head, {0: [0]}, {}),
        (2 * head, {0: [0], 1: [3]}, {}),
        (2 * head + block, {0: [0], 1: [3]}, {1: list(range(40, 72))}),
        (3 * head + block, {0: [0, 2], 1: [3]}, {1: list(range(40, 72))}),
    ]
    for cost, heads, cut_neurons in expected:
        cut = cutting.cut_by_importance(model, importance, (cost + 1) / whole)
        assert cut.heads == heads
        assert {layer: sorted(each) for layer, each in cut.neurons.items()} == cut_neurons
    everything = cutting.cut_by_importance(model, importance, 1.0)
    small = everything.apply(model)
    assert small.config.heads_per_layer == [1, 1]
    assert small.config.intermediate_size == 32
    assert sorted(everything.heads[0]) == [0, 1, 2]  # the most important stays


def test_the_smallest_cut_that_is_fast_enough(monkeypatch):
    model = bertlite.BertLiteModel(bert_config(intermediate_size=96))

    monkeypatch.setattr(cutting, "measured_speed", counted)
    generator = torch.Generator().manual_seed(0)
    heads = [torch.rand(4, generator=generator).tolist() for _ in range(2)]
    importance = importance_of(heads, [torch.rand(96, generator=generator) for _ in range(2)])
    cut, speed = cutting.cut_for_speed(model, importance, 1.3, [])
    assert 1.3 <= speed < 1.45
    with pytest.raises(ValueError, match=r"speed must be at most 1\.\d+ for this model.* got 9"):
        cutting.cut_for_speed(model, importance, 9, [])
    fewer, _ = cutting.layers_for_speed(model, 1.2, [])
    assert fewer.layers == [1]
    assert not cut.layers


def test_speed_is_measured_in_turn(monkeypatch):
    """Both run as often, after once to warm up, and the ratio is that of their best times."""
    now, seen = [0.0], []

    class Slow(torch.nn.Module):
        def __init__(self, seconds):
            super().__init__()
            self.seconds = seconds

        def forward(self, input_ids):
            seen.append(self.seconds)
            now[0] += self.seconds * (100 if len(seen) <= 2 else 1)  # the first time counts not

    monkeypatch.setattr(cutting.time, "process_time", lambda: now[0])
    monkeypatch.setattr(cutting.time, "perf_counter", lambda: now[0])
    found = cutting.measured_speed(Slow(3.0), Slow(1.0), [{"input_ids": 0}], rounds=3)
    assert found == pytest.approx(3.0)
    assert seen.count(3.0) == seen.count(1.0) == 4
    assert seen[2:6] in ([3.0, 1.0, 1.0, 3.0], [1.0, 3.0, 3.0, 1.0])


def test_distances_are_those_of_the_papers():
    """Logits (0, 0) against (2 ln 3, 0) at temperature 2: a half and a half against 3/4 and 1/4.

    KL(3/4, 1/4 || 1/2, 1/2) = 3/4 ln 3/2 + 1/4 ln 1/2, times the temperature's square.
    """
    ours = SequenceClassifierOutput(logits=torch.zeros(1, 2))
    theirs = SequenceClassifierOutput(logits=torch.tensor([[2 * 1.0986123, 0.0]]))
    expected = 4 * (0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log())
    labels = torch.tensor([0])
    found = answers_distance(ours, theirs, labels, has_classes=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    found = answers_distance(ours, theirs, labels, has_classes=False)
    torch.testing.assert_close(found, torch.tensor((2 * 1.0986123) ** 2 / 2))
    tokens = TokenClassifierOutput(logits=torch.zeros(1, 2, 2))
    other = TokenClassifierOutput(logits=torch.stack([theirs.logits, 99 + theirs.logits * 7], 1))
    labels = torch.tensor([[1, -100]])  # what carries no label is not compared
    found = answers_distance(tokens, other, labels, has_classes=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    mask = torch.tensor([[True, False]])
    mine, other = torch.tensor([[[1.0, 2.0], [9.0, 9.0]]]), torch.tensor([[[1.0, 3.0], [0.0, 0.0]]])
    found = states_distance([mine], [other], mask)  # 1 / (1 + 9)
    torch.testing.assert_close(found, torch.tensor(0.1))


@pytest.mark.slow
def test_the_command(place, capsys, monkeypatch):
    for module in (cutting, compression):
        monkeypatch.setattr(module, "measured_speed", counted)
    words = ["prune", str(place / "model"), "--speed", "1.3", "--epochs", "2"]
    words += ["--data", str(place / "train.jsonl"), "--validation", str(place / "held.jsonl")]
    words += ["--test", str(place / "rest.jsonl"), "--baseline", "--output", str(place / "fast")]
    assert main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "heads and" in said
    assert "(whole layers)" in said
    assert "train_runtime" not in said
    record = json.loads((place / "fast/pruning.json").read_text())
    ways = [(point["way"], point["recovered"]) for point in record["points"]]
    assert ways[0] == ("unpruned", False)
    assert ways[-2:] == [("heads and neurons", True), ("whole layers", True)]
    assert set(record["test"]) == {"unpruned", "pruned", "whole layers"}
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(place / "fast")
    sizes = model.config.heads_per_layer or [4, 4]
    cut = sum(map(len, record["cut"]["heads"].values()))
    assert sum(sizes) == 8 - cut
    answers = bertlite.classify(["a good film ."], place / "fast")
    assert answers[0]["label"] in TEXTS
    card = (place / "fast/README.md").read_text()
    assert "pruning_curve.png" in card
    assert (place / "fast/pruning_curve.png").stat().st_size > 5_000
    assert f"{record['points'][-1]['figures']['accuracy']:.4f}" in card
    whole = bertlite.BertLiteForSequenceClassification.from_pretrained(place / "model")
    assert whole.config.heads_per_layer is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "{new}"], "data must name a file of training rows"),
        (["--data", "{train}", "--output", "{new}"], "validation must name a file"),
        (["--data", "{train}", "--validation", "{held}"], "--output must name the folder"),
        (["--data", "{train}", "--train", "{held}", "--output", "{new}"], "are one option"),
        (["--data", "{train}", "--validation", "{held}", "--output", "{full}"], "new or empty"),
        (["--data", "{train}", "--validation", "{held}", "--output", "{held}/a"], "can be written"),
        (["--speed", "0.5", "--output", "{new}"], "speed must be a number from 1"),
        (["--sped", "2", "--output", "{new}"], "is --speed"),
    ],
)
def test_bad_options_are_one_line(words, message, place, capsys):
    names = {"train": place / "train.jsonl", "held": place / "held.jsonl", "full": place}
    names["new"] = place / "never"
    filled = [word.format(**names) for word in words]
    assert main(["prune", str(place / "model"), *filled]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (place / "never").exists()


def test_a_transformer_is_named_as_what_the_command_cannot(place, tmp_path, capsys):
    words = [
        "prune",
        str(place / "model"),
        "--task",
        "translation",
        "--output",
        str(tmp_path / "x"),
    ]
    words += ["--data", str(place / "train.jsonl"), "--validation", str(place / "held.jsonl")]
    assert main(words) == 2
    assert "must be an encoder with a head" in capsys.readouterr().err


def test_options_are_checked():
    with pytest.raises(ValueError, match="batch_size"):
        PruneOptions(batch_size=0)
    with pytest.raises(ValueError, match="epochs must be a number from 0"):
        PruneOptions(epochs=-1)
