"""The same weights in transformers' class and in ours: theirs saves a folder, ours loads it."""

from pathlib import Path

import torch
import transformers
from cases import BERT, TRANSFORMER, randomize
from transformers import BertConfig, MarianConfig, MarianModel, MarianMTModel

import bertlite
from bertlite import TransformerLiteForConditionalGeneration, TransformerLiteModel

HEADS = (
    "Model",
    "ForPreTraining",
    "ForMaskedLM",
    "ForNextSentencePrediction",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)
SEPARATE = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 53}


def bert_pair(head: str, folder: Path, attention: str = "eager", **overrides):
    """A BERT with large random weights, in their class and in ours, in `eval` mode."""
    fields = {**BERT, **overrides}
    if head == "ForQuestionAnswering":
        fields["num_labels"] = 2
    theirs = randomize(getattr(transformers, f"Bert{head}")(BertConfig(**fields)), std=0.25)
    theirs.save_pretrained(folder)
    ours = getattr(bertlite, f"BertLite{head}")
    return theirs, ours.from_pretrained(folder, attn_implementation=attention).eval()


def marian_pair(folder: Path, attention: str = "eager", base: bool = False, **overrides):
    """A Marian with large random weights, in their class and in ours, in `eval` mode.

    Their sinusoidal tables are parameters, and stay what they are.
    """
    fields = {**TRANSFORMER, **overrides}
    theirs = (MarianModel if base else MarianMTModel)(MarianConfig(**fields))
    randomize(theirs, std=0.25, seed=overrides.get("d_model", 0))
    with torch.no_grad():
        for stack in (theirs.get_encoder(), theirs.get_decoder()):
            stack.embed_positions.weight.copy_(stack.embed_positions.create_weight())
    theirs.save_pretrained(folder)
    ours = TransformerLiteModel if base else TransformerLiteForConditionalGeneration
    return theirs, ours.from_pretrained(folder, attn_implementation=attention).eval()
