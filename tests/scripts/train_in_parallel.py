"""Two masked-LM updates on 16 rows with uneven labels, and the weights written to a file by the
first process.
"""

import os
import sys

import torch
from accelerate import PartialState
from test_training import arguments, make, rows, weights
from transformers import Trainer

target, batch_size = sys.argv[1], int(sys.argv[2])
model = make("ForMaskedLM")
start = weights(model)
backend = {"ddp_backend": "gloo"} if int(os.environ.get("WORLD_SIZE", 1)) > 1 else {}
options = arguments(
    f"{target}.out",
    max_steps=2,
    per_device_train_batch_size=batch_size,
    max_grad_norm=0.0,
    **backend,
)
trainer = Trainer(model, options, train_dataset=rows("ForMaskedLM"))
trainer.train()
state = PartialState()
if state.is_main_process:
    torch.save(
        {"weights": weights(model), "start": start, "processes": state.num_processes}, target
    )
