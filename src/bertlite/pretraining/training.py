"""`Trainer` for pretraining.

The stream of batches, both losses weighed exactly, safe checkpoints, held-out figures.

Shapes: `B` rows, `T` length, `M` predicted tokens, `E` hidden size, `V` vocabulary.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import Trainer, TrainerCallback

from bertlite.backends.lengths import lengths_of, takes_lengths
from bertlite.models.files import file_checksum
from bertlite.models.inputs import IGNORED
from bertlite.models.modeling_bertlite import BertLiteForPreTraining

from .batch_stream import Batch, BatchStream

logger = logging.getLogger(__name__)
MARKER = "complete.json"


class PretrainingTrainer(Trainer):
    """A `Trainer` that takes whole batches from a `BatchStream`, of which each process reads its
    own part.

    `args` must have `ignore_data_skip=True`, since the stream itself begins where a checkpoint left
    off, and `max_steps`. One update takes `gradient_accumulation_steps` batches of each process, so
    that k processes with one batch each do what one process with k batches does.

    Args:
        stream: batches to train on, from the step on at which training begins.
        held_out: batches to evaluate on, the same ones every time: a list, of which each process
            takes its part.
        num_workers: of the loader.
        make_optimizer: makes the optimizer from the model, when training begins. Unlike
            `optimizers`, which stays possible, it also serves under FSDP, whose parameters the
            library must exchange in the optimizer itself.

    Raises:
        ValueError: `args` without `ignore_data_skip` or `max_steps`.
    """

    def __init__(
        self,
        *arguments,
        stream: BatchStream,
        held_out: list[Batch] | None = None,
        num_workers: int = 0,
        make_optimizer: Callable[[torch.nn.Module], torch.optim.Optimizer] | None = None,
        **kw,
    ):
        super().__init__(*arguments, train_dataset=stream, eval_dataset=held_out or None, **kw)
        if not self.args.ignore_data_skip or self.args.max_steps < 1:
            raise ValueError("args must have ignore_data_skip=True and max_steps of at least 1")
        self.held_out, self.num_workers, self.make_optimizer = (
            held_out or [],
            num_workers,
            make_optimizer,
        )

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """As `make_optimizer` says, or as the library's."""
        if self.optimizer is None and self.make_optimizer is not None:
            self.optimizer = self.make_optimizer(model or self.model)  # type: ignore[arg-type]
        return super().create_optimizer(model)

    def _prepare_for_training(self, *arguments, **keywords):
        """As the library's.

        Under FSDP2, embeddings and vocabulary head stay in one group with the model's root.

        The library would shard the two in a group of their own, where the head's bias, which BERT
        holds under two names of which one is outside, cannot be, and where a head that is read
        without being called is not gathered.
        """
        model: Any = self.model
        if self.is_fsdp_enabled:
            model.get_input_embeddings = model.get_output_embeddings = lambda: (
                None
            )  # what it looks for
        try:
            return super()._prepare_for_training(*arguments, **keywords)
        finally:
            for name in ("get_input_embeddings", "get_output_embeddings"):
                vars(model).pop(name, None)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """As the library's; then the learning rate is that of the present schedule.

        The checkpoint holds the rate of its own run, which at the end of it is 0: where a finished
        run goes on, the first update would be without effect.
        """
        super()._load_optimizer_and_scheduler(checkpoint)
        schedule: Any = self.lr_scheduler
        optimizer: Any = self.optimizer
        if checkpoint is None or not isinstance(schedule, torch.optim.lr_scheduler.LambdaLR):
            return
        factors = [of_step(schedule.last_epoch) for of_step in schedule.lr_lambdas]
        for group, base, factor in zip(
            optimizer.param_groups, schedule.base_lrs, factors, strict=True
        ):
            group["lr"] = base * factor

    def get_train_dataloader(self) -> DataLoader:
        """The stream's own loader: it shards by itself, so accelerate must not do it again."""
        stream: Any = self.train_dataset
        return stream.loader(
            self.num_workers,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
        )

    def get_batch_samples(self, epoch_iterator, num_batches: int, device: torch.device):
        """Also counts the pairs of all batches of the update, over all processes.

        The NSP loss is their mean. A GPU is told the lengths of the rows with them.
        """
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if takes_lengths(self.model, device):  # type: ignore[arg-type]
            for batch in batches:
                batch["lengths"] = lengths_of(batch)
        if batches and "next_sentence_label" in batches[0]:
            pairs = torch.stack(
                [(batch["next_sentence_label"] != IGNORED).sum() for batch in batches]
            ).sum()
            if self.args.world_size > 1:
                pairs = self.accelerator.reduce(pairs.to(device))
            for batch in batches:
                batch["num_sequences_in_batch"] = pairs
        return batches, items

    def evaluate(
        self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Figures on the held-out batches, logged as `eval_...`."""
        sums = torch.zeros(5, dtype=torch.float64)
        own = self.held_out[self.args.process_index :: self.args.world_size]
        hidden = self.args.disable_tqdm or not self.is_world_process_zero()
        model: Any = self.model
        model.eval()
        with torch.inference_mode(), self.accelerator.autocast():
            for batch in tqdm(own, desc="held out", disable=hidden, leave=False):
                sums += self._sums(batch)
        model.train()
        if self.args.world_size > 1:
            sums = self.accelerator.reduce(sums.to(self.args.device, torch.float32)).double().cpu()
        metrics = {
            f"{metric_key_prefix}_{name}": value for name, value in held_out_figures(sums).items()
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _sums(self, batch: Batch) -> torch.Tensor:
        """Summed masked-LM loss, correct tokens, tokens, correct pairs, pairs.

        Only predicted tokens meet `V`.
        """
        batch = {name: tensor.to(self.args.device) for name, tensor in batch.items()}
        labels, pairs = batch.pop("labels"), batch.pop("next_sentence_label", None)
        model: Any = self.accelerator.unwrap_model(self.model_wrapped)
        chosen = labels != IGNORED
        if (
            self.is_fsdp_enabled
        ):  # its weights are whole only within the wrapped model's own forward
            outputs = self.model_wrapped(**batch)
            logits, relationship = (
                outputs.prediction_logits[chosen],
                outputs.seq_relationship_logits,
            )
        else:
            outputs = model.bert(**batch)
            logits = model.cls.predictions(outputs.last_hidden_state[chosen])  # (M, V)
            relationship = model.cls.seq_relationship(outputs.pooler_output)  # (B, 2)
        targets = labels[chosen]
        loss = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")
        found = [loss, (logits.argmax(-1) == targets).sum(), chosen.sum()]
        if pairs is not None:
            found += [(relationship.argmax(-1) == pairs).sum(), (pairs != IGNORED).sum()]
        sums = torch.tensor([float(each) for each in found], dtype=torch.float64)
        return torch.nn.functional.pad(sums, (0, 5 - len(found)))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the library's.

        Under FSDP a model that the caller wants is whole, whatever checkpoints are.
        """
        if self.is_fsdp_enabled and not _internal_call:
            self.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
        super().save_model(output_dir, _internal_call)

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        """As the library's.

        Of a sharded model, whose class torch has mixed, what an unsharded one would save.
        """
        model: Any = self.model
        sharded = type(model)
        if not self.is_fsdp_enabled or state_dict is None:
            super()._save(output_dir, state_dict)
            return
        model.__class__ = next(
            kind for kind in sharded.__mro__ if kind.__module__ == BertLiteForPreTraining.__module__
        )
        try:
            super()._save(
                output_dir,
                {n: t for n, t in state_dict.items() if n not in model.all_tied_weights_keys},
            )
        finally:
            model.__class__ = sharded

    def _save_checkpoint(self, model, trial) -> None:
        """As the library's; then a marker, which only a checkpoint that is whole has."""
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            mark_complete(Path(str(self.args.output_dir), f"checkpoint-{self.state.global_step}"))


def held_out_figures(sums: torch.Tensor) -> dict[str, float]:
    """From the five sums of `_sums`: loss, perplexity (e to the loss), accuracies."""
    loss, correct, tokens, pairs_correct, pairs = sums.tolist()
    figures = {
        "masked_lm_loss": loss / max(tokens, 1),
        "perplexity": math.exp(min(loss / max(tokens, 1), 700)),
        "masked_lm_accuracy": correct / max(tokens, 1),
    }
    return {**figures, "next_sentence_accuracy": pairs_correct / pairs} if pairs else figures


def mark_complete(checkpoint: Path) -> None:
    """Note sizes and CRC-32s of a checkpoint, once all files are on the disk.

    The note appears at once or not.
    """
    noted = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name != MARKER:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            noted[str(path.relative_to(checkpoint))] = [path.stat().st_size, file_checksum(path)]
    part = checkpoint / f"{MARKER}.part"
    part.write_text(json.dumps(noted, indent=2))
    os.replace(part, checkpoint / MARKER)


def is_complete(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is there as it was written (notes of earlier versions hold
    sizes only).
    """
    try:
        noted = json.loads((checkpoint / MARKER).read_text())
        files = {
            checkpoint / name: note if isinstance(note, list) else [note]
            for name, note in noted.items()
        }
        sizes = all(path.stat().st_size == size for path, (size, *_) in files.items())
        return sizes and all(
            [file_checksum(path)] == sums for path, (_, *sums) in files.items() if sums
        )
    except (OSError, ValueError, AttributeError):  # no file, no JSON, not such a note
        return False


def last_complete_checkpoint(folder: str | Path) -> Path | None:
    """The newest whole checkpoint of a run.

    One that a kill left half written, or that was damaged, is passed over.

    Raises:
        ValueError: all checkpoints that once were whole are damaged: beginning anew would throw the
            run away.
    """
    numbered = [
        path for path in Path(folder).glob("checkpoint-*") if path.name.split("-")[1].isdigit()
    ]
    passed_over = []
    for path in sorted(numbered, key=step_of, reverse=True):
        if is_complete(path):
            return path
        passed_over.append(path)
        logger.warning("Passing over %s, which is not whole", path)
    damaged = [path.name for path in passed_over if (path / MARKER).exists()]
    if damaged:
        came = f"{', '.join(damaged)}: bring one back, or delete them to begin anew"
        raise ValueError(
            f"--resume: {folder} must hold a whole checkpoint, got damaged ones only, {came}"
        )
    return None


def step_of(checkpoint: Path) -> int:
    """The update after which it was written."""
    return int(checkpoint.name.split("-")[1])


class ProcessorTime(TrainerCallback):
    """Adds to every log entry the seconds of processor time since training began, over resumed runs
    too.

    On a machine that others use as well, it says how much work was done; the clock does not.
    """

    def __init__(self):
        self.before = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        earlier = [
            entry["processor_seconds"]
            for entry in state.log_history
            if "processor_seconds" in entry
        ]
        self.before = (earlier[-1] if earlier else 0.0) - time.process_time()

    def on_log(self, args, state, control, logs=None, **kwargs):
        logs["processor_seconds"] = round(self.before + time.process_time(), 2)
        if state.log_history:  # the entry was made before callbacks are asked
            state.log_history[-1]["processor_seconds"] = logs["processor_seconds"]
