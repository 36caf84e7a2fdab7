"""Checkpoints that TensorFlow itself wrote.

Read, compared with its own forward pass, written back, or refused.
"""

import shutil
from pathlib import Path

import google_bert
import numpy as np
import pytest
import torch
import transformers
from google_bert import CONFIG, IDS, LABELS, MASK, SEGMENTS, VOCABULARY
from transformers import AutoTokenizer

import bertlite
from bertlite.cli.convert import main
from bertlite.conversion import load_tensorflow_checkpoint, save_tensorflow_checkpoint

pytestmark = pytest.mark.slow  # importing TensorFlow alone takes four seconds

# Our head: what the graph has, the command's --head (None: found), and which fields equal which of
# its outputs.
HEADS = {
    "Model": ((), None, {"last_hidden_state": "states", "pooler_output": "pooled"}),
    "ForPreTraining": (
        ("predictions", "relationship"),
        None,
        {"prediction_logits": "predictions", "seq_relationship_logits": "relationship"},
    ),
    "ForMaskedLM": (("predictions",), None, {"logits": "predictions"}),
    "ForNextSentencePrediction": (("relationship",), None, {"logits": "relationship"}),
    "ForSequenceClassification": (("classifier",), None, {"logits": "classifier"}),
    "ForTokenClassification": (("tagger",), "token-classification", {"logits": "tagger"}),
    "ForMultipleChoice": (("choice",), "multiple-choice", {"logits": "choice"}),
    "ForQuestionAnswering": (("squad",), None, {"start_logits": "squad", "end_logits": "squad"}),
}
POOLERLESS = ("ForMaskedLM", "ForTokenClassification", "ForQuestionAnswering")
EVERY_HEAD = pytest.mark.parametrize("head", HEADS)


@pytest.fixture(scope="module")
def tensorflow():
    import tensorflow

    return tensorflow


@pytest.fixture(scope="module")
def written(tensorflow, tmp_path_factory) -> dict[str, google_bert.Written]:
    """A folder as Google's for each head, in one go."""
    root = tmp_path_factory.mktemp("google")
    return {
        head: google_bert.write(tensorflow, root / head, parts, seed=number)
        for number, (head, (parts, _, _)) in enumerate(HEADS.items())
    }


@pytest.fixture(scope="module")
def converted(written, tmp_path_factory) -> dict[str, Path]:
    """The same through the command."""
    root = tmp_path_factory.mktemp("bertlite")
    for head, (_, option, _) in HEADS.items():
        extra = ["--head", option] if option else []
        assert main([str(written[head].folder), str(root / head), *extra]) == 0
    return {head: root / head for head in HEADS}


def compare(model, head: str, outputs: dict[str, np.ndarray]) -> None:
    """A model's outputs for the graph's ids against the graph's, where there is a word."""
    ids, mask, segments = (torch.tensor(array) for array in (IDS, MASK, SEGMENTS))
    if head == "ForMultipleChoice":
        ids, mask, segments = ids[:, None], mask[:, None], segments[:, None]
    with torch.no_grad():
        made = model.eval()(input_ids=ids, attention_mask=mask, token_type_ids=segments)
    for field, name in HEADS[head][2].items():
        expected = outputs[name]
        if name == "squad":
            expected = expected[..., 0 if field == "start_logits" else 1]
        mine = made[field].numpy()
        assert mine.shape == expected.shape, field
        if expected.shape[:2] == IDS.shape:
            mine, expected = mine[MASK == 1], expected[MASK == 1]
        np.testing.assert_allclose(mine, expected, atol=1e-5, rtol=0, err_msg=field)
        assert np.abs(expected).max() > 0.1


def variables(tensorflow, prefix) -> dict[str, np.ndarray]:
    reader = tensorflow.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@EVERY_HEAD
def test_forward_equals_tensorflow_and_transformers(head, written, converted):
    ours, info = getattr(bertlite, f"BertLite{head}").from_pretrained(
        converted[head], output_loading_info=True
    )
    theirs, their_info = getattr(transformers, f"Bert{head}").from_pretrained(
        converted[head], output_loading_info=True
    )
    for found in (info, their_info):
        assert not found["missing_keys"]
        assert not found["unexpected_keys"]
    compare(ours, head, written[head].outputs)
    compare(theirs, head, written[head].outputs)
    compare(
        load_tensorflow_checkpoint(written[head].folder, type(ours)), head, written[head].outputs
    )


