"""Translation and summarisation from scratch on one core.

Bertlite's recipe against MarianMTModel's, at equal time.

    run="python benchmarks/sequence_to_sequence.py --task translation --data FOLDER --work
    runs/translation" $run tokenizer $run train --which ours --minutes 25           # --resume goes
    on from the last checkpoint after a stop $run train --which transformers --minutes 25 $run
    evaluate --which ours                     # beam 4 on the validation set $run report
    # table and picture in benchmarks/results/

Data: see seq2seq_data.py. Both models have the same shape, tokenizer and initial weights, and
compute in the same precision (`--precision`). Ours trains by the Transformer's recipe: batches of
tokens, Adam with the Noam schedule, the average of the last 5 checkpoints. MarianMTModel trains by
Seq2SeqTrainer's defaults (AdamW, linear decay, batches of rows in random order, padded), but with a
learning rate and warm-up that suit training from scratch: the default of 5e-5 does not. Both have
label smoothing 0.1.

Time is the training process's own processor time (`time.process_time`) on one thread: waiting does
not count, nor does drawing the curve (greedy decoding of 300 validation rows).
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from common import processor
from seq2seq_data import TASKS, Task, encode_pairs, lead, read_pairs, scores, subset
from transformers import (
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    MarianMTModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

import bertlite
from bertlite import TransformerLiteConfig, TransformerLiteForConditionalGeneration
from bertlite.inference import summarize, translate
from bertlite.tokenization import train_joint_bpe
from bertlite.training import (
    CheckpointAveraging,
    TokenBatchCollator,
    TokenBatches,
    transformer_optimizers,
)

RESULTS = Path(__file__).with_name("results")
MODELS: dict[str, Any] = {
    "ours": TransformerLiteForConditionalGeneration,
    "transformers": MarianMTModel,
}
CURVE_ROWS = 300
LAST = 5  # checkpoints averaged


def model_config(tokenizer, arguments) -> TransformerLiteConfig:
    """A small Transformer of the paper's form.

    ReLU, post-norm, one embedding matrix for all three places.
    """
    sides: dict[str, Any] = {
        "layers": arguments.layers,
        "attention_heads": 4,
        "ffn_dim": 4 * arguments.width,
    }
    shape: dict[str, Any] = {
        f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in sides.items()
    }
    special: dict[str, Any] = {
        "pad_token_id": tokenizer.pad_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    special |= {
        "eos_token_id": tokenizer.eos_token_id,
        "forced_eos_token_id": None,
        "label_smoothing": 0.1,
    }
    return TransformerLiteConfig(
        vocab_size=len(tokenizer),
        d_model=arguments.width,
        max_position_embeddings=256,
        activation_function="relu",
        scale_embedding=True,
        **shape,
        **special,
    )


def initial_model(which: str, tokenizer, arguments):
    """The model of `which` with the same first weights, which are drawn by the seed."""
    folder = arguments.work / "initial"
    if not (folder / "config.json").is_file():
        transformers.set_seed(arguments.seed)
        TransformerLiteForConditionalGeneration(model_config(tokenizer, arguments)).save_pretrained(
            folder
        )
    return MODELS[which].from_pretrained(folder)


def write_texts(
    task: Task, model, tokenizer, sources: list[str], beams: int, batch_size: int = 32
) -> list[str]:
    """What the model writes for each source."""
    write = translate if task.name == "translation" else summarize
    options: dict[str, Any] = (
        {} if task.name == "translation" else {"max_new_tokens": task.target_limit}
    )
    options |= {
        "num_beams": beams,
        "max_source_length": task.source_limit,
        "batch_size": batch_size,
    }
    options |= {"length_penalty": 0.6} if beams > 1 else {}
    return write(sources, model, tokenizer, show_progress=False, **options)


class TrainingClock(TrainerCallback):
    """Counts processor time spent on training, draws the curve, and stops when the time is up.

    Time and curve lie beside each checkpoint, so that a resumed run goes on from what its
    checkpoint had.

    Args:
        task: what is trained.
        pairs: validation rows of the curve.
        tokenizer: of the model.
        minutes: of training.
        every: minutes from one point of the curve to the next.
    """

    def __init__(
        self, task: Task, pairs: list[tuple[str, str]], tokenizer, minutes: float, every: float
    ):
        self.task, self.pairs, self.tokenizer = task, pairs, tokenizer
        self.minutes, self.every = minutes, every
        self.seconds, self.mark = 0.0, 0.0
        self.curve: list[dict[str, Any]] = []
        self.resumed: list[int] = []  # steps at which the run went on from a checkpoint

    def on_train_begin(self, args, state, control, **kwargs):
        saved = Path(args.output_dir, f"checkpoint-{state.global_step}", "clock.json")
        if state.global_step:
            kept = json.loads(saved.read_text())
            self.seconds, self.curve = kept["seconds"], kept["curve"]
            self.resumed = [*kept["resumed"], state.global_step]
        self.mark = time.process_time()

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self._count()
        if self.seconds >= 60 * self.minutes:
            control.should_training_stop = control.should_save = True
        if self.seconds >= 60 * self.every * (len(self.curve) + 1) or control.should_training_stop:
            self._draw(model, state)

    def on_save(self, args, state, control, **kwargs):
        self._count()
        kept = {
            "seconds": self.seconds,
            "curve": self.curve,
            "resumed": self.resumed,
            "steps": state.global_step,
        }
        Path(args.output_dir, f"checkpoint-{state.global_step}", "clock.json").write_text(
            json.dumps(kept)
        )

    def _count(self) -> None:
        now = time.process_time()
        self.seconds, self.mark = self.seconds + now - self.mark, now

    def _draw(self, model, state) -> None:
        sources, references = zip(*self.pairs, strict=True)
        found = scores(
            self.task,
            write_texts(self.task, model, self.tokenizer, list(sources), 1),
            list(references),
        )
        epoch = round(state.epoch or 0, 2)
        self.curve.append(
            {"minutes": self.seconds / 60, "steps": state.global_step, "epoch": epoch, **found}
        )
        print(json.dumps(self.curve[-1]), flush=True)
        self.mark = time.process_time()


def run_arguments(which: str, arguments, **options) -> Seq2SeqTrainingArguments:
    """What both runs share; the rest are Seq2SeqTrainer's defaults."""
    return Seq2SeqTrainingArguments(
        output_dir=str(arguments.work / which),
        use_cpu=True,
        bf16=arguments.precision == "bf16",
        seed=arguments.seed,
        save_steps=arguments.save_steps,
        save_total_limit=LAST + 1,
        logging_steps=50,
        report_to="none",
        disable_tqdm=True,
        **options,
    )


