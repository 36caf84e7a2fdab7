"""`bertlite export`: graphs equal to transformers' classes, and `run.py` equal to bertlite."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from export_cases import folder_of, run_alone
from inference_cases import TEXTS, same, wordpiece
from pairs import HEADS, bert_pair
from transformers import pipeline

import bertlite
from bertlite.backends.engines.sessions import OnnxSession
from bertlite.cli.main import main
from bertlite.export import checking, exporting
from bertlite.export.exporting import export_folder
from bertlite.export.plans import make_batch
from bertlite.export.sources import read_source

LONG = "the cat sat on a mat in paris and anna drank tea with bob " * 8
FAST = ("ForSequenceClassification", "ForQuestionAnswering")


def exported(head, path, **options):
    folder = folder_of(head, path / "model")
    export_folder(folder, path / "out", **options)
    return folder, path / "out"


@pytest.mark.parametrize(
    "head", [pytest.param(head, marks=[] if head in FAST else pytest.mark.slow) for head in HEADS]
)
def test_graphs_give_what_transformers_gives(head, tmp_path):
    """Their class, on batches of other shapes than the graph was recorded with."""
    theirs, _ = bert_pair(head, tmp_path / "model")
    tokenizer = wordpiece()
    tokenizer.save_pretrained(tmp_path / "model")
    export_folder(tmp_path / "model", tmp_path / "out")
    session = OnnxSession(tmp_path / "out" / "model.onnx")
    source = read_source(tmp_path / "model")
    for lengths, side in (((9, 5, 2), "right"), ((3,), "right"), ((7, 12, 1), "left")):
        batch = make_batch(source, lengths, side, seed=5, choices=3)
        found = session.run({name: tensor.numpy() for name, tensor in batch.items()})
        with torch.no_grad():
            expected = theirs.eval()(**batch).to_tuple()
        if head == "Model":  # the second is our vector, theirs a pooler's
            found, expected = found[:1], expected[:1]
        real = batch["attention_mask"].bool()
        for one, other in zip(found, expected, strict=True):
            if other.shape[:2] == real.shape and head != "ForMultipleChoice":
                one, other = torch.tensor(one)[real], other[real]
            elif side == "left":
                continue  # a head that reads the first position reads padding
            np.testing.assert_allclose(one, other, atol=2e-5, rtol=1e-4)


def test_a_classifier_without_torch(tmp_path):
    folder, out = exported("SequenceClassification", tmp_path)
    texts = [*TEXTS, LONG]
    pairs = [f"{TEXTS[0]}\t{LONG}", f"{LONG}\t{TEXTS[1]}"]
    alone, of_pairs = run_alone(out, ["classify", texts], ["classify", pairs])
    same(alone, bertlite.classify(texts, folder))
    first, second = zip(*(pair.split("\t") for pair in pairs), strict=True)
    same(of_pairs, bertlite.classify(list(first), folder, text_pair=list(second)))
    settings = json.loads((out / "export.json").read_text())
    assert settings["check"]["largest_difference"]["logits"] < 1e-4
    assert (out / "requirements.txt").read_text().split() == ["numpy", "tokenizers", "onnxruntime"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "labels"), [("multi_label_classification", 3), ("regression", 1), ("regression", 2)]
)
def test_other_kinds_of_classifiers(kind, labels, tmp_path):
    folder = folder_of("SequenceClassification", tmp_path / "model")
    names = dict(enumerate("abc"[:labels]))
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(
        folder, num_labels=labels, id2label=names, ignore_mismatched_sizes=True
    )
    model.config.problem_type = kind
    model.config.calibration_temperature = 1.7
    model.save_pretrained(folder)
    export_folder(folder, tmp_path / "out")
    (alone,) = run_alone(tmp_path / "out", ["classify", [*TEXTS, LONG]])
    same(alone, bertlite.classify([*TEXTS, LONG], folder))


def test_answers_without_torch(tmp_path):
    """Also from several windows; padding of the shorter one does not count."""
    folder, out = exported("QuestionAnswering", tmp_path)
    contexts = [TEXTS[2], LONG + TEXTS[3], TEXTS[3]]
    questions = ["who went?", "where?", "who drank tea in a café?"]
    calls = [["answer", *each] for each in zip(questions, contexts, strict=True)]
    same(run_alone(out, *calls), bertlite.answer(questions, contexts, folder))
    lines = f"{questions[0]}\t{contexts[0]}\n\nwho?\n"
    done = subprocess.run(
        [sys.executable, out / "run.py"], input=lines, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "run.py: error: QUESTION and CONTEXT must be given, got ['who?']\n"
    found, blank = map(json.loads, done.stdout.splitlines())
    same(found, bertlite.answer(questions[0], contexts[0], folder))
    assert blank is None


def test_padding_of_questions_changes_no_answer(tmp_path):
    """In bertlite padding is left out and its logits are those of zeros; in a graph it is computed.

    Neither may be picked: each row's own logits and answer are what they are alone.
    """
    folder, out = exported("QuestionAnswering", tmp_path)
    source = read_source(folder)
    session = OnnxSession(out / "model.onnx")
    batch = make_batch(source, (5, 40, 17), seed=3)
    flat = bertlite.BertLiteForQuestionAnswering.from_pretrained(folder).eval()
    with torch.no_grad():
        ours = flat(**batch).to_tuple()
    assert "encode: cpu" in " ".join(flat.backend_report())
    together = session.run({name: each.numpy() for name, each in batch.items()})
    for row, length in enumerate((5, 40, 17)):
        alone = session.run({n: each[row : row + 1, :length].numpy() for n, each in batch.items()})
        for one, padded, unpadded in zip(alone, together, ours, strict=True):
            np.testing.assert_allclose(padded[row, :length], one[0], atol=2e-5)
            np.testing.assert_allclose(unpadded[row, :length], one[0], atol=2e-5)
    texts = [TEXTS[0], LONG, TEXTS[2]]
    by_one = [bertlite.answer("who?", text, folder) for text in texts]
    same(bertlite.answer("who?", texts, folder), by_one)
    same(run_alone(out, *(["answer", "who?", text] for text in texts)), by_one)


@pytest.mark.slow
def test_tags_without_torch(tmp_path):
    folder, out = exported("TokenClassification", tmp_path)
    texts = [*TEXTS, LONG + TEXTS[3]]
    (alone,) = run_alone(out, ["tag", texts])
    same(alone, bertlite.tag(texts, folder))
    assert any(alone)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "mean_sqrt_len_tokens", "lasttoken"])
def test_vectors_without_torch(pooling, tmp_path):
    """Those of sentence-transformers, which saved the folder."""
    library = pytest.importorskip("sentence_transformers", reason="its vectors are compared with")
    from sentence_transformers.sentence_transformer import modules

    folder_of("Model", tmp_path / "base")
    transformer = modules.Transformer(str(tmp_path / "base"), max_seq_length=20)
    parts = [transformer, modules.Pooling(32, pooling_mode=pooling)]
    parts += [modules.Dense(32, 8)] if pooling == "max" else [modules.Normalize()]
    model = library.SentenceTransformer(modules=parts, device="cpu")
    model.save(str(tmp_path / "model"))
    export_folder(tmp_path / "model", tmp_path / "out")
    (alone,) = run_alone(tmp_path / "out", ["embed", [*TEXTS, LONG]])
    np.testing.assert_allclose(alone, model.encode([*TEXTS, LONG]), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["MaskedLM", "PreTraining"])
def test_words_for_a_mask_without_torch(head, tmp_path):
    folder, out = exported(head, tmp_path)
    texts = ["the cat [MASK] on a mat", "[MASK] went to paris with anna and bob"]
    (alone,) = run_alone(out, ["fill_mask", texts])
    filled = pipeline("fill-mask", str(folder), top_k=5) if head == "MaskedLM" else None
    for text, found in zip(texts, alone, strict=True):
        expected = filled(text) if filled else words(folder, text)
        same([each["token"] for each in found], [each["token"] for each in expected])
        same([each["score"] for each in found], [each["score"] for each in expected])


def words(folder, text):
    """The likeliest words at the mask, by hand."""
    model, tokenizer = bertlite.BertLiteForPreTraining.from_pretrained(folder).eval(), wordpiece()
    rows = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        logits = model(**rows).prediction_logits[0]
    place = rows["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    best = logits[place].softmax(-1).topk(5)
    tokens = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [{"token": token, "score": score} for token, score in tokens]


@pytest.mark.slow
def test_choices_and_pairs_without_torch(tmp_path):
    folder, out = exported("MultipleChoice", tmp_path / "choices")
    row = {"question": LONG, "choices": ["anna", "bob cat", "london and paris"]}
    (alone,) = run_alone(out, ["choose", row["question"], row["choices"]])
    same([alone], list(bertlite.predict(folder, [row])))
    folder, out = exported("NextSentencePrediction", tmp_path / "pairs")
    pairs = [(TEXTS[0], TEXTS[2]), (TEXTS[1], TEXTS[0])]
    (alone,) = run_alone(out, ["next_sentence", ["\t".join(pair) for pair in pairs]])
    model = bertlite.BertLiteForNextSentencePrediction.from_pretrained(folder).eval()
    for pair, found in zip(pairs, alone, strict=True):
        with torch.no_grad():
            logits = model(**wordpiece()(*pair, return_tensors="pt")).logits
        assert found["is_next"] == pytest.approx(float(logits.softmax(-1)[0, 0]), abs=1e-5)


def test_what_differs_is_not_written(tmp_path, monkeypatch):
    """A graph that is wrong by little, or gives no numbers."""
    folder = folder_of("SequenceClassification", tmp_path / "model")
    real = OnnxSession.run
    for wrong in (lambda each: each + 2e-2, lambda each: each * np.nan):
        monkeypatch.setattr(
            OnnxSession,
            "run",
            lambda self, given, wrong=wrong: [wrong(each) for each in real(self, given)],
        )
        with pytest.raises(ValueError, match="logits of the graph must be within 0.0001"):
            export_folder(folder, tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert checking.largest_difference(np.array([1.0, 3.0]), np.array([1.0, 2.0])) == 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["onnx", "{here}", "--out", "{full}"], "out must be new or empty"),
        (["onnx", "{here}", "--out", "{full}/a.txt"], "out must be a folder, got the file"),
        (["onnx", "{here}", "--out", "{new}", "--data", "a.csv"], "data must come with int8"),
        (["onnx", "{here}", "--out", "{new}"], "model must be a folder with a config.json"),
        (["pickle", "{here}", "--out", "{new}"], "invalid choice: 'pickle'"),
        (["onnx", "{gpt}", "--out", "{new}"], "got GPT2LMHeadModel"),
        (["onnx", "{other}", "--out", "{new}"], "got model_type 'fnet'"),
        (["onnx", "{here}", "--out", "{new}", "--int", "8"], "--int8"),
    ],
)
def test_refusals_are_one_line(words, message, tmp_path, capsys):
    places = {"here": tmp_path / "here", "full": tmp_path / "full", "new": tmp_path / "new"}
    places |= {"gpt": tmp_path / "gpt", "other": tmp_path / "other"}
    for name in ("here", "full", "gpt", "other"):
        places[name].mkdir()
    (places["full"] / "a.txt").write_text("")
    write_config(places["gpt"], "gpt2", "GPT2LMHeadModel")
    write_config(places["other"], "fnet", "FNetForTokenClassification")
    if "other" in words[1]:
        from transformers import FNetConfig, FNetForTokenClassification

        config = FNetConfig(num_hidden_layers=1, hidden_size=8, intermediate_size=8)
        FNetForTokenClassification(config).save_pretrained(places["other"])
    try:
        status = main(["export", *(word.format(**places) for word in words)])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not places["new"].exists()


def write_config(folder, model_type, architecture):
    fields = {"model_type": model_type, "architectures": [architecture]}
    (folder / "config.json").write_text(json.dumps(fields))


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    folder = folder_of("SequenceClassification", tmp_path / "model")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(exporting, "write_companions", full)
    with pytest.raises(OSError, match="No space left"):
        export_folder(folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
