"""The two papers' training recipes, as options and callbacks of transformers' `Trainer`.

- `transformer_optimizers`: Adam with the Noam schedule; `bert_optimizer`: AdamW without decay on
  biases and norms, with
  layer-wise learning rates as an option. Both go into `Trainer(optimizers=...)`.
- `TokenBatches` and `TokenBatchCollator`: batches of so many tokens, into `train_dataset` and
  `data_collator`.
- `CheckpointAveraging`: a callback that averages the last checkpoints of a run;
  `average_checkpoints` does it later.
- `paper_generation_config`: beam search as in the paper.

Label smoothing is a field of `TransformerLiteConfig`.
"""

from .checkpoint_averaging import CheckpointAveraging, average_checkpoints
from .optimizers import (
    NoamRate,
    bert_optimizer,
    noam_schedule,
    parameter_groups,
    transformer_optimizers,
)
from .starting import paper_generation_config
from .token_batches import TokenBatchCollator, TokenBatches, TokenBatchSampler, token_lengths

__all__ = [
    "CheckpointAveraging",
    "NoamRate",
    "TokenBatchCollator",
    "TokenBatchSampler",
    "TokenBatches",
    "average_checkpoints",
    "bert_optimizer",
    "noam_schedule",
    "paper_generation_config",
    "parameter_groups",
    "token_lengths",
    "transformer_optimizers",
]
