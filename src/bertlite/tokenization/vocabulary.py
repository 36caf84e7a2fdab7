"""How many ids a tokenizer may give, which can be more than the tokens that it counts."""

from typing import Any


def vocabulary_size(tokenizer: Any) -> int:
    """Rows that a model's table of embeddings needs for this tokenizer: the highest id and one.

    `len(tokenizer)` counts tokens. Where a `vocab.txt` holds a line twice, or a blank one, ids go
    on past that number, and a table of that length has no row for the last tokens. A blank line
    itself is no token of any text, so those at the end of a file need no row.

    >>> from transformers import BertTokenizer
    >>> names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    >>> tokenizer = BertTokenizer(vocab={name: id for id, name in enumerate(names)} | {"film": 7})
    >>> len(tokenizer), vocabulary_size(tokenizer)
    (6, 8)
    """
    return 1 + max(number for token, number in tokenizer.get_vocab().items() if token.strip())
