"""The command `bertlite finetune`."""

import sys
from dataclasses import fields
from typing import Any

from ..tasks.base import TaskOptions
from ..tasks.registry import TASKS, task_named
from ..training.finetuning import finetune
from ..training.options import DataOptions, ModelOptions, RecipeOptions, RunOptions
from ..training.records import run_again
from .parsing import is_option_file, make_parser, parse_given

HELP = """usage: bertlite finetune TASK [OPTIONS.yaml] --model MODEL --train FILE
                         --output_dir FOLDER [options]

From a file of examples to a trained model: checks data and model, says what it found, trains,
measures, saves the model with a card.

examples:
  bertlite finetune sequence-classification --model google-bert/bert-base-uncased \\
      --train reviews.csv --validation held_out.csv --output_dir out/sentiment
  bertlite finetune token-classification --model MODEL \\
      --train train.conll --validation dev.conll --output_dir out/ner
  bertlite finetune question-answering --model MODEL --train train.json --output_dir out/qa
  bertlite finetune translation --from_scratch --config_preset transformer-base \\
      --tokenizer out/tokenizer --train train.jsonl --source_language en --target_language de \\
      --recipe transformer --output_dir out/en-de
  bertlite finetune TASK run.yaml --learning_rate 3e-5     options from a file, one replaced
  bertlite finetune out/ner/run_arguments.json --output_dir out/again      the same run again

tasks: {tasks}

what most runs need:
  --model MODEL             folder or hub name
  --train FILE              also --validation FILE, --test FILE; or --dataset NAME of the hub
  --validation 0.1          a tenth of the training rows, drawn with the seed
  --columns text=Review label=Stars      where the columns have other names
  --on_bad_row skip         leave bad rows out and count them, instead of stopping
  --output_dir FOLDER       model, tokenizer, README.md, metrics.json, run_arguments.json
  --check                   say what was found, and stop before training
  --num_train_epochs N      3    --learning_rate R   5e-5    --per_device_train_batch_size N   32
  --seed N                  42   --seeds 1 2 3       a run with each, mean and spread in the card
  --recipe bert|transformer the papers' own recipes
  --early_stopping N        stop after N evaluations without a better one
  --class_weights auto      where some classes are rare
  --few_shot                for a few rows a class: pairs of rows first, then a head
  --freeze embeddings|N|encoder          keep the weights of these parts, or of N layers
  --lora                    train low-rank adapters only
  --resume_from_checkpoint last          go on with an interrupted run

bertlite finetune TASK --help-all explains every option, those of transformers'
TrainingArguments included.
"""
KINDS = (RunOptions, DataOptions, TaskOptions, ModelOptions, RecipeOptions)


def main(argv: list[str]) -> int:
    """Run `bertlite finetune`; a ValueError refuses bad input before anything is trained."""
    if not argv or argv[0] in ("-h", "--help") or {"-h", "--help"} & set(argv):
        say(HELP.format(tasks=", ".join(TASKS)))
        return 0 if argv else 2
    if "--help-all" in argv:
        return help_all(argv)
    again = is_option_file(argv[0])
    recorded: dict[str, Any] = run_again(argv[0]) if again else {"task": argv[0]}
    task = task_named(recorded.pop("task"))
    parser = make_parser(f"bertlite finetune {task.name}", "", [*KINDS, task.arguments_class])
    rest = argv[1:]
    file = rest.pop(0) if not again and rest and is_option_file(rest[0]) else None
    given = parse_given(parser, rest, file)
    if (output_dir := given.pop("output_dir", None)) is None:
        raise ValueError("--output_dir must name the folder to write to, got none")
    names = {each.name for each in fields(task.arguments_class)}
    arguments = {name: given.pop(name) for name in list(given) if name in names}
    arguments = {**recorded.pop("arguments", {}), **arguments}
    options = {**recorded, **given}
    finetune(task.name, output_dir=output_dir, arguments=arguments, say=say, **options)
    return 0


def help_all(argv: list[str]) -> int:
    """Every option of a task, with the default that its runs have."""
    name = next((word for word in argv if not word.startswith("-")), "sequence-classification")
    task = task_named(name)
    parser = make_parser(
        f"bertlite finetune {name}",
        "Every option, with its default for this task.",
        [*KINDS, task.arguments_class],
        {**task.arguments(), "save_strategy": "epoch"},
    )
    say(parser.format_help())
    return 0


def say(text: str) -> None:
    """Write lines for the user at once, so that they keep their place beside the progress bar."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()
