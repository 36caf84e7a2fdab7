"""Parallel text: which side is the source, and several files as one."""

import itertools

import pytest

from bertlite.data import prepare
from bertlite.data.parallel import order_pair, side_names

FORTH = [{"source": "Open.", "target": "Öffnen."}, {"source": "Close.", "target": "Schließen."}]
BACK = [{"source": row["target"], "target": row["source"]} for row in FORTH]
ENGLISH, GERMAN = "Open.\nClose.\n", "Öffnen.\nSchließen.\n"
BOTH = {"source_language": "en", "target_language": "de"}


def pair(folder, english="train.en", german="train.de"):
    (folder / english).write_text(ENGLISH)
    (folder / german).write_text(GERMAN)
    return folder / english, folder / german


@pytest.mark.parametrize(
    "languages",
    [BOTH, {"source_language": "en"}, {"target_language": "de"}, {"source_language": "EN"}],
)
def test_languages_say_the_side_whatever_the_order(languages, tmp_path):
    english, german = pair(tmp_path)
    ways = [f"{tmp_path}/train.*", f"{english},{german}", f"{german},{english}"]
    ways += [f"{german} {english}", [german, english], (german, english), [english, german]]
    for given in ways:
        data = prepare("translation", given, **languages)
        assert list(data.train) == FORTH
        assert data.decisions[0] == (
            "source is train.en and target train.de, told by their languages"
        )


@pytest.mark.parametrize(
    ("english", "german"),
    [("a.src", "a.tgt"), ("src.txt", "tgt.txt"), ("z.source", "a.target"), ("a.src", "a.trg")],
)
def test_words_in_names_say_the_side(english, german, tmp_path):
    pair(tmp_path, english, german)
    for given in (f"{tmp_path}/*", [tmp_path / german, tmp_path / english]):
        assert list(prepare("translation", given).train) == FORTH


def test_the_order_of_a_pattern_says_nothing(tmp_path):
    """Nor does an alphabetical list, which a shell makes of a pattern."""
    english, german = pair(tmp_path)
    for given in (f"{tmp_path}/train.*", [german, english], [str(german), str(english)]):
        with pytest.raises(
            ValueError, match="train.de or train.en is the source; .*--source_language de"
        ):
            prepare("translation", given)
    for given in ((german, english), f"{german},{english}"):
        assert list(prepare("translation", given).train) == BACK
    assert list(prepare("translation", [english, german]).train) == FORTH


def test_languages_that_the_names_do_not_hold(tmp_path):
    pair(tmp_path)
    for languages in ({"source_language": "fr"}, {**BOTH, "target_language": "fr"}):
        with pytest.raises(ValueError, match="must be in the names of the files, got .*fr"):
            prepare("translation", f"{tmp_path}/train.*", **languages)
    pair(tmp_path, "a.de-en.x", "a.de-en.y")
    with pytest.raises(ValueError, match="must be in the names of the files"):
        prepare("translation", f"{tmp_path}/a.*", **BOTH)


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("europarl.de-en.en", "europarl.de-en.de"),
        ("news_en.txt", "news_de.txt"),
        ("en.txt", "de.txt"),
        ("train.en.txt", "train.de.txt"),
        ("en-corpus.raw", "de-corpus.raw"),
    ],
)
def test_names_as_corpora_have_them(english, german, tmp_path):
    pair(tmp_path, english, german)
    assert list(prepare("translation", f"{tmp_path}/*", **BOTH).train) == FORTH
    back = {"source_language": "de", "target_language": "en"}
    assert list(prepare("translation", f"{tmp_path}/*", **back).train) == BACK


def test_sides_do_not_depend_on_the_order_of_files(tmp_path):
    paths = [tmp_path / name for name in ("x.de-en.en.gz", "x.de-en.de.gz")]
    for given in itertools.permutations(paths):
        source, target, _ = order_pair(given, ("en", None), ordered=False)
        assert (source.name, target.name) == ("x.de-en.en.gz", "x.de-en.de.gz")
    assert side_names(paths[0]) == ["en", "de", "x"]


def test_the_sides_of_training_hold_for_the_others(tmp_path):
    english, german = pair(tmp_path)
    pair(tmp_path, "dev.en", "dev.de")
    data = prepare("translation", (english, german), f"{tmp_path}/dev.*")
    assert list(data.validation) == FORTH
    data = prepare("translation", f"{german},{english}", f"{tmp_path}/dev.en,{tmp_path}/dev.de")
    assert list(data.train) == list(data.validation) == BACK


def test_the_keys_of_training_hold_for_the_others():
    """Though a file may name the languages in another order."""
    train = [{"translation": {"en": "cat", "de": "Katze"}}]
    held = [{"translation": {"de": "Hund", "en": "dog"}}]
    data = prepare("translation", train, held)
    assert list(data.validation) == [{"source": "dog", "target": "Hund"}]
    assert data.columns == {"translation": "translation", "source": "en", "target": "de"}
    data = prepare("translation", test=held, remembered_columns=data.columns, require_labels=False)
    assert list(data.test) == [{"source": "dog"}]


def test_several_pairs_and_a_folder(tmp_path):
    first, second = pair(tmp_path, "a.en", "a.de"), pair(tmp_path, "b.en", "b.de")
    data = prepare("translation", [*first, *second], **BOTH)
    assert list(data.train) == FORTH * 2
    data = prepare("translation", f"{tmp_path}/?.*", **BOTH)
    assert list(data.train) == FORTH * 2
    with pytest.raises(ValueError, match="parallel text must be files in pairs"):
        prepare("translation", [*first, second[0]], **BOTH)
    folder = tmp_path / "corpus"
    folder.mkdir()
    pair(folder)
    pair(folder, "valid.en", "valid.de")
    data = prepare("translation", dataset=folder, **BOTH)
    assert list(data.train) == list(data.validation) == FORTH


def test_columns_named_by_languages():
    made = [{"EN": "Open.", "De": "Öffnen."}]
    assert list(prepare("translation", made, **BOTH).train) == FORTH[:1]
    with pytest.raises(ValueError, match="source_language must be a column of the data, got 'fr'"):
        prepare("translation", made, source_language="fr", target_language="de")
    with pytest.raises(ValueError, match="must differ, got 'en'"):
        prepare("translation", made, source_language="en", target_language="en")


@pytest.mark.parametrize("task", ["sequence-classification", "translation"])
def test_several_files_are_read_one_after_another(task, tmp_path):
    names = {"sequence-classification": "text,label", "translation": "source,target"}[task]
    for name, rows in (("a.csv", "a,x\nb,y\n"), ("b.csv", "c,x\n")):
        (tmp_path / name).write_text(f"{names}\n{rows}")
    data = prepare(task, [tmp_path / "a.csv", tmp_path / "b.csv"])
    first = names.split(",")[0]
    assert data.train["source" if first == "source" else "text"][:] == ["a", "b", "c"]
    assert data.decisions[0] == "train is read from a.csv, b.csv"
