"""Encoder-decoders exported: equal to MarianMTModel, and texts as of bertlite, without torch."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from export_cases import folder_of, run_alone
from inference_cases import TEXTS, byte_pairs
from pairs import marian_pair

import bertlite
from bertlite.export.exporting import FORMATS, export_folder
from bertlite.export.sources import read_source

ASKED = [*TEXTS[:3], "the cat\nsat on a mat\n\nin Paris"]


def set_generation(folder, **fields):
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_the_decoder_a_few_tokens_at_a_time(tmp_path):
    """With its cache, against MarianMTModel, which decodes all at once; the source is padded."""
    theirs, _ = marian_pair(tmp_path / "model", encoder_layers=1, decoder_layers=2)
    byte_pairs().save_pretrained(tmp_path / "model")
    source = read_source(tmp_path / "model")
    FORMATS["onnx"].write(source, tmp_path)
    compute = FORMATS["onnx"].compute(source, tmp_path)
    generator = torch.Generator().manual_seed(1)
    for rows, length, targets in ((3, 9, 6), (1, 2, 4)):
        ids = torch.randint(5, 40, (rows, length), generator=generator)
        mask = torch.ones_like(ids)
        mask[0, 1:] = 0
        batch = {"input_ids": ids, "attention_mask": mask}
        batch["decoder_input_ids"] = torch.randint(5, 40, (rows, targets), generator=generator)
        (found,) = compute({name: each.numpy() for name, each in batch.items()})
        with torch.no_grad():
            expected = theirs(**batch).logits
        np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_beams": 1},
        {"num_beams": 3, "length_penalty": 1.0, "early_stopping": True, "max_new_tokens": 12},
        {"num_beams": 2, "length_penalty": 2.0, "early_stopping": "never", "max_new_tokens": 9},
        {"num_beams": 4, "bad_words_ids": [[4], [7]], "forced_eos_token_id": 1, "max_length": 8},
    ],
)
def test_translations_without_torch(fields, tmp_path):
    folder = folder_of("Seq2Seq", tmp_path / "model")
    set_generation(folder, **fields)
    export_folder(folder, tmp_path / "out")
    (alone,) = run_alone(tmp_path / "out", ["translate", ASKED])
    assert alone == bertlite.translate(ASKED, folder)
    assert len(set(alone)) > 1


@pytest.mark.slow
def test_marian_tokenizers_without_sentencepiece(tmp_path):
    """Two tables of pieces, and a code of the target's language."""
    folder = marian_folder(tmp_path / "model")
    export_folder(folder, tmp_path / "out")
    asked = [">>deu<< the cat sat on a mat", "Größe  café in Paris", "anna drank tea …"]
    (alone,) = run_alone(tmp_path / "out", ["translate", asked])
    assert alone == bertlite.translate(asked, folder)


def marian_folder(path):
    """A tiny Marian with tokenizers that sentencepiece trains."""
    spm = pytest.importorskip("sentencepiece", reason="it trains the tokenizer")
    from transformers import MarianTokenizer

    path.mkdir()
    (path.parent / "text.txt").write_text("\n".join(TEXTS * 30), encoding="utf-8")
    for name in ("source", "target"):
        # In a process of its own: the trainer has crashed one in which much else was loaded.
        given = {"input": str(path.parent / "text.txt"), "model_prefix": str(path / name)}
        given |= {"vocab_size": 64, "character_coverage": 0.99, "hard_vocab_limit": False}
        code = f"import sentencepiece; sentencepiece.SentencePieceTrainer.train(**{given!r})"
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        (path / f"{name}.model").rename(path / f"{name}.spm")
    pieces = spm.SentencePieceProcessor(model_file=str(path / "source.spm"))
    known = [pieces.id_to_piece(n) for n in range(3, pieces.get_piece_size())]
    names = ["</s>", "<unk>", ">>deu<<", *reversed(known), "<pad>"]
    (path / "vocab.json").write_text(json.dumps({name: n for n, name in enumerate(names)}))
    files = [str(path / each) for each in ("source.spm", "target.spm", "vocab.json")]
    MarianTokenizer(*files).save_pretrained(path)
    size = dict.fromkeys(("encoder_layers", "decoder_layers", "encoder_attention_heads"), 2)
    config = bertlite.preset(
        "transformer-base",
        vocab_size=len(names),
        d_model=32,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        decoder_attention_heads=2,
        init_std=0.3,
        max_position_embeddings=64,
        pad_token_id=len(names) - 1,
        decoder_start_token_id=len(names) - 1,
        eos_token_id=0,
        forced_eos_token_id=0,
        bad_words_ids=[[len(names) - 1]],
        **size,
    )
    torch.manual_seed(5)
    model = bertlite.TransformerLiteForConditionalGeneration(config)
    model.generation_config.bad_words_ids = [[len(names) - 1]]
    model.save_pretrained(path)
    return path


@pytest.mark.slow
def test_what_is_not_exported_is_named(tmp_path):
    folder = folder_of("Seq2Seq", tmp_path / "model")
    for name in ("openvino", "torch"):
        with pytest.raises(ValueError, match=f"format {name} does not hold an encoder-decoder"):
            export_folder(folder, tmp_path / "out", format=name)
    set_generation(folder, encoder_no_repeat_ngram_size=3)
    with pytest.raises(ValueError, match=r"config\.encoder_no_repeat_ngram_size must be"):
        export_folder(folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
