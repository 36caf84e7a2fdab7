"""Joint byte-pair encoding (BPE) for translation, trained by the `tokenizers` library."""

from collections.abc import Iterable

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from .texts import check_sizes, not_empty

TRANSLATION_SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")  # 0, 1, 2
LONGEST_TOKEN = 64  # characters; lines of dashes would fill the vocabulary otherwise


def train_joint_bpe(
    texts: Iterable[str],
    *,
    vocab_size: int = 8_000,
    min_frequency: int = 2,
    model_max_length: int = 512,
    show_progress: bool = False,
) -> PreTrainedTokenizerFast:
    """Train one byte-pair encoding for both languages of a translation model (Sennrich et al.

    2016, joint BPE).

    The alphabet is the 256 bytes, so that any text can be written and `decode(encode(x),
    skip_special_tokens=True)` is `x` again, spaces and all. Words are kept apart from punctuation,
    and carry the space before them; the first word is given one too, so that it is the same token
    wherever it stands. Every text ends with `</s>`, as in Marian. Numbers: `<pad>` 0, with which a
    decoder starts as well (`decoder_start_token_id = tokenizer.pad_token_id`), `</s>` 1, `<unk>` 2
    (never needed).

    Args:
        texts: of source and target together; read once, and not kept.
        vocab_size: tokens at most; the paper has 37,000 for 4.5 million pairs, a small corpus wants
            4,000 to 16,000.
        min_frequency: occurrences below which a pair is not joined.
        model_max_length: tokens of the longest input, which `truncation=True` cuts to.
        show_progress: show bars while training.

    Returns:
        The fast tokenizer, ready for `save_pretrained`.

    Raises:
        ValueError: a number is too small, `texts` is a single text, or there was no text.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    check_sizes(
        vocab_size, len(TRANSLATION_SPECIAL_TOKENS) + len(alphabet), min_frequency, model_max_length
    )
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.Prepend(" ")
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        initial_alphabet=alphabet,
        special_tokens=list(TRANSLATION_SPECIAL_TOKENS),
        max_token_length=LONGEST_TOKEN,
        show_progress=show_progress,
    )
    backend.train_from_iterator(not_empty(texts), trainer=trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", backend.token_to_id("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=model_max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