@EVERY_HEAD
def test_back_to_tensorflow_bit_for_bit(head, tensorflow, written, converted, tmp_path):
    """Google's own graph restores what we write, and computes the same.

    The files are those of the release.

    A head that reads no pooler has none with us, so none is written.
    """
    assert main([str(converted[head]), str(tmp_path / "back")]) == 0
    prefix = tmp_path / "back/bert_model.ckpt"
    again = variables(tensorflow, prefix)
    lost = {"bert/pooler/dense/kernel", "bert/pooler/dense/bias"} if head in POOLERLESS else set()
    values = written[head].values
    weights = {
        n: v
        for n, v in values.items()
        if "/adam_" not in n and n != "global_step" and n not in lost
    }
    assert again.keys() == weights.keys()
    for name, value in weights.items():
        assert np.array_equal(again[name], value), name
    outputs, lacking = google_bert.restore(tensorflow, prefix, HEADS[head][0])
    assert lacking == lost
    for name, value in written[head].outputs.items():
        assert np.array_equal(outputs[name], value) or (lost and name == "pooled"), name
    assert sorted(
        path.name.removeprefix("bert_model.ckpt") for path in (tmp_path / "back").iterdir()
    ) == [".data-00000-of-00001", ".index", ".meta", "bert_config.json", "vocab.txt"]
    assert (tmp_path / "back/vocab.txt").read_text() == (
        written[head].folder / "vocab.txt"
    ).read_text()


@EVERY_HEAD
def test_bertlite_to_tensorflow_and_back_bit_for_bit(head, tmp_path):
    config = bertlite.BertLiteConfig(**CONFIG, num_labels=2 if "Question" in head else LABELS)
    model = getattr(bertlite, f"BertLite{head}")(config).eval()
    prefix = save_tensorflow_checkpoint(model, tmp_path / "new/bert_model.ckpt")
    again = load_tensorflow_checkpoint(prefix, type(model))
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_folder_of_transformers_bert_is_written(tensorflow, tmp_path):
    """A BERT folder that was never ours, half precision and all, without a tokenizer."""
    theirs = transformers.BertForSequenceClassification(
        transformers.BertConfig(**CONFIG, num_labels=LABELS)
    )
    theirs.to(torch.bfloat16).save_pretrained(tmp_path / "theirs")
    assert main([str(tmp_path / "theirs"), str(tmp_path / "google")]) == 0
    found = variables(tensorflow, tmp_path / "google/bert_model.ckpt")
    kernel = theirs.bert.encoder.layer[1].intermediate.dense.weight.detach().float().numpy()
    assert np.array_equal(found["bert/encoder/layer_1/intermediate/dense/kernel"], kernel.T)
    assert np.array_equal(
        found["output_weights"], theirs.classifier.weight.detach().float().numpy()
    )
    assert not (tmp_path / "google/vocab.txt").exists()


def test_a_folder_with_more_than_its_class_asks_for_the_head(tmp_path):
    """As the published bert-base-uncased.

    A config that names ForMaskedLM, weights of both pretraining heads.
    """
    config = transformers.BertConfig(**CONFIG)
    transformers.BertForPreTraining(config).save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs/config.json"
    path.write_text(path.read_text().replace("BertForPreTraining", "BertForMaskedLM"))
    with pytest.raises(ValueError, match="cls.seq_relationship.*choose another head"):
        main([str(tmp_path / "theirs"), str(tmp_path / "google")])
    assert not (tmp_path / "google").exists()
    assert main([str(tmp_path / "theirs"), str(tmp_path / "google"), "--head", "pretraining"]) == 0


