"""Pretraining BERT from raw text.

Documents, a token store, sentence pairs, masking, the stream of batches, training.

    documents ← token_store ← sentence_pairs ← batch_stream (with token_masking) ← training ←
    command

`bertlite pretrain --help` is the way in.
"""

from .batch_stream import BatchStream, Phase, StreamOptions
from .documents import read_documents, split_sentences
from .sentence_pairs import PairOptions
from .token_masking import MaskingOptions
from .token_store import TokenStore, write_token_store
from .training import PretrainingTrainer

__all__ = [
    "BatchStream",
    "MaskingOptions",
    "PairOptions",
    "Phase",
    "PretrainingTrainer",
    "StreamOptions",
    "TokenStore",
    "read_documents",
    "split_sentences",
    "write_token_store",
]
