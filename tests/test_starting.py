"""What a run starts from: vocabularies of every shape, and what does not fit them."""

import json

import pytest
import sentencepiece
import torch
from tasks_cases import ROWS, TINY, bpe_folder
from transformers import AutoTokenizer, MarianTokenizer

from bertlite import finetune, translate
from bertlite.training.starting import vocabularies, vocabulary_size

QUIET = {"disable_tqdm": True, "use_cpu": True, "max_steps": 2, "per_device_train_batch_size": 2}
SOURCES = [row["source"] for row in ROWS["translation"]] * 4
TARGETS = ["Eine Katze sass in Paris", "Anna ging nach London", "Zwei Hunde", "Ein Satz"] * 6
SPECIAL = ["</s>", "<unk>", "<pad>"]


def marian(folder, *, separate, order=SPECIAL):
    """A Marian tokenizer of two sentencepiece models, with one vocabulary or two."""
    folder.mkdir()
    vocabularies_of = []
    for name, texts, size in (("source", SOURCES, 40), ("target", TARGETS, 50)):
        (folder / f"{name}.txt").write_text("\n".join(texts))
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / f"{name}.txt"),
            model_prefix=str(folder / name),
            vocab_size=size,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        model = sentencepiece.SentencePieceProcessor(str(folder / f"{name}.model"))
        pieces = [model.id_to_piece(number) for number in range(model.get_piece_size())]
        first = SPECIAL if name == "source" else order
        names = [*first, *(piece for piece in pieces if piece not in ("<unk>", "<s>", "</s>"))]
        vocabularies_of.append({piece: number for number, piece in enumerate(names)})
    source, target = vocabularies_of
    joint = {piece: number for number, piece in enumerate(dict.fromkeys([*source, *target]))}
    files = {"vocab": source if separate else joint, "target_vocab_file": target}
    for name, table in files.items():
        (folder / f"{name}.json").write_text(json.dumps(table))
    options = {"separate_vocabs": separate}
    if separate:
        options["target_vocab_file"] = str(folder / "target_vocab_file.json")
    spm = [str(folder / f"{side}.model") for side in ("source", "target")]
    return MarianTokenizer(*spm, str(folder / "vocab.json"), **options), source, target


START = {"from_scratch": True, "config_preset": "transformer-base", "config_overrides": TINY}
PAIRS = [
    {"source": source, "target": target} for source, target in zip(SOURCES, TARGETS, strict=True)
]


@pytest.mark.filterwarnings("ignore:Recommended")
def test_two_vocabularies_have_a_table_each(tmp_path):
    """Ids of one side mean nothing on the other; training, saving and translating go through."""
    tokenizer, source, target = marian(tmp_path / "marian", separate=True)
    assert len(source) != len(target)
    result = finetune(
        "translation",
        **START,
        tokenizer=tokenizer,
        train=PAIRS,
        output_dir=tmp_path / "out",
        arguments=QUIET,
        say=None,
    )
    config = result.model.config
    assert not config.share_encoder_decoder_embeddings
    assert (config.vocab_size, config.decoder_vocab_size) == (len(source), len(target))
    assert len(result.model.get_input_embeddings().weight) == len(source)
    labels = [row["labels"] for row in result.trainer.train_dataset]
    assert max(map(max, labels)) < len(target)
    assert isinstance(translate("the cat", result.model, tokenizer, max_new_tokens=3), str)


@pytest.mark.filterwarnings("ignore:Recommended")
def test_one_vocabulary_for_two_sentencepiece_models_is_one_table(tmp_path):
    tokenizer, *_ = marian(tmp_path / "marian", separate=False)
    assert vocabularies(tokenizer) == {"vocab_size": len(tokenizer.get_vocab())}


@pytest.mark.filterwarnings("ignore:Recommended")
def test_special_tokens_with_other_ids_on_each_side_are_refused(tmp_path):
    tokenizer, *_ = marian(tmp_path / "marian", separate=True, order=SPECIAL[::-1])
    with pytest.raises(
        ValueError, match="one id for '<pad>' in both of its vocabularies, got 2 and 0"
    ):
        vocabularies(tokenizer)


def test_a_vocabulary_with_gaps_has_rows_for_its_highest_id(tmp_path):
    """Duplicate and blank lines of a vocabulary leave ids beyond the number of tokens."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "the", "", "sat"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    from transformers import BertTokenizer

    table = {word: number for number, word in enumerate(words)}
    tokenizer = BertTokenizer(vocab=table)
    assert len(table) < len(words)
    assert vocabulary_size(tokenizer) == len(words)
    rows = [{"text": "the cat sat", "label": "x"}, {"text": "cat", "label": "y"}]
    result = finetune(
        "sequence-classification",
        from_scratch=True,
        config_preset="bert-tiny",
        tokenizer=tokenizer,
        train=rows,
        output_dir=tmp_path / "out",
        arguments=QUIET,
        say=None,
    )
    assert result.model.config.vocab_size == len(words)
    with torch.no_grad():
        assert result.model(torch.tensor([[2, 9, 3]])).logits.shape == (1, 2)


def test_a_plain_vocabulary_is_as_long_as_its_tokenizer(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(bpe_folder(tmp_path / "bpe"))
    assert vocabulary_size(tokenizer) == len(tokenizer)
