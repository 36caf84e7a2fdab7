"""Encoder-decoders of every family exported: the texts of bertlite, without torch."""

import json
import subprocess
import sys

import pytest
import transformers
from export_cases import folder_of, run_alone
from seq2seq_cases import their_model
from seq2seq_folders import KINDS, TEXTS, make_folder

import bertlite
from bertlite.backends.engines import onnx_graph
from bertlite.cli.main import main
from bertlite.export.exporting import export_folder

pytestmark = pytest.mark.slow

MANY = ["m2m100", "nllb", "mbart", "mbart50"]
ASKED = [*TEXTS, "bad cab\r\n\n head\u2028jig", "a b c d e f g h i j k l m n o p q r s t"]
SHORT = {"num_beams": 2, "max_new_tokens": 9, "length_penalty": 0.6}
# What the summarisers and translators that people use ask for, in small.
RULES = {
    "beams": {**SHORT, "min_length": 5, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3},
    "greedy": {"num_beams": 1, "max_new_tokens": 9, "repetition_penalty": 1.5},
    "early": {
        "num_beams": 4,
        "max_new_tokens": 12,
        "length_penalty": 2.0,
        "early_stopping": True,
        "min_length": 3,
        "no_repeat_ngram_size": 3,
        "renormalize_logits": True,
    },
}
GREEDY = {"num_beams": 1, "max_new_tokens": 9, "min_length": 4, "no_repeat_ngram_size": 2}


def set_generation(folder, **fields):
    path = folder / "generation_config.json"
    written = {**json.loads(path.read_text()), "max_length": None, **fields}
    path.write_text(json.dumps(written))


def ending(folder):
    """Let a tiny model end its texts at times: it gains on others at the end token."""
    model = bertlite.TransformerLiteForConditionalGeneration.from_pretrained(folder)
    if model.config.traits.has_logits_bias:
        model.final_logits_bias[:, model.config.eos_token_id] += 2.5
        model.save_pretrained(folder)


def assert_writes_ours(out, folder, codes):
    """The texts of `run.py` are those of `bertlite.translate`, in two directions if there are."""
    directions = [(codes[0], codes[1]), (codes[2], codes[0])] if codes else [(None, None)]
    alone = run_alone(out, *(["translate", ASKED, *direction] for direction in directions))
    for found, (source, target) in zip(alone, directions, strict=True):
        languages = {"source_language": source, "target_language": target}
        assert found == bertlite.translate(ASKED, str(folder), **languages)
        assert len(set(found)) > 1


CASES = [(kind, "beams") for kind in KINDS]
CASES += [(kind, rules) for kind in ("bart", "m2m100", "mbart50") for rules in ("greedy", "early")]


@pytest.mark.parametrize(("kind", "rules"), CASES)
def test_onnx_writes_what_we_write(kind, rules, tmp_path):
    """By the rules of the folder's generation config; languages by their codes."""
    folder = tmp_path / "model"
    _, _, codes = make_folder(kind, folder)
    ending(folder)
    forced = {} if codes else {"forced_bos_token_id": 8}
    set_generation(folder, **RULES[rules], **forced)
    export_folder(folder, tmp_path / "out", task="translation")
    assert_writes_ours(tmp_path / "out", folder, codes)


@pytest.mark.parametrize("kind", KINDS)
def test_ctranslate2_writes_what_we_write(kind, tmp_path):
    """Greedily, token for token; CTranslate2's own search ends sooner with several beams."""
    pytest.importorskip("ctranslate2", reason="it runs what was exported")
    folder = tmp_path / "model"
    _, _, codes = make_folder(kind, folder)
    ending(folder)
    set_generation(folder, **GREEDY)
    report = export_folder(folder, tmp_path / "out", format="ctranslate2", task="translation")
    assert report["largest_difference"]["log_probabilities"] < 1e-4
    assert_writes_ours(tmp_path / "out", folder, codes)


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
    set_generation(folder, **RULES["beams"])
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


