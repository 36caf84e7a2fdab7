"""A Transformer that starts from a BERT of transformers."""

from pathlib import Path

import pytest
import torch
import transformers
from cases import BERT, randomize
from transformers import BertConfig

import bertlite
from bertlite import BertLiteModel
from bertlite.models.names import (
    BERT_ATTENTION,
    BERT_LAYER,
    MARIAN_ATTENTION,
    MARIAN_LAYER,
    weights_of_layer,
)


def saved_bert(folder: Path) -> Path:
    """A folder that transformers' BertForMaskedLM saved."""
    randomize(transformers.BertForMaskedLM(BertConfig(**BERT))).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("layers", [1, 2])
def test_it_encodes_as_the_bert_and_names_what_is_new(layers, tmp_path):
    bert_folder = saved_bert(tmp_path)
    bert = BertLiteModel.from_pretrained(bert_folder, add_pooling_layer=False)
    overrides = {"decoder_layers": layers, "decoder_start_token_id": 1, "eos_token_id": 2}
    started = bertlite.warm_start_from_bert(bert_folder, **overrides)
    ids = torch.arange(9)[None]
    model = started.model.eval()
    assert torch.equal(model.get_encoder()(ids).last_hidden_state, bert(ids).last_hidden_state)
    theirs = weights_of_layer(BERT_LAYER, BERT_ATTENTION)
    for role, name in weights_of_layer(MARIAN_LAYER, MARIAN_ATTENTION).items():
        started_from = bert.encoder.layer[0].get_submodule(theirs[role])
        for side in (model.model.encoder, model.model.decoder):
            found = side.layers[0].get_submodule(name).state_dict()
            assert found.keys() == started_from.state_dict().keys()
            for tensor, value in started_from.state_dict().items():
                assert torch.equal(found[tensor], value), (role, tensor)
    assert model.lm_head.weight is model.model.shared.weight
    assert {".encoder_attn" in name for name in started.new_weights} == {True}
    assert len(started.new_weights) == 10 * layers
    without = bertlite.warm_start_from_bert(bert_folder, initialize_decoder=False, **overrides)
    assert len(without.new_weights) > len(started.new_weights)
    with pytest.raises(ValueError, match="do not fit"):
        bertlite.warm_start_from_bert(bert_folder, decoder_ffn_dim=7, **overrides)
