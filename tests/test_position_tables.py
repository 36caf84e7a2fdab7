"""Positions: tables that are computed, never learned or saved, and those that are learned."""

import pytest
import torch
from cases import bert_config, transformer_config
from safetensors.torch import load_file, save_file

import bertlite
from bertlite import BertLiteModel, TransformerLiteForConditionalGeneration


def test_sinusoidal_tables_are_right_after_loading(tmp_path):
    model = BertLiteModel(bert_config(position_embedding_type="sinusoidal"))
    model.save_pretrained(tmp_path)
    again = BertLiteModel.from_pretrained(tmp_path)
    table = again.embeddings.position_embeddings.weight
    assert torch.equal(table, model.embeddings.position_embeddings.weight)
    assert table[3, 1].item() == pytest.approx(
        torch.sin(torch.tensor(3 / 10000 ** (2 / 32))).item(), abs=1e-6
    )
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "position" in name]
    head = bertlite.BertLiteForMaskedLM(model.config)
    head.save_pretrained(tmp_path / "head")
    again, info = type(head).from_pretrained(tmp_path / "head", output_loading_info=True)
    assert not info["missing_keys"]
    assert torch.equal(again.bert.embeddings.position_embeddings.weight, table)
    saved = load_file(tmp_path / "head/model.safetensors")
    assert not [name for name in saved if "position" in name]


def test_sinusoidal_tables_are_not_trained_after_loading(tmp_path):
    """Files hold none of them: what a training changed there would be lost without a word."""
    model = TransformerLiteForConditionalGeneration(transformer_config())
    model.save_pretrained(tmp_path)
    model = TransformerLiteForConditionalGeneration.from_pretrained(tmp_path)
    tables = [model.model.encoder.embed_positions, model.model.decoder.embed_positions]
    before = tables[0].weight.clone()
    assert not any(table.weight.requires_grad for table in tables)
    model.requires_grad_(True)  # as scripts do that freeze and unfreeze
    ids = torch.randint(3, 61, (2, 7))
    model(input_ids=ids, labels=ids).loss.backward()
    torch.optim.AdamW(model.parameters(), lr=0.1).step()
    assert all(torch.equal(table.weight, before) for table in tables)


def test_learned_positions_that_a_file_lacks_are_named(tmp_path):
    """They are weights like others; only tables that are computed may be missing."""
    model = TransformerLiteForConditionalGeneration(
        transformer_config(position_embedding_type="absolute")
    )
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {name: each for name, each in load_file(path).items() if "position" not in name}
    save_file(kept, path, metadata={"format": "pt"})
    _, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == {
        "model.encoder.embed_positions.weight",
        "model.decoder.embed_positions.weight",
    }
