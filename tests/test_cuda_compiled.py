"""Layers compiled on tokens laid end to end: one graph for all sizes, forward and backward.

By the backend "aot_eager", which traces gradients too and generates no code; the kernels are the
stand-ins of a GPU's.
"""

import pytest
import torch
from cases import bert_config, randomize
from cuda_stand_ins import stand_in_kernels, use_stand_in

from bertlite import BertLiteForMaskedLM
from bertlite.backends.cuda.compiled import compile_each, compile_layers, graphs_compiled


def batch(generator: torch.Generator) -> dict:
    lengths = torch.randint(3, 30, (4,), generator=generator)
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    ids = torch.randint(3, 60, mask.shape, generator=generator)
    labels = ids.masked_fill((mask == 0) | (torch.rand(ids.shape) < 0.5), -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_no_batch_is_compiled_anew_after_the_first_ones(training):
    generator = torch.Generator().manual_seed(0)
    torch._dynamo.reset()
    with stand_in_kernels():
        dropout = {"attention_probs_dropout_prob": 0.1, "num_hidden_layers": 4}
        model = randomize(BertLiteForMaskedLM(bert_config(**dropout))).to(torch.bfloat16)
        model = use_stand_in(model).train(training)
        compile_each(model, backend="aot_eager")
        counts = []
        for _ in range(6):
            with torch.set_grad_enabled(training):
                loss = model(**batch(generator)).loss
            if training:
                loss.backward()
            counts.append(graphs_compiled())
        assert "BertLiteModel, encode: cuda" in model.backend_report()
    assert counts[0] > 0
    assert counts[1:] == [counts[1]] * 5
    torch._dynamo.reset()


@pytest.mark.slow
def test_compiled_layers_give_the_same():
    torch._dynamo.reset()
    with stand_in_kernels():
        model = use_stand_in(randomize(BertLiteForMaskedLM(bert_config())).to(torch.bfloat16))
        given = batch(torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = model(**given).logits
            found = compile_each(model, backend="aot_eager")(**given).logits
    torch.testing.assert_close(found, expected)
    torch._dynamo.reset()


def test_elsewhere_than_on_a_gpu_it_is_refused():
    with pytest.raises(ValueError, match="must lie on a GPU"):
        compile_layers(BertLiteForMaskedLM(bert_config()))
    with pytest.raises(ValueError, match=r"must hold a BertLite .* got Linear"):
        compile_layers(torch.nn.Linear(2, 2))
