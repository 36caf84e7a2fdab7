"""Tokenizers trained from texts of your own.

WordPiece for BERT (`wordpiece`), joint byte-pair encoding for translation (`bpe`), and how they do
on texts that they have not seen (`report`). `bertlite tokenizer` is the way in.

Both are saved so that `AutoTokenizer.from_pretrained` loads them.
"""

from .bpe import train_joint_bpe
from .report import TokenizerReport, measure
from .texts import read_texts
from .vocabulary import vocabulary_size
from .wordpiece import train_wordpiece

__all__ = [
    "TokenizerReport",
    "measure",
    "read_texts",
    "train_joint_bpe",
    "train_wordpiece",
    "vocabulary_size",
]
