"""Encoder-decoders of every family exported: the texts of bertlite, without torch."""

import json
import subprocess
import sys

import pytest
from export_cases import run_alone
from seq2seq_cases import their_model
from seq2seq_folders import KINDS, TEXTS, make_folder

import bertlite
from bertlite.backends.engines import onnx_graph
from bertlite.export.exporting import export_folder

pytestmark = pytest.mark.slow

MANY = ["m2m100", "nllb", "mbart", "mbart50"]
ASKED = [*TEXTS, "bad cab\n\nhead", "a b c d e f g h i j k l m n o p q r s t"]
SHORT = {"num_beams": 2, "max_new_tokens": 9, "length_penalty": 0.6}
# What the summarisers that people use ask for, in small.
RULES = {**SHORT, "min_length": 5, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3}


def set_generation(folder, **fields):
    path = folder / "generation_config.json"
    written = {**json.loads(path.read_text()), "max_length": None, **fields}
    path.write_text(json.dumps(written))


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_writes_what_we_write(kind, tmp_path):
    """By the rules of the folder's generation config; languages by their codes."""
    folder = tmp_path / "model"
    _, _, codes = make_folder(kind, folder)
    set_generation(folder, **RULES)
    export_folder(folder, tmp_path / "out")
    directions = [(codes[0], codes[1]), (codes[2], codes[0])] if codes else [(None, None)]
    calls = [["translate", ASKED, *direction] for direction in directions]
    for found, (source, target) in zip(
        run_alone(tmp_path / "out", *calls), directions, strict=True
    ):
        languages = {"source_language": source, "target_language": target}
        assert found == bertlite.translate(ASKED, str(folder), **languages)
        assert len(set(found)) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_ctranslate2_writes_what_we_write(kind, tmp_path):
    """Greedily, token for token; CTranslate2's own search ends sooner with several beams."""
    pytest.importorskip("ctranslate2", reason="it runs what was exported")
    folder = tmp_path / "model"
    _, _, codes = make_folder(kind, folder)
    set_generation(folder, **RULES | {"num_beams": 1})
    report = export_folder(folder, tmp_path / "out", format="ctranslate2")
    assert report["largest_difference"]["log_probabilities"] < 1e-4
    directions = [(codes[0], codes[1]), (codes[2], codes[0])] if codes else [(None, None)]
    calls = [["translate", ASKED, *direction] for direction in directions]
    for found, (source, target) in zip(
        run_alone(tmp_path / "out", *calls), directions, strict=True
    ):
        languages = {"source_language": source, "target_language": target}
        assert found == bertlite.translate(ASKED, str(folder), **languages)
        assert len(set(found)) > 1


@pytest.mark.parametrize("format", ["onnx", "ctranslate2"])
def test_languages_are_named_by_somebody(format, tmp_path):
    """By whoever runs it or by the folder; a code that is not known is refused by name."""
    pytest.importorskip("ctranslate2" if format == "ctranslate2" else "onnxruntime")
    _, tokenizer, (first, second, _) = make_folder("nllb", tmp_path / "model")
    export_folder(tmp_path / "model", tmp_path / "out", format=format)
    run = [sys.executable, str(tmp_path / "out" / "run.py")]
    for options, said in (
        ([], "target_language must be given, one of the "),
        (["--target_language", "Klingon"], "target_language must be one of "),
        (["--target-language", second, "--source-language", "x"], "source_language must be one"),
    ):
        done = subprocess.run([*run, *options, "a bad cab"], capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("run.py: error: ")
        assert said in done.stderr
    set_generation(
        tmp_path / "model",
        num_beams=1,
        max_new_tokens=6,
        forced_bos_token_id=tokenizer.convert_tokens_to_ids(second),
    )
    export_folder(tmp_path / "model", tmp_path / "told", format=format)
    (found,) = run_alone(tmp_path / "told", ["translate", TEXTS])
    assert found == bertlite.translate(TEXTS, str(tmp_path / "model"))
    words = ["--target_language", second, *TEXTS]
    done = subprocess.run(
        [sys.executable, str(tmp_path / "told" / "run.py"), *words], capture_output=True, text=True
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == found


def test_a_family_that_ctranslate2_lacks(tmp_path):
    """BlenderBot-small, here with a tokenizer of the tokenizers library: onnx holds it."""
    folder = tmp_path / "model"
    tokenizer = KINDS["bart"][0](tmp_path)
    their_model("blenderbot-small", vocab_size=len(tokenizer), std=0.3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    set_generation(folder, **RULES)
    with pytest.raises(ValueError, match="ctranslate2 has no loader of blenderbot-small"):
        export_folder(folder, tmp_path / "out", format="ctranslate2")
    export_folder(folder, tmp_path / "out")
    (found,) = run_alone(tmp_path / "out", ["translate", ASKED])
    assert found == bertlite.translate(ASKED, str(folder))


@pytest.mark.parametrize("int8", [False, True])
def test_graphs_larger_than_a_file_may_be(int8, tmp_path, monkeypatch):
    """Protobuf ends at 2 GiB, and NLLB does not: weights lie beside the graph, and are found."""
    monkeypatch.setattr(onnx_graph, "LIMIT", 1000)
    folder = tmp_path / "model"
    _, _, (first, second, _) = make_folder("nllb", folder)
    set_generation(folder, **SHORT)
    export_folder(folder, tmp_path / "out", int8=int8)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    graphs = {"encoder.onnx", "encoder.onnx.data", "decoder.onnx", "decoder.onnx.data"}
    assert {name for name in names if ".onnx" in name} == graphs
    assert len({(tmp_path / "out" / name).stat().st_mode for name in graphs}) == 1
    (found,) = run_alone(tmp_path / "out", ["translate", ASKED, first, second])
    languages = {"source_language": first, "target_language": second}
    if not int8:
        assert found == bertlite.translate(ASKED, str(folder), **languages)
    assert len(found) == len(ASKED)
