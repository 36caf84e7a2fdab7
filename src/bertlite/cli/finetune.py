"""The command `bertlite finetune`."""

import json
import sys

from ..tasks.base import TaskOptions
from ..tasks.registry import TASKS, task_named
from ..training.finetuning import finetune
from ..training.options import DataOptions, ModelOptions, RunOptions
from .parsing import is_option_file, make_parser, parse_given

HELP = """usage: bertlite finetune TASK [OPTIONS.yaml] --model MODEL --train FILE --output_dir FOLDER [options]

From a file of examples to a trained model: checks data and model, trains, measures, saves the model with a card.

examples:
  bertlite finetune sequence-classification --model google-bert/bert-base-uncased \\
      --train reviews.csv --validation held_out.csv --output_dir out/sentiment
  bertlite finetune token-classification --model MODEL --train train.conll --validation dev.conll --output_dir out/ner
  bertlite finetune question-answering --model MODEL --train train.json --output_dir out/qa --doc_stride 128
  bertlite finetune translation --from_scratch --config_preset transformer-base --tokenizer out/tokenizer \\
      --train train.jsonl --source_language en --target_language de --recipe transformer --output_dir out/en-de
  bertlite finetune TASK run.yaml --learning_rate 3e-5       options from a file, one of them replaced

tasks: {tasks}

what most runs need:
  --model MODEL             folder or hub name
  --train FILE              also --validation FILE, --test FILE; or --dataset NAME of the hub
  --columns text=Review label=Stars      where the columns have other names
  --on_bad_row skip         leave bad rows out and count them, instead of stopping
  --output_dir FOLDER       model, tokenizer, README.md, metrics.json, run_arguments.json
  --num_train_epochs N      3    --learning_rate R   5e-5    --per_device_train_batch_size N   32    --seed N   42
  --recipe bert|transformer the papers' own recipes
  --resume_from_checkpoint last          go on with an interrupted run

bertlite finetune TASK --help-all explains every option, those of transformers' TrainingArguments included.
"""


def main(argv: list[str]) -> int:
    """Run `bertlite finetune`; a ValueError refuses bad input before anything is trained."""
    if not argv or argv[0] in ("-h", "--help") or {"-h", "--help"} & set(argv):
        say(HELP.format(tasks=", ".join(TASKS)))
        return 0 if argv else 2
    every = "--help-all" in argv
    name = (
        next((word for word in argv if not word.startswith("-")), "sequence-classification")
        if every
        else argv[0]
    )
    task = task_named(name)
    kinds = [RunOptions, DataOptions, TaskOptions, ModelOptions, task.arguments_class]
    parser = make_parser(
        f"bertlite finetune {name}",
        "Every option, with the default that is used.",
        kinds,
        {**task.arguments(), "save_strategy": "epoch"},
    )
    if every:
        say(parser.format_help())
        return 0
    rest = argv[1:]
    file = rest.pop(0) if rest and is_option_file(rest[0]) else None
    given = parse_given(parser, rest, file)
    output_dir = given.pop("output_dir", None)
    if output_dir is None:
        raise ValueError("--output_dir must name the folder to write to, got none")
    own = {
        each
        for kind in (DataOptions, TaskOptions, ModelOptions)
        for each in kind.__dataclass_fields__
    }
    options = {key: given.pop(key) for key in list(given) if key in own}
    model = given.pop("model", None)
    result = finetune(name, model, output_dir=output_dir, arguments=given, **options)
    say(json.dumps(result.metrics, indent=2))
    say(f"model, tokenizer, figures and card: {result.output_dir}")
    return 0


def say(text: str) -> None:
    """Write a line for the user."""
    sys.stdout.write(text.rstrip("\n") + "\n")