@pytest.mark.parametrize("format", ["onnx", "ctranslate2"])
def test_summarisers_read_texts_whole(format, tmp_path):
    """Published folders of BART and Pegasus have no run record, and say so in their config."""
    pytest.importorskip("ctranslate2" if format == "ctranslate2" else "onnxruntime")
    for kind, fields in (
        ("bart", {"task_specific_params": {"summarization": {}}}),
        ("pegasus", {}),
    ):
        folder = tmp_path / kind
        make_folder(kind, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **fields}))
        set_generation(folder, **GREEDY)
        export_folder(folder, tmp_path / f"{kind}-out", format=format)
        (found,) = run_alone(tmp_path / f"{kind}-out", ["translate", ASKED])
        assert found == bertlite.summarize(ASKED, str(folder))


def test_the_folders_own_languages(tmp_path):
    """Told when it is exported; without them a figure on rows is refused before any work."""
    folder = tmp_path / "model"
    _, _, (first, second, third) = make_folder("nllb", folder)
    set_generation(folder, **SHORT)
    rows = tmp_path / "rows.jsonl"
    lines = [{"source": text, "target": text[::-1]} for text in TEXTS]
    rows.write_text("\n".join(json.dumps(line) for line in lines))
    with pytest.raises(ValueError, match="export: target_language must be given, since"):
        export_folder(folder, tmp_path / "out", int8=True, data=str(rows))
    words = ["export", "onnx", str(folder), "--out", str(tmp_path / "out")]
    assert main([*words, "--source_language", second, "--target-language", third]) == 0
    (found,) = run_alone(tmp_path / "out", ["translate", ASKED])
    languages = {"source_language": second, "target_language": third}
    assert found == bertlite.translate(ASKED, str(folder), **languages)
    with pytest.raises(ValueError, match="source_language must be one of"):
        export_folder(folder, tmp_path / "no", source_language="Klingon")


def test_what_only_writers_take_is_refused_of_others(tmp_path):
    folder = folder_of("SequenceClassification", tmp_path / "model")
    with pytest.raises(ValueError, match="must come with an encoder-decoder that writes, got a"):
        export_folder(folder, tmp_path / "out", task="translation")


def test_ctranslate2_counts_no_start_token(tmp_path):
    """Where it is the end too, a penalty on repetition counts it in transformers alone."""
    make_folder("bart", tmp_path / "model")
    set_generation(tmp_path / "model", **RULES["greedy"])
    with pytest.raises(ValueError, match="repetition_penalty must be 1.0, got 1.5"):
        export_folder(tmp_path / "model", tmp_path / "out", format="ctranslate2")


def test_mbart_with_a_tokenizer_of_one_language(tmp_path):
    """As BARThez has it: nothing begins with a language."""
    pytest.importorskip("ctranslate2", reason="it runs what was exported")
    tokenizer = KINDS["bart"][0](tmp_path)
    fields = {"vocab_size": len(tokenizer), "decoder_start_token_id": 2, "std": 0.3}
    their_model("mbart", **fields).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    set_generation(tmp_path / "model", **GREEDY)
    export_folder(tmp_path / "model", tmp_path / "out", format="ctranslate2")
    (found,) = run_alone(tmp_path / "out", ["translate", ASKED])
    assert found == bertlite.translate(ASKED, str(tmp_path / "model"))


@pytest.mark.parametrize("kind", ["m2m100", "mbart", "nllb"])
def test_texts_are_cut_and_joined_as_by_the_tokenizer(kind, tmp_path):
    """Spaces before marks go where its config says so, but of BPE; `>>x<<` is Marian's alone."""
    folder = tmp_path / "model"
    _, _, (first, second, _) = make_folder(kind, folder)
    path = folder / "tokenizer_config.json"
    cleaning = {**json.loads(path.read_text()), "clean_up_tokenization_spaces": True}
    path.write_text(json.dumps(cleaning))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    set_generation(folder, **SHORT)
    export_folder(folder, tmp_path / "out", source_language=first, target_language=second)
    settings = json.loads((tmp_path / "out" / "export.json").read_text())["decoding"]
    written = tokenizer.decode(tokenizer("a ' b", add_special_tokens=False)["input_ids"])
    assert bool(settings["cleaned"]) == (kind != "nllb")
    assert "'" not in written or ("a'b" in written) == (kind != "nllb")
    asked = [">>bad<< cab", "a ' b"]
    (found,) = run_alone(tmp_path / "out", ["translate", asked])
    languages = {"source_language": first, "target_language": second}
    assert found == bertlite.translate(asked, str(folder), **languages)
