"""Which checkpoint is the best one: by chrF for translation, by the loss where figures tie."""

import math

import pytest
from tasks_cases import TINY, bpe_folder, write_rows
from tiny_runs import tiny_bert, training_arguments

import bertlite
from bertlite.tasks import TASKS
from bertlite.training.trainer import MeasuringTrainer


def chosen_epoch(tmp_path, epochs, **options):
    """The number of the epoch that wins, of `(figure, loss)` of each."""
    options = {"metric_for_best_model": "chrf", "greater_is_better": True, **options}
    arguments = training_arguments(tmp_path, save_strategy="no", **options)
    trainer = MeasuringTrainer(model=tiny_bert(), args=arguments)
    trainer.args.save_strategy = "epoch"
    for number, (figure, loss) in enumerate(epochs, start=1):
        trainer.state.global_step = number
        metrics = {"eval_chrf": figure, "eval_loss": loss}
        trainer.state.log_history.append({**metrics, "step": number})
        trainer._determine_best_metric(metrics, None)
    return trainer.state.best_global_step


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ([(0.0, 3.0), (0.0, 2.0), (0.0, 1.0)], 3),  # nothing to choose by: the loss
        ([(0.0, 1.0), (0.0, 2.0), (0.0, 3.0)], 1),
        ([(5.0, 3.0), (7.0, 2.5), (6.0, 1.0)], 2),  # the figure comes first
        ([(5.0, 3.0), (7.0, 2.5), (7.0, 1.0), (7.0, 1.5)], 3),
        ([(5.0, 3.0), (5.0, math.nan)], 1),
    ],
)
def test_where_figures_tie_the_loss_decides(epochs, expected, tmp_path):
    assert chosen_epoch(tmp_path, epochs) == expected


def test_the_loss_alone_may_choose(tmp_path):
    options = {"metric_for_best_model": "loss", "greater_is_better": False}
    assert chosen_epoch(tmp_path, [(9.0, 2.0), (1.0, 1.0), (5.0, 3.0)], **options) == 2


def test_the_figures_of_translation_see_every_script():
    rows = [{"target": "猫坐在红色垫子上"}, {"target": "кот сидит на коврике"}]
    answers = [{"text": "猫坐在蓝色垫子上"}, {"text": "кот лежит на коврике"}]
    for row, answer in zip(rows, answers, strict=True):
        found = TASKS["translation"].score([row], [answer], None)
        assert 0 < found["bleu"] < 100
        assert 0 < found["chrf"] < 100
        assert "tok:" in found["bleu_signature"]
        assert "nc:6" in found["chrf_signature"]
    assert TASKS["translation"].best_metric(None) == "chrf"
    found = TASKS["summarization"].score(rows, answers, None)
    assert 0 < found["rougeL"] < 1
    assert found["rouge_tokenizer"] == "unicode"


@pytest.mark.slow
def test_a_translation_into_chinese_keeps_its_best_epoch(tmp_path):
    """A tiny model that learns a dictionary: the last epochs are the best, and are kept."""
    words = {"the": "这", "cat": "猫", "sat": "坐", "tea": "茶", "Anna": "安"}
    rows = [
        {"source": f"{one} {other}", "target": words[one] + words[other]}
        for one in words
        for other in words
    ] * 8
    write_rows(tmp_path / "rows.jsonl", rows)
    result = bertlite.finetune(
        "translation",
        output_dir=tmp_path / "out",
        train=str(tmp_path / "rows.jsonl"),
        validation=str(tmp_path / "rows.jsonl"),
        max_eval_examples=25,
        from_scratch=True,
        config_preset="transformer-base",
        config_overrides=[*TINY, "dropout=0.0"],
        tokenizer=bpe_folder(tmp_path / "bpe"),
        num_beams=1,
        max_new_tokens=16,
        arguments={
            "learning_rate": 1e-2,
            "num_train_epochs": 8,
            "per_device_train_batch_size": 10,
            "disable_tqdm": True,
            "use_cpu": True,
        },
    )
    history = [each for each in result.trainer.state.log_history if "eval_chrf" in each]
    best = max(history, key=lambda each: (each["eval_chrf"], -each["eval_loss"]))
    assert best["eval_chrf"] > history[0]["eval_chrf"]
    assert result.trainer.state.best_global_step == best["step"]
    assert result.metrics["validation"]["chrf"] == pytest.approx(best["eval_chrf"])
    assert "tok:zh" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
