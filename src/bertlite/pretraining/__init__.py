"""Pretraining BERT from raw text.

Documents, a token store, sentence pairs, masking, the stream of batches, training.

    sentences ← documents ← token_store ← sentence_pairs ← batch_stream (with token_masking)
    ← survey, training ← command

`bertlite pretrain --help` is the way in.
"""

from .batch_stream import BatchStream, Phase, StreamOptions
from .documents import read_documents
from .sentence_pairs import PairOptions
from .sentences import split_sentences
from .survey import TextSurvey, survey_text
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
    "TextSurvey",
    "TokenStore",
    "read_documents",
    "split_sentences",
    "survey_text",
    "write_token_store",
]
