"""A few rows a class: the loss of pairs by hand, the head against scikit-learn, and whole runs."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tasks_cases import ROWS
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

import bertlite
from bertlite.tasks import TASKS, TaskOptions
from bertlite.training.few_shot import (
    check_few_shot,
    classifier_inputs,
    fit_head,
    pair_loss,
    prepare,
)
from bertlite.training.options import RecipeOptions

CLASSIFICATION = "sequence-classification"
QUIET = {"disable_tqdm": True, "use_cpu": True}


def test_the_loss_of_pairs_by_hand():
    """Vectors at 0°, 60° and 90°, classes a, a, b: cosines 0.5 within, 0 and √3/2 between."""
    half, root = 0.5, 3**0.5 / 2
    vectors = torch.tensor([[2.0, 0.0], [half, root], [0.0, 3.0]])
    expected = ((0.5 - 1) ** 2 + (0**2 + root**2) / 2) / 2
    assert float(pair_loss(vectors, torch.tensor([0, 0, 1]))) == pytest.approx(expected)
    alone = pair_loss(vectors[:1].requires_grad_(), torch.tensor([0]))
    assert alone.item() == 0.0  # no pair, nothing to learn, and no NaN
    alone.backward()
    only_different = pair_loss(vectors[[0, 2]], torch.tensor([0, 1]))
    assert float(only_different) == 0.0


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_is_scikit_learns(base, classes):
    """The model's probabilities are those of the logistic regression on the same vectors."""
    names = {number: f"class {number}" for number in range(classes)}
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(
        base, num_labels=classes, id2label=names, problem_type="single_label_classification"
    )
    tokenizer = AutoTokenizer.from_pretrained(base)
    words = ["cat", "paris", "tea"]
    rows = [
        {"text": f"the {words[n % classes]} " * (n // 3 + 1), "label": n % classes}
        for n in range(12)
    ]
    task = TASKS[CLASSIFICATION]
    vectors, labels = classifier_inputs(task, model, tokenizer, rows, TaskOptions())
    assert vectors.shape == (12, model.config.hidden_size)
    assert labels.tolist() == [row["label"] for row in rows]
    fit_head(task, model, tokenizer, rows, TaskOptions())
    expected = LogisticRegression(max_iter=1000).fit(vectors, labels).predict_proba(vectors)
    found = bertlite.classify(
        [row["text"] for row in rows], model, tokenizer, top_k=classes, show_progress=False
    )
    scores = [{each["label"]: each["score"] for each in row} for row in found]
    np.testing.assert_allclose(
        [[row[names[number]] for number in range(classes)] for row in scores], expected, atol=1e-5
    )


def test_a_run_learns_and_its_folder_is_any_other_classifiers(base, tmp_path):
    """Eight rows that a word tells apart; loaded by bertlite, and by transformers' own class."""
    out = tmp_path / "out"
    result = bertlite.finetune(
        CLASSIFICATION,
        base,
        train=ROWS[CLASSIFICATION],
        validation=ROWS[CLASSIFICATION],
        output_dir=out,
        few_shot=True,
        arguments={**QUIET, "num_train_epochs": 5},
        say=None,
    )
    assert not list(out.glob("checkpoint-*"))
    assert result.metrics["train"]["steps"] == 5
    assert result.metrics["validation"]["accuracy"] >= 0.5
    assert not result.model.classifier._forward_pre_hooks
    assert "vectors learnt from pairs of rows" in (out / "README.md").read_text()
    assert json.loads((out / "config.json").read_text())["calibration_temperature"]
    texts = [row["text"] for row in ROWS[CLASSIFICATION]]
    found = bertlite.classify(texts, str(out))
    theirs = AutoModelForSequenceClassification.from_pretrained(out).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)
    with torch.no_grad():
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        logits = theirs(**batch).logits / theirs.config.calibration_temperature
    best = logits.softmax(-1).max(-1)
    assert [each["label"] for each in found] == [
        theirs.config.id2label[number] for number in best.indices.tolist()
    ]
    np.testing.assert_allclose([each["score"] for each in found], best.values, atol=1e-4)


def test_what_it_cannot_do_is_refused(base, tmp_path):
    def run(rows, **options):
        return bertlite.finetune(
            options.pop("task", CLASSIFICATION),
            base,
            train=rows,
            output_dir=tmp_path / "out",
            few_shot=True,
            arguments=QUIET,
            say=None,
            **options,
        )

    rows = ROWS[CLASSIFICATION]
    with pytest.raises(ValueError, match="few_shot has a recipe of its own, got class_weights too"):
        run(rows, class_weights="auto")
    with pytest.raises(ValueError, match="few_shot has a recipe of its own, got lora too"):
        run(rows, lora=True)
    with pytest.raises(ValueError, match=r"rows of every label, got none of \['odd'\]"):
        run(rows, labels=["bad", "good", "odd"])
    with pytest.raises(ValueError, match="one class each, got regression"):
        run([{"text": "a", "label": 0.5}, {"text": "b", "label": 1.5}])
    with pytest.raises(ValueError, match="one class each, got token-classification"):
        run(ROWS["token-classification"], task="token-classification")
    data = SimpleNamespace(
        problem_type="single_label_classification", counts={"train": {"a": 1}}, labels=["a"]
    )
    deep = SimpleNamespace(classifier=torch.nn.Sequential())
    with pytest.raises(ValueError, match="classifier is one linear layer"):
        check_few_shot(deep, data, RecipeOptions())


def test_the_classifier_reads_the_mean(base):
    """One layer more than the model's: the pooler gives the mean of its vectors, normed."""
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(base, num_labels=2).eval()
    theirs = AutoModel.from_pretrained(base).eval()
    prepare(model, base)
    prepare(model, base)  # a second time changes nothing
    assert model.config.num_hidden_layers == theirs.config.num_hidden_layers + 1
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 60, (3, 7), generator=generator)
    mask = (torch.arange(7) < torch.tensor([[7], [4], [1]])).long()
    with torch.no_grad():
        states = theirs(ids, attention_mask=mask).last_hidden_state
        found = model.bert(ids, attention_mask=mask).pooler_output
    means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    normed = torch.nn.functional.layer_norm(means, means.shape[1:])
    expected = torch.nn.functional.normalize(normed)
    cosines = torch.nn.functional.cosine_similarity(found, expected)
    assert float(cosines.min()) > 0.999
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3), atol=0.05, rtol=0)