def our_trainer(model, tokenizer, rows: list[dict], arguments) -> Seq2SeqTrainer:
    """The Transformer's recipe."""
    batches = TokenBatches(rows, max_tokens=arguments.max_tokens)
    options = {"per_device_train_batch_size": 1, "max_steps": 10**6}
    return Seq2SeqTrainer(
        model,
        run_arguments("ours", arguments, **options),
        train_dataset=batches,
        data_collator=TokenBatchCollator(DataCollatorForSeq2Seq(tokenizer)),
        processing_class=tokenizer,
        optimizers=transformer_optimizers(
            model, warmup_steps=arguments.warmup, factor=arguments.factor
        ),
        callbacks=[CheckpointAveraging(last=LAST)],
    )


def their_trainer(model, tokenizer, rows: list[dict], arguments) -> Seq2SeqTrainer:
    """Seq2SeqTrainer's own recipe.

    Batches of rows that hold about as many real tokens as ours hold padded ones.
    """
    mean = sum(len(row["input_ids"]) + len(row["labels"]) for row in rows) / len(rows)
    options = {"learning_rate": arguments.learning_rate, "warmup_steps": arguments.warmup}
    options |= {
        "label_smoothing_factor": 0.1,
        "per_device_train_batch_size": round(arguments.max_tokens / mean),
    }
    return Seq2SeqTrainer(
        model,
        run_arguments("transformers", arguments, max_steps=arguments.planned_steps, **options),
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
    )


