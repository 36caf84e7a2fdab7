"""`bertlite pretrain` without dropout, sharded by FSDP2 over processes on CPUs.

accelerate takes an FSDP configuration for accelerators only: for processes on CPUs it leaves it
aside without a word. torch itself shards on CPUs over gloo, so here accelerate is told that they
are accelerators of a kind that it knows.
"""

import sys

from accelerate import PartialState
from accelerate.utils import DistributedType

from bertlite.models import presets

_, fields = presets.PRESETS["bert-tiny"]
fields |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
make_state = PartialState.__init__


def pretend(state, *args, **kwargs):
    make_state(state, *args, **kwargs)
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_XPU


PartialState.__init__ = pretend

from bertlite.cli.pretrain import main  # noqa: E402
from bertlite.pretraining import PretrainingTrainer  # noqa: E402

evaluate = PretrainingTrainer.evaluate


def check_sharded(trainer, *args, **kwargs):
    """Each process holds its half of the words, or the test would say nothing."""
    weight = trainer.model_wrapped.bert.embeddings.word_embeddings.weight
    assert 0 < weight.to_local().shape[0] < weight.shape[0], (weight.to_local().shape, weight.shape)
    return evaluate(trainer, *args, **kwargs)


PretrainingTrainer.evaluate = check_sharded
sys.exit(main(sys.argv[1:]))
