"""Trained tokenizers load through AutoTokenizer, and do what BERT's and Marian's do."""

import gzip
import json
import unicodedata

import pytest
from transformers import AutoTokenizer, BertTokenizer, BertTokenizerLegacy, PreTrainedTokenizerFast

from bertlite.cli.spelling import with_dashes
from bertlite.cli.tokenizer import main
from bertlite.tokenization import (
    measure,
    read_texts,
    train_joint_bpe,
    train_wordpiece,
    vocabulary_size,
)

TEXTS = [
    "the low tide lowers the lower lot, slowly",
    "Straßen und Brücken: der Weg zum Café, weit!",
    "中文字 中文",
] * 5
ODD = [
    "Hello, world! (It's fine.)",
    "  two  spaces,\ttabs \n and lines ",
    "Grüße – “quoted” 中文 😀 e\u0301",
    "unseen: ∮ ʂ 𝔘",
    " ",
    "don't  'll a.b,c;d",
]


def reloaded(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    return reloaded(
        train_joint_bpe(TEXTS, vocab_size=330, model_max_length=40), tmp_path_factory.mktemp("bpe")
    )


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def wordpiece(request, tmp_path_factory):
    trained = train_wordpiece(
        TEXTS, vocab_size=220, lowercase=request.param, limit_alphabet=60, model_max_length=64
    )
    return reloaded(trained, tmp_path_factory.mktemp("wordpiece"))


def test_wordpiece_has_the_numbers_of_bert(wordpiece):
    """Those of bert-base-uncased's vocab.txt."""
    assert isinstance(wordpiece, BertTokenizer)
    assert wordpiece.is_fast
    special = {
        "[PAD]": 0,
        "[unused0]": 1,
        "[unused98]": 99,
        "[UNK]": 100,
        "[CLS]": 101,
        "[SEP]": 102,
        "[MASK]": 103,
    }
    assert {token: wordpiece.convert_tokens_to_ids(token) for token in special} == special
    assert wordpiece.model_max_length == 64
    assert len(wordpiece("the " * 100, truncation=True)["input_ids"]) == 64
    pair = wordpiece("the", "low")
    low, the = wordpiece.convert_tokens_to_ids(["low", "the"])
    assert pair["input_ids"] == [101, the, 102, low, 102]
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("text", [*TEXTS[:3], *ODD])
def test_wordpiece_splits_as_googles_code_does(wordpiece, text, tmp_path):
    """The slow tokenizer of transformers, which is Google's own code, with our vocabulary.

    It composes characters first (NFC), which neither Google's code nor BertTokenizer does.
    """
    text = unicodedata.normalize("NFC", text)
    vocabulary = sorted(wordpiece.get_vocab(), key=wordpiece.get_vocab().get)
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    google = BertTokenizerLegacy(str(tmp_path / "vocab.txt"), do_lower_case=wordpiece.do_lower_case)
    assert wordpiece.tokenize(text) == google.tokenize(text)


def test_case_accents_and_chinese(wordpiece):
    tokens = wordpiece.tokenize("Café 中文")
    assert tokens[-2:] == ["中", "文"]
    assert "".join(tokens[:-2]).replace("##", "") == ("cafe" if wordpiece.do_lower_case else "Café")


@pytest.mark.parametrize("text", [*TEXTS[:3], *ODD])
def test_bpe_decodes_to_the_very_text(bpe, text):
    ids = bpe(text)["input_ids"]
    assert bpe.decode(ids, skip_special_tokens=True) == text
    assert bpe.unk_token_id not in ids
    assert ids[-1] == bpe.eos_token_id
    assert ids.count(bpe.eos_token_id) == 1


def test_bpe_as_a_translation_model_needs_it(bpe):
    assert isinstance(bpe, PreTrainedTokenizerFast)
    assert (bpe.pad_token, bpe.eos_token, bpe.unk_token) == ("<pad>", "</s>", "<unk>")
    assert (bpe.pad_token_id, bpe.eos_token_id, bpe.unk_token_id) == (0, 1, 2)
    batch = bpe(["low", "the low tide"], text_target=["low", "tide"], padding=True)
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert batch["input_ids"][0][-1] == 0
    assert batch["attention_mask"][0][-1] == 0
    assert batch["labels"][0] == bpe("low")["input_ids"]
    long = bpe("the " * 100, truncation=True)["input_ids"]
    assert (len(long), long[-1]) == (40, 1)


def test_a_word_is_the_same_token_wherever_it_stands(bpe):
    first, later = bpe("low")["input_ids"][:-1], bpe("the low")["input_ids"][:-1]
    assert later[-len(first) :] == first


def test_first_merges_by_hand():
    """With the space before them, " ab" stands 3 times and " ac" twice.

    " a" comes first (5), " ab" (3), " ac" (2).
    """
    tokenizer = train_joint_bpe(["ab ab ab ac ac"], vocab_size=3 + 256 + 3)
    assert [tokenizer.convert_ids_to_tokens(number) for number in (259, 260, 261)] == [
        "Ġa",
        "Ġab",
        "Ġac",
    ]
    assert len(tokenizer) == 262


def test_measures_by_hand():
    """Held out: "ab ac d" is Ġab, Ġac, Ġ, d: 4 tokens for 3 words, of which 2 are one token."""
    tokenizer = train_joint_bpe(["ab ab ab ac ac"], vocab_size=3 + 256 + 3)
    report = measure(tokenizer, ["ab ac d", ""])
    assert (report.texts, report.words, report.tokens, report.whole_words, report.unknown) == (
        1,
        3,
        4,
        2,
        0,
    )
    assert report.tokens_per_word == pytest.approx(4 / 3)
    assert report.coverage == pytest.approx(2 / 3)
    assert report.lossless_texts == 1
    assert "tokens per word   1.333" in str(report)
    unknown = measure(train_wordpiece(["ab ab ab"], vocab_size=110), ["ab x"])
    assert (unknown.tokens, unknown.unknown, unknown.whole_words, unknown.unknown_rate) == (
        2,
        1,
        1,
        0.5,
    )


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("strip", [True, False, None])
def test_accents_apart_from_case(lower, strip, tmp_path):
    """None is BERT's: accents go where case goes."""
    trained = train_wordpiece(
        ["Schön schön"] * 5, vocab_size=150, lowercase=lower, strip_accents=strip
    )
    word = "schön" if lower else "Schön"
    strips = lower if strip is None else strip
    expected = [word.replace("ö", "o") if strips else word]
    assert reloaded(trained, tmp_path).tokenize("Schön") == expected


@pytest.mark.parametrize(
    ("lines", "size"),
    [
        (["film", "rice"], 7),
        (["film", "film", "rice"], 8),
        (["", "film", "", "rice"], 9),
        (["film", "rice", "", ""], 7),
        (["film", "\u2028", "rice"], 8),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_rows_that_a_table_needs(lines, size, end, tmp_path):
    """For a `vocab.txt` as transformers reads it, whose ids may lie beyond `len(tokenizer)`."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (tmp_path / "vocab.txt").write_bytes(
        "".join(f"{line}{end}" for line in special + lines).encode()
    )
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert vocabulary_size(tokenizer) == size
    assert max(tokenizer("film rice")["input_ids"]) < size
    tokenizer.add_tokens(["<new>"])
    assert vocabulary_size(tokenizer) == tokenizer.convert_tokens_to_ids("<new>") + 1


def test_training_twice_gives_the_same():
    for train in (train_joint_bpe, train_wordpiece):
        assert train(TEXTS, vocab_size=320).get_vocab() == train(TEXTS, vocab_size=320).get_vocab()


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for number in range(60):
            file.write(
                json.dumps(
                    {"translation": {"en": f"the cat {number}", "de": f"die Katze {number}"}}
                )
                + "\n"
            )
    return path


def test_texts_of_files(rows, tmp_path):
    fields = ["translation.en", "translation.de"]
    assert list(read_texts([rows], fields))[:3] == ["the cat 0", "die Katze 0", "the cat 1"]
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    assert list(read_texts([tmp_path / "a.txt"])) == ["one", "two"]
    with pytest.raises(
        ValueError,
        match="rows.jsonl.gz line 1: --field must be one of translation.*got 'translation.fr'",
    ):
        list(read_texts([rows], ["translation.fr"]))
    with pytest.raises(ValueError, match="line 1: must be a text, got dict"):
        list(read_texts([rows], ["translation"]))
    with pytest.raises(ValueError, match="--field must name"):
        list(read_texts([rows]))
    with pytest.raises(ValueError, match="--field is for rows"):
        list(read_texts([tmp_path / "a.txt"], ["text"]))
    (tmp_path / "a.txt").write_bytes(b"one\ncaf\xe9\n")
    with pytest.raises(ValueError, match="a.txt line 2: must be UTF-8"):
        list(read_texts([tmp_path / "a.txt"]))


def test_command(rows, tmp_path, capsys):
    """Every tenth of 120 texts is held out: 12, of three words each."""
    options = ["--vocab-size", "300", "--held-out", "10", "--output-dir", str(tmp_path / "out")]
    assert (
        main(
            [
                "train",
                "bpe",
                str(rows),
                "--field",
                "translation.en",
                "--field",
                "translation.de",
                *options,
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "measured on       12 held-out texts, 36 words" in printed
    assert "round trip        100.00%" in printed
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) <= 300
    with pytest.raises(ValueError, match="--output-dir must be new or empty"):
        main(["train", "bpe", str(rows), *options])


def test_command_measures_other_files(rows, tmp_path, capsys):
    (tmp_path / "held.txt").write_text("the cat\n")
    (tmp_path / "train.txt").write_text("The cat\n" * 9)
    arguments = [
        "train",
        "wordpiece",
        str(tmp_path / "train.txt"),
        "--cased",
        "--vocab_size",
        "150",
    ]
    assert (
        main(
            [
                *arguments,
                "--held-out-files",
                str(tmp_path / "held.txt"),
                "--output_dir",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    assert "measured on       1 held-out texts, 2 words" in capsys.readouterr().out
    assert AutoTokenizer.from_pretrained(tmp_path / "out").tokenize("The cat") == ["The", "cat"]


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "bertlite tokenizer train bpe train.en train.de" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 104}, "vocab_size must be above 104"),
        ({"vocab_size": 120, "min_frequency": 0}, "min_frequency must be at least 1, got 0"),
        ({"vocab_size": 120, "model_max_length": 1}, "model_max_length must be at least 2, got 1"),
        ({"vocab_size": 120, "limit_alphabet": 0}, "limit_alphabet must be at least 1, got 0"),
    ],
)
def test_bad_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        train_wordpiece(TEXTS, **options)


def test_no_texts():
    for texts, message in (
        ([], "got none"),
        (["", " "], "got none"),
        ("a text", "got a single one"),
    ):
        with pytest.raises(ValueError, match=f"texts must .*{message}"):
            train_joint_bpe(texts, vocab_size=300)
    with pytest.raises(ValueError, match="vocab_size must be above 259"):
        train_joint_bpe(TEXTS, vocab_size=200)


def test_command_keeps_accents_and_takes_both_spellings(tmp_path):
    (tmp_path / "train.txt").write_text("Schön ist es\n" * 9)
    command = ["train", "wordpiece", str(tmp_path / "train.txt"), "--vocab_size=150"]
    assert main([*command, "--keep_accents", f"--output_dir={tmp_path / 'a_b'}"]) == 0
    assert AutoTokenizer.from_pretrained(tmp_path / "a_b").tokenize("Schön") == ["schön"]
    for more in (["--cased"], ["--strip-accents"], ["--limit-alphabet", "9"]):
        command = ["train", "bpe", str(tmp_path / "train.txt"), "--output-dir", "x", *more]
        with pytest.raises(ValueError, match=f"{more[0]}.*must be given with wordpiece only"):
            main(command)


def test_options_in_dashes():
    words = ["a_b.txt", "--output_dir=x_y", "--max_steps", "--", "--as_it_is"]
    assert with_dashes(words) == [
        "a_b.txt",
        "--output-dir=x_y",
        "--max-steps",
        "--",
        "--as_it_is",
    ]


def test_command_refuses_before_reading(tmp_path):
    with pytest.raises(ValueError, match="files must exist, got nowhere.txt"):
        main(["train", "bpe", "nowhere.txt", "--output-dir", str(tmp_path / "out")])
    with pytest.raises(ValueError, match="--held-out must be at least 2, got 1"):
        main(
            [
                "train",
                "bpe",
                "nowhere.txt",
                "--held-out",
                "1",
                "--output-dir",
                str(tmp_path / "out"),
            ]
        )
