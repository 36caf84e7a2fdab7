"""The papers' recipes for optimizers, losses and generation against numbers worked out by hand, and
in `Trainer`.
"""

import doctest
import math

import pytest
import torch
from tiny_runs import END, PAD, Pad, pairs, tiny_bert, tiny_transformer, training_arguments
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
)

import bertlite
from bertlite.models.losses import cross_entropy
from bertlite.training import (
    NoamRate,
    bert_optimizer,
    noam_schedule,
    optimizers,
    paper_generation_config,
    parameter_groups,
    starting,
    transformer_optimizers,
)

# The Noam schedule


def test_noam_rate_by_hand():
    rate = NoamRate(d_model=64, warmup_steps=4)
    # 64^-0.5 = 1/8; rising: step / 4^1.5 = step / 8; falling: step^-0.5.
    expected = [1 / 64, 2 / 64, 3 / 64, 4 / 64, 1 / (8 * math.sqrt(5)), 1 / (8 * math.sqrt(6))]
    assert [rate(update) for update in range(6)] == pytest.approx(expected)
    assert rate(15) == pytest.approx(1 / 32)  # step 16


def test_noam_schedule_sets_the_rate_of_each_update():
    weight = nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([{"params": [weight], "lr": 1.0}])
    schedule = noam_schedule(optimizer, d_model=64, warmup_steps=4)
    moved = []
    for _ in range(5):
        weight.grad = torch.ones(())
        before = weight.item()
        optimizer.step()
        schedule.step()
        moved.append(before - weight.item())
    assert moved == pytest.approx([1 / 64, 2 / 64, 3 / 64, 4 / 64, 1 / (8 * math.sqrt(5))])


def test_noam_schedule_scales_each_group_and_comes_back_from_its_state():
    weights = [nn.Parameter(torch.zeros(())) for _ in range(2)]

    def make(warmup_steps):
        groups = [
            {"params": [weight], "lr": lr} for weight, lr in zip(weights, (1.0, 0.5), strict=True)
        ]
        return noam_schedule(torch.optim.SGD(groups), d_model=64, warmup_steps=warmup_steps)

    schedule = make(4)
    assert schedule.get_last_lr() == pytest.approx([1 / 64, 1 / 128])
    schedule.optimizer.step()
    schedule.step()
    resumed = make(999)
    resumed.load_state_dict(schedule.state_dict())
    for each in (schedule, resumed):
        each.optimizer.step()
        each.step()
        assert each.get_last_lr() == pytest.approx([3 / 64, 3 / 128])


@pytest.mark.parametrize("options", [{"d_model": 0}, {"d_model": 8, "warmup_steps": 0}])
def test_noam_schedule_refuses(options):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        NoamRate(**options)


class Rates(TrainerCallback):
    """Notes the learning rates of every update, bottom group first."""

    def __init__(self):
        self.seen = []

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.seen.append([group["lr"] for group in kwargs["optimizer"].param_groups])


def test_trainer_follows_the_noam_schedule(tmp_path):
    model, rates = tiny_transformer(), Rates()
    trainer = Trainer(
        model,
        training_arguments(tmp_path, max_steps=6),
        train_dataset=pairs(),
        data_collator=Pad(),
        optimizers=transformer_optimizers(model, warmup_steps=3, factor=2.0),
        callbacks=[rates],
    )
    trainer.train()
    expected = [2 * 32**-0.5 * min(step**-0.5, step * 3**-1.5) for step in range(1, 7)]
    assert [seen[0] for seen in rates.seen] == pytest.approx(expected)
    settings = trainer.optimizer.param_groups[0]
    assert (settings["betas"], settings["eps"], settings["weight_decay"]) == ((0.9, 0.98), 1e-9, 0)


# Parameter groups

MODELS = {
    "bert": tiny_bert,
    "pre-norm": lambda: tiny_bert(norm_first=True),
    "masked LM": lambda: bertlite.BertLiteForMaskedLM(tiny_bert().config),
    "transformer": tiny_transformer,
    "own embeddings": lambda: tiny_transformer(
        share_encoder_decoder_embeddings=False, decoder_vocab_size=30
    ),
}


@pytest.mark.parametrize("layer_decay", [None, 0.8])
@pytest.mark.parametrize("name", MODELS)
def test_every_trained_parameter_is_in_one_group(name, layer_decay):
    model = MODELS[name]()
    groups = parameter_groups(model, learning_rate=1.0, layer_decay=layer_decay)
    grouped = [parameter for group in groups for _, parameter in group["params"]]
    assert len({id(parameter) for parameter in grouped}) == len(grouped)
    assert {id(parameter) for parameter in grouped} == {
        id(parameter) for parameter in model.parameters() if parameter.requires_grad
    }
    for group in groups:
        for label, parameter in group[
            "params"
        ]:  # in these models, what has one dimension is a bias or of a norm
            assert (group["weight_decay"] == 0) == (parameter.ndim == 1), label


