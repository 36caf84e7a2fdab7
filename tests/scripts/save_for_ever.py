"""Save models over one another until killed; all parameters of the model number k are k."""

import sys

import torch
from transformers.utils import logging

import bertlite

logging.disable_progress_bar()
model = bertlite.BertLiteModel(bertlite.preset("bert-mini"))
number = 0
while True:
    number += 1
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(number)
    model.save_pretrained(sys.argv[1])
    if number == 1:
        print("saved once", flush=True)