def test_the_mean_stays_one_in_training(base):
    """Queries, keys and the feed-forward part of the layer that averages have no gradient."""
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(base, num_labels=2).train()
    prepare(model, base)
    ids = torch.randint(5, 60, (4, 6), generator=torch.Generator().manual_seed(0))
    model(ids, labels=torch.tensor([0, 1, 0, 1])).loss.backward()
    layer = model.bert.encoder.layer[-1]
    for part in (layer.attention.self.query, layer.attention.self.key, layer.intermediate.dense):
        assert not part.weight.grad.any()
    assert not layer.output.dense.weight.grad.any()
    assert layer.attention.self.value.weight.grad.any()
    assert model.bert.encoder.layer[0].attention.self.query.weight.grad.any()


def test_a_folder_of_first_vectors_keeps_its_layers(base, tmp_path):
    """`modules.json` says that vectors are the first token's: the pooler hands them on."""
    folder = tmp_path / "model"
    shutil.copytree(base, folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_P", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_P").mkdir()
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_P" / "config.json").write_text(json.dumps(pooling))
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(folder, num_labels=2).eval()
    count = model.config.num_hidden_layers
    prepare(model, str(folder))
    assert model.config.num_hidden_layers == len(model.bert.encoder.layer) == count
    with torch.no_grad():
        found = model.bert(torch.tensor([[5, 6, 7]]))
    first = found.last_hidden_state[:, 0]
    cosine = torch.nn.functional.cosine_similarity(found.pooler_output, first)
    assert float(cosine) > 0.999