def rates_by_name(model, **options):
    groups = parameter_groups(model, learning_rate=1.0, **options)
    return {name: group["lr"] for group in groups for name, _ in group["params"]}


def test_layer_decay_by_hand():
    rates = rates_by_name(tiny_bert(), layer_decay=0.5)
    expected = {
        "classifier.weight": 1.0,
        "bert.pooler.dense.bias": 1.0,
        "bert.encoder.layer.1.intermediate.dense.weight": 0.5,
        "bert.encoder.layer.0.attention.self.query.weight": 0.25,
        "bert.encoder.layer.0.attention.output.LayerNorm.bias": 0.25,
        "bert.embeddings.word_embeddings.weight": 0.125,
        "bert.embeddings.LayerNorm.weight": 0.125,
    }
    assert {name: rates[name] for name in expected} == expected
    assert set(rates.values()) == {1.0, 0.5, 0.25, 0.125}
    assert (
        rates_by_name(tiny_bert(norm_first=True), layer_decay=0.5)["bert.final_norm.weight"] == 1.0
    )


def test_layer_decay_of_two_stacks():
    rates = rates_by_name(tiny_transformer(encoder_layers=1), layer_decay=0.5)
    assert rates["model.encoder.layers.0.fc1.weight"] == 0.5
    assert rates["model.decoder.layers.1.fc1.weight"] == 0.5
    assert rates["model.decoder.layers.0.encoder_attn.k_proj.weight"] == 0.25
    assert rates["model.shared.weight"] == 0.125
    own = tiny_transformer(
        encoder_layers=1, share_encoder_decoder_embeddings=False, decoder_vocab_size=30
    )
    rates = rates_by_name(own, layer_decay=0.5)
    assert rates["model.encoder.embed_tokens.weight"] == 0.25
    assert rates["model.decoder.embed_tokens.weight"] == 0.125


def test_groups_agree_with_the_trainer_and_with_transformers_bert(tmp_path):
    config = BertConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
    )
    for model in (BertForSequenceClassification(config), tiny_bert()):
        theirs = set(Trainer(model, training_arguments(tmp_path)).get_decay_parameter_names(model))
        groups = parameter_groups(model, learning_rate=1.0, weight_decay=0.1)
        assert {
            name for group in groups if group["weight_decay"] for name, _ in group["params"]
        } == theirs
    rates = rates_by_name(BertForSequenceClassification(config), layer_decay=0.5)
    assert rates["bert.encoder.layer.0.output.dense.weight"] == 0.25
    assert rates["bert.embeddings.word_embeddings.weight"] == 0.125


def test_frozen_parameters_are_left_out():
    model = tiny_bert()
    model.bert.requires_grad_(False)
    groups = parameter_groups(model, learning_rate=1.0)
    assert {name for group in groups for name, _ in group["params"]} == {
        "classifier.weight",
        "classifier.bias",
    }
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="trainable parameters"):
        parameter_groups(model, learning_rate=1.0)