def test_tokenizer_and_labels(written, tmp_path, capsys):
    folder = written["ForSequenceClassification"].folder
    main([str(folder), str(tmp_path / "out"), "--labels", "bad", "fair", "good"])
    assert (
        "lower case, since the vocabulary has no capital letters; accents taken away"
        in capsys.readouterr().out
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.tokenize("The Café was BADLY.") == ["the", "cafe", "was", "bad", "##ly", "."]
    assert tokenizer("good film").input_ids == [2, 8, 6, 3]
    assert tokenizer.get_vocab() == {token: number for number, token in enumerate(VOCABULARY)}
    assert tokenizer.model_max_length == CONFIG["max_position_embeddings"]
    config = bertlite.BertLiteConfig.from_pretrained(tmp_path / "out")
    assert config.id2label == {0: "bad", 1: "fair", 2: "good"}
    main([str(folder), str(tmp_path / "cased"), "--cased"])
    assert AutoTokenizer.from_pretrained(tmp_path / "cased").tokenize("The film") == [
        "[UNK]",
        "film",
    ]
    with pytest.raises(ValueError, match="labels must be 3.*got 2"):
        main([str(folder), str(tmp_path / "no"), "--labels", "bad", "good"])


def test_several_heads_extra_and_missing_variables(tensorflow, tmp_path):
    google = tmp_path / "several"
    heads = ("predictions", "relationship", "squad")
    made = google_bert.write(
        tensorflow, google, heads, "model.ckpt-12", [("mine/w", 2, 3), ("good_steps",)]
    )
    prefix = google / "model.ckpt-12"
    with pytest.raises(
        ValueError, match="head must be chosen.*pretraining, question-answering or none"
    ):
        load_tensorflow_checkpoint(google)
    with pytest.raises(ValueError, match="unknown variables: mine/w;"):
        load_tensorflow_checkpoint(google, bertlite.BertLiteForPreTraining)
    with pytest.raises(
        ValueError,
        match="missing for the head 'sequence-classification': output_bias, output_weights",
    ):
        load_tensorflow_checkpoint(
            prefix, bertlite.BertLiteForSequenceClassification, ignore=["mine/*"]
        )
    with pytest.raises(ValueError, match="fits 'yours'"):
        load_tensorflow_checkpoint(prefix, bertlite.BertLiteModel, ignore=["yours"])
    for head in ("ForPreTraining", "ForQuestionAnswering", "Model"):
        model_class = getattr(bertlite, f"BertLite{head}")
        model = load_tensorflow_checkpoint(f"{prefix}.index", model_class, ignore=["mine/*"])
        compare(model, head, made.outputs)


def test_what_was_passed_over_is_said(written, tmp_path, capsys):
    main([str(written["ForPreTraining"].folder), str(tmp_path / "out"), "--head", "none"])
    out = capsys.readouterr().out
    assert "left out, since this model has no place for them: cls/predictions/output_bias" in out
    count = 2 * sum("/adam_m" in name for name in written["ForPreTraining"].values) + 1
    assert f"{count} variables of the optimizer passed over" in out


def test_a_config_that_does_not_fit(written, tmp_path):
    folder = shutil.copytree(written["ForMaskedLM"].folder, tmp_path / "google")
    text = (folder / "bert_config.json").read_text()
    (folder / "bert_config.json").write_text(
        text.replace('"intermediate_size": 20', '"intermediate_size": 24')
    )
    with pytest.raises(
        ValueError, match=r"layer_0/intermediate/dense/kernel is \(12, 20\), expected \(12, 24\)"
    ):
        main([str(folder), str(tmp_path / "out")])
    (folder / "bert_config.json").write_text(
        text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 1')
    )
    with pytest.raises(
        ValueError, match="unknown variables: bert/encoder/layer_1/.*num_hidden_layers is 1"
    ):
        main([str(folder), str(tmp_path / "out")])
    (folder / "bert_config.json").write_text(
        text.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
    )
    with pytest.raises(ValueError, match="variables missing.*bert/encoder/layer_2/"):
        main([str(folder), str(tmp_path / "out")])
    assert [path.name for path in tmp_path.iterdir()] == ["google"]  # nothing half-written


@pytest.mark.parametrize("part", [".data-00000-of-00001", ".index"])
@pytest.mark.parametrize("harm", ["cut", "flip", "empty"])
def test_a_damaged_checkpoint_is_refused(part, harm, written, tmp_path):
    folder = shutil.copytree(written["ForMaskedLM"].folder, tmp_path / "google")
    path = folder / f"bert_model.ckpt{part}"
    good = path.read_bytes()
    middle = len(good) // 2
    harmed = {
        "cut": good[:middle],
        "flip": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        "empty": b"",
    }
    path.write_bytes(harmed[harm])
    with pytest.raises(ValueError, match="bert_model.ckpt.*damaged"):
        main([str(folder), str(tmp_path / "out"), "--head", "masked-lm"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["google"]


@pytest.mark.parametrize(
    "rename", [lambda name: f"{name}:0", lambda name: name.removeprefix("bert/")]
)
def test_old_layouts_of_names(rename, tensorflow, written, tmp_path):
    folder = shutil.copytree(written["ForMaskedLM"].folder, tmp_path / "google")
    values = {rename(name): value for name, value in written["ForMaskedLM"].values.items()}
    prefix = str(folder / "bert_model.ckpt")
    tensors = [tensorflow.constant(value) for value in values.values()]
    tensorflow.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=tensors,
    )
    compare(load_tensorflow_checkpoint(folder), "ForMaskedLM", written["ForMaskedLM"].outputs)


def test_another_type_is_refused(tensorflow, written, tmp_path):
    folder = shutil.copytree(written["ForMaskedLM"].folder, tmp_path / "google")
    values = {
        name: value.astype(np.float64) for name, value in written["ForMaskedLM"].values.items()
    }
    tensors = [tensorflow.constant(value) for value in values.values()]
    names, prefix = list(values), str(folder / "bert_model.ckpt")
    tensorflow.raw_ops.SaveV2(
        prefix=prefix, tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
    )
    with pytest.raises(
        ValueError, match="must be float32, got float64 for bert/embeddings/word_embeddings"
    ):
        load_tensorflow_checkpoint(folder)


def test_a_failed_write_leaves_the_folder_as_it_was(monkeypatch, tmp_path):
    """The disk is full in the middle: the checkpoint that stood there before still loads."""
    model = bertlite.BertLiteModel(bertlite.BertLiteConfig(**CONFIG)).eval()
    prefix = save_tensorflow_checkpoint(model, tmp_path / "out/bert_model.ckpt")
    other = bertlite.BertLiteModel(bertlite.BertLiteConfig(**CONFIG))

    def fail(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr("bertlite.conversion.writing.json.dumps", fail)
    for target in (prefix, tmp_path / "new/bert_model.ckpt"):
        with pytest.raises(OSError, match="no space"):
            save_tensorflow_checkpoint(other, target)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    again = load_tensorflow_checkpoint(prefix)
    assert torch.equal(
        again.embeddings.word_embeddings.weight, model.embeddings.word_embeddings.weight
    )


def test_the_chinese_vocabulary_goes_both_ways(tmp_path, capsys):
    """Its line U+2028 goes from a BERT folder to TensorFlow and back to the byte."""
    lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u2028", "中", "文"]
    content = "".join(f"{line}\n" for line in lines).encode()
    sizes = {**CONFIG, "vocab_size": len(lines)}
    folder = tmp_path / "bert"
    transformers.BertForPreTraining(transformers.BertConfig(**sizes)).save_pretrained(folder)
    (folder / "vocab.txt").write_bytes(content)
    assert main([str(folder), str(tmp_path / "google")]) == 0
    assert (tmp_path / "google" / "vocab.txt").read_bytes() == content
    assert main([str(tmp_path / "google"), str(tmp_path / "lite"), "--keep_accents"]) == 0
    assert "lower case, since the vocabulary has no capital letters; accents kept" in (
        capsys.readouterr().out
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "lite")
    assert (tokenizer.convert_tokens_to_ids(["中", "文"]), len(tokenizer)) == ([6, 7], 8)
    assert main([str(tmp_path / "lite"), str(tmp_path / "back")]) == 0
    assert (tmp_path / "back" / "vocab.txt").read_bytes() == content
    assert "this tokenizer keeps them" in capsys.readouterr().out