def train(task: Task, arguments) -> None:
    """Train one of the two for so many minutes of processor time."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(arguments.work / "tokenizer")
    rows = encode_pairs(tokenizer, read_pairs(arguments.data, "train", task), task)
    model = initial_model(arguments.which, tokenizer, arguments)
    trainer = (our_trainer if arguments.which == "ours" else their_trainer)(
        model, tokenizer, rows, arguments
    )
    pairs = subset(read_pairs(arguments.data, "validation", task), CURVE_ROWS)
    clock = TrainingClock(task, pairs, tokenizer, arguments.minutes, arguments.every)
    trainer.add_callback(clock)
    trainer.train(resume_from_checkpoint=True if arguments.resume else None)
    result = {
        "which": arguments.which,
        "minutes": clock.seconds / 60,
        "steps": trainer.state.global_step,
    }
    result |= {
        "epochs": trainer.state.epoch,
        "curve": clock.curve,
        "resumed_at_steps": clock.resumed,
    }
    settings = {
        name: str(value)
        for name, value in vars(arguments).items()
        if name not in ("data", "work", "results", "resume")
    }
    result |= {"settings": settings, "parameters": sum(each.numel() for each in model.parameters())}
    save_result(arguments.results, f"{task.name}_{arguments.which}_training", result)


def evaluate(task: Task, arguments) -> None:
    """Score a trained model, and for summaries the lead-10 baseline, on the validation set."""
    torch.set_num_threads(1)
    folder = arguments.work / arguments.which
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    chosen = checkpoints[-1] if arguments.weights == "last" else folder / "averaged"
    tokenizer, model = (
        AutoTokenizer.from_pretrained(chosen),
        MODELS[arguments.which].from_pretrained(chosen),
    )
    pairs = subset(read_pairs(arguments.data, "validation", task), arguments.rows)
    sources, references = [source for source, _ in pairs], [target for _, target in pairs]
    start = time.process_time()
    written = write_texts(task, model.eval(), tokenizer, sources, arguments.beams)
    seconds = time.process_time() - start
    result = {
        "which": arguments.which,
        "weights": arguments.weights,
        "beams": arguments.beams,
        "rows": len(sources),
    }
    result |= {**scores(task, written, references), "decoding_seconds": seconds}
    if task.name == "summarization":
        result["lead_10"] = scores(task, [lead(source) for source in sources], references)
    texts = zip(sources, references, written, strict=True)
    samples = [dict(zip(("source", "reference", "written"), each, strict=True)) for each in texts]
    (folder / f"texts_{arguments.weights}_{arguments.beams}.json").write_text(
        json.dumps(samples, ensure_ascii=False)
    )
    name = f"{task.name}_{arguments.which}_{arguments.weights}_beam{arguments.beams}"
    save_result(arguments.results, name, result)


def save_result(folder: Path, name: str, result: dict) -> None:
    """Write a result with versions and processor, without which it cannot be judged."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    versions |= {"transformers": transformers.__version__, "bertlite": bertlite.__version__}
    folder.mkdir(parents=True, exist_ok=True)
    result = {**result, "versions": versions, "processor": processor(), "threads": 1}
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print({key: value for key, value in result.items() if key != "curve"})


def read_results(task: Task, folder: Path) -> dict[str, dict]:
    """The results of a task by name."""
    return {
        path.stem: json.loads(path.read_text())
        for path in sorted(folder.glob(f"{task.name}_*.json"))
    }


def result_table(results: dict[str, dict], columns: tuple[str, ...]) -> str:
    """A table of the evaluated models, one a line.

    Raises:
        ValueError: nothing was evaluated.
    """
    rows = [each for each in results.values() if "weights" in each]
    if not rows:
        raise ValueError("report needs the results of evaluate, got none")
    lines = [
        f"| model | weights | beams | rows | {' | '.join(columns)} |",
        "| --- " * (len(columns) + 4) + "|",
    ]
    for each in rows:
        figures = " | ".join(f"{each[name]:.{3 if 'rouge' in name else 2}f}" for name in columns)
        lines.append(
            f"| {each['which']} | {each['weights']} | {each['beams']} | {each['rows']} | {figures} "
            "|"
        )
    if "lead_10" in rows[-1]:
        figures = " | ".join(f"{rows[-1]['lead_10'][name]:.3f}" for name in columns)
        lines.append(f"| first 10 words | | | {rows[-1]['rows']} | {figures} |")
    return "\n".join(lines)


def report(task: Task, arguments) -> None:
    """Print the table, and draw the curve into the folder of the results."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    results = read_results(task, arguments.results)
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    names = {
        "ours": "bertlite, the Transformer's recipe",
        "transformers": "MarianMTModel, Seq2SeqTrainer's recipe",
    }
    for which, style in (("ours", "o-"), ("transformers", "s--")):
        curve = results.get(f"{task.name}_{which}_training", {}).get("curve", [])
        if curve:
            points = [(point["minutes"], point[task.figure]) for point in curve]
            axes.plot(*zip((0, 0), *points, strict=True), style, label=names[which])
    title = {"bleu": "BLEU", "rouge1": "ROUGE-1"}[task.figure]
    axes.set(
        xlabel="training time, minutes of one core",
        ylabel=f"{title}, greedy, {CURVE_ROWS} validation rows",
    )
    leads = [each["lead_10"]["rouge1"] for each in results.values() if "lead_10" in each]
    if leads:
        axes.axhline(
            leads[-1], color="grey", linestyle=":", label="the first 10 words, all validation rows"
        )
    axes.set_title(f"{task.name.capitalize()} from scratch")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(arguments.results / f"{task.name}_curve.png", dpi=120)
    columns = ("bleu", "chrf") if task.name == "translation" else ("rouge1", "rouge2", "rougeL")
    table = result_table(results, columns)
    (arguments.results / f"{task.name}.md").write_text(table + "\n")
    print(table)


def make_tokenizer(task: Task, arguments) -> None:
    """Train the tokenizer on both sides of the training set."""
    pairs = read_pairs(arguments.data, "train", task)
    texts = (text for pair in pairs for text in pair)
    tokenizer = train_joint_bpe(texts, vocab_size=arguments.vocabulary, model_max_length=256)
    tokenizer.save_pretrained(arguments.work / "tokenizer")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("tokenizer", "train", "evaluate", "report"))
    parser.add_argument("--task", choices=sorted(TASKS), default="translation")
    parser.add_argument(
        "--data", type=Path, help="folder with train.jsonl.gz and validation.jsonl.gz"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs"), help="folder for tokenizer and checkpoints"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="folder for figures (default: %(default)s)"
    )
    parser.add_argument("--which", choices=sorted(MODELS), default="ours")
    parser.add_argument("--minutes", type=float, default=25.0, help="processor time of training")
    parser.add_argument(
        "--every", type=float, default=2.5, help="minutes from one point of the curve to the next"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=3, help="of each side")
    parser.add_argument(
        "--max-tokens", type=int, default=2048, help="of a batch, source and target together"
    )
    parser.add_argument("--warmup", type=int, default=600, help="updates")
    parser.add_argument("--factor", type=float, default=0.6, help="of the Noam schedule; ours")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="transformers'")
    parser.add_argument(
        "--planned-steps", type=int, default=2500, help="where transformers' linear decay ends"
    )
    parser.add_argument("--save-steps", type=int, default=100)
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), default="bf16", help="of both, by autocast"
    )
    parser.add_argument(
        "--weights", choices=("averaged", "last"), default="averaged", help="which are evaluated"
    )
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument(
        "--rows", type=int, default=0, help="of the validation set that are evaluated; 0: all"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    commands = {"tokenizer": make_tokenizer, "train": train, "evaluate": evaluate, "report": report}
    commands[arguments.command](TASKS[arguments.task], arguments)


if __name__ == "__main__":
    main()