@pytest.mark.parametrize(
    "wrong", [{"learning_rate": 0}, {"weight_decay": -1}, {"layer_decay": 1.5}, {"layer_decay": 0}]
)
def test_groups_refuse(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        parameter_groups(tiny_bert(), **{"learning_rate": 1.0, **wrong})


def test_bert_optimizer_decays_weights_only():
    # Where gradients are zero, AdamW multiplies by 1 - lr · weight_decay and does nothing else.
    model = tiny_bert()
    optimizer = bert_optimizer(model, learning_rate=0.1, weight_decay=0.5, layer_decay=0.5)
    assert optimizer.defaults["fused"]
    before = {name: parameter.detach().clone() + 1 for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.data.copy_(before[name])
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = dict(model.named_parameters())
    factors = {
        "classifier.weight": 1 - 0.1 * 0.5,
        "bert.embeddings.word_embeddings.weight": 1 - 0.1 * 0.125 * 0.5,
        "bert.embeddings.LayerNorm.weight": 1.0,
        "classifier.bias": 1.0,
    }
    for name, factor in factors.items():
        torch.testing.assert_close(after[name], before[name] * factor)


def test_trainer_makes_berts_schedule_over_layer_rates(tmp_path):
    rows = [{"input_ids": [2, 3, 4], "labels": row % 2} for row in range(10)]
    model, rates = tiny_bert(), Rates()
    optimizer = bert_optimizer(model, learning_rate=1e-3, layer_decay=0.5)
    arguments = training_arguments(tmp_path, warmup_steps=0.2)
    Trainer(
        model, arguments, train_dataset=rows, optimizers=(optimizer, None), callbacks=[rates]
    ).train()
    shape = [
        0,
        0.5,
        1,
        7 / 8,
        6 / 8,
        5 / 8,
        4 / 8,
        3 / 8,
        2 / 8,
        1 / 8,
    ]  # 2 of 10 updates are warm-up
    assert [seen[-1] for seen in rates.seen] == pytest.approx([1e-3 * each for each in shape])
    assert [seen[0] for seen in rates.seen] == pytest.approx([1.25e-4 * each for each in shape])


# Generation and label smoothing


def test_paper_generation_config():
    model = tiny_transformer().eval()
    config = paper_generation_config(model.config, max_new_tokens=7)
    assert (config.num_beams, config.length_penalty, config.do_sample) == (4, 0.6, False)
    assert (config.pad_token_id, config.eos_token_id, config.decoder_start_token_id) == (
        PAD,
        END,
        PAD,
    )
    source = torch.tensor([[5, 6, 7, END]])
    made = model.generate(
        source, generation_config=config, return_dict_in_generate=True, output_scores=True
    )
    assert made.sequences.shape[1] <= 8
    # The score is the sum of log-probabilities over T^0.6, T being the tokens after the start
    # token.
    tokens = made.sequences[:, 1:]
    tokens = tokens[:, : int((tokens != PAD).sum())] if END in tokens else tokens
    with torch.no_grad():
        inputs = torch.cat([torch.tensor([[PAD]]), tokens[:, :-1]], dim=1)
        logits = model(source, decoder_input_ids=inputs).logits
    total = logits.log_softmax(-1).gather(-1, tokens[..., None]).sum()
    torch.testing.assert_close(
        made.sequences_scores[0], total / tokens.shape[1] ** 0.6, atol=1e-4, rtol=1e-4
    )
    again = model.generate(source, generation_config=paper_generation_config(max_new_tokens=7))
    assert again.tolist() == made.sequences.tolist()
    assert paper_generation_config(num_beams=2, length_penalty=1.0).num_beams == 2
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1"):
        paper_generation_config(max_new_tokens=0)


def test_label_smoothing_by_hand():
    # Probabilities 1/2, 1/4, 1/8, 1/8, so -log p = (1, 2, 3, 3) · log 2. Label 0, ε = 0.1: the
    # target is 0.9 + 0.025 on it and 0.025 on each other one.
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log() + 7.0  # a constant changes nothing
    labels = torch.tensor([0])
    expected = math.log(2) * (0.925 * 1 + 0.025 * (2 + 3 + 3))
    assert float(cross_entropy("labels", logits, labels, label_smoothing=0.1)) == pytest.approx(
        expected
    )
    assert float(cross_entropy("labels", logits, labels)) == pytest.approx(math.log(2))
    # A second row, label 1: 0.925 · 2 + 0.025 · 7; an ignored third row counts nowhere.
    logits, labels = logits.repeat(3, 1), torch.tensor([0, 1, -100])
    both = expected + math.log(2) * (0.925 * 2 + 0.025 * 7)
    assert float(cross_entropy("labels", logits, labels, label_smoothing=0.1)) == pytest.approx(
        both / 2
    )
    assert float(cross_entropy("labels", logits, labels, 4, label_smoothing=0.1)) == pytest.approx(
        both / 4
    )


def test_label_smoothing_of_the_model():
    rows = Pad()(list(pairs(5)))
    plain, smooth = tiny_transformer(), tiny_transformer(label_smoothing=0.1)
    with torch.no_grad():
        logits = plain.eval()(**rows).logits
        smooth_loss, training_loss = smooth.eval()(**rows).loss, smooth.train()(**rows).loss
    log_probabilities, kept = logits.log_softmax(-1), rows["labels"] != -100
    of_label = log_probabilities.gather(-1, rows["labels"].clamp(min=0)[..., None])[..., 0]
    expected = -(0.9 * of_label + 0.1 * log_probabilities.mean(-1))[kept].mean()
    torch.testing.assert_close(smooth_loss, expected)
    torch.testing.assert_close(training_loss, expected)


@pytest.mark.parametrize("module", [optimizers, starting])
def test_examples(module):
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed
