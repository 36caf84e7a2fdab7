"""The command `bertlite explain`, its object's checks, and faithfulness by hand."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from inspection_cases import tiny_bert, tiny_tokenizer, tiny_translator

import bertlite
from bertlite import inspection
from bertlite.cli.explain import METHODS as NAMED
from bertlite.cli.main import main
from bertlite.inspection import METHODS, attribute, explain, faithfulness, randomised
from bertlite.inspection.attribution import explain_subject
from bertlite.inspection.subjects import Subject
from bertlite.inspection.targets import Target
from bertlite.inspection.tokens import read_text

TOKENIZER = tiny_tokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    tiny_bert().save_pretrained(place)
    TOKENIZER.save_pretrained(place)
    return str(place)


def test_the_command_knows_every_method():
    assert set(NAMED) == set(METHODS)


def test_it_prints(folder, capsys):
    assert main(["explain", folder, "--text", "abc film", "--methods", "occlusion"]) == 0
    printed = capsys.readouterr().out
    label = bertlite.classify("abc film", folder)["label"]
    assert f"{label}: probability" in printed
    assert "comprehensiveness" in printed
    words = attribute("abc film", folder, method="occlusion").words()
    for word in words:
        assert f"{word.score:+8.3f}" in printed


def test_it_writes_a_page(folder, tmp_path, capsys):
    page = tmp_path / "new folder" / "page.html"
    words = ["--text", "abc", "good film", "--target", "LABEL_1", "--no_faithfulness"]
    assert main(["explain", folder, *words, "--max-length=9", "-o", str(page)]) == 0
    assert capsys.readouterr().out == f"{page}: open it in a browser\n"
    assert page.read_text(encoding="utf-8").count("LABEL_1") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--text", "a", "--target", "happy"], "target must be one of LABEL_0"),
        (["--text", " "], "texts[0] must hold some text"),
        (["--text", "a", "--method", "x"], "unrecognized arguments: --method x; is --methods"),
        (["--text", "a", "-o", "page.png"], "--output must be a file that ends in .html"),
        (["--text", "a", "-o", "no/such/dir/../"], "--output must be a file"),
        (["--text", "a", "-o", "file/a.html"], "--output must be in a folder that can be written"),
        (["--text", "a", "--max-length", "2"], "max_length must leave room beside the special"),
        (["--text", "a", "--written", "b"], "written must be None"),
        ([], "the following arguments are required: --text"),
    ],
)
def test_bad_input_is_one_line(words, message, folder, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no/such/dir").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    assert main(["explain", folder, *words]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("bertlite explain: error: ")
    assert message in line


def test_everything_that_can_be_explained_is():
    tags = explain(
        "abc film",
        tiny_bert("TokenClassification"),
        TOKENIZER,
        measure=False,
        methods=("gradient_x_input",),
    )
    assert [target.name.split(":")[0] for target in tags.texts[0].targets] == ["abc", "film"]
    question = explain(
        "a b",
        tiny_bert("QuestionAnswering"),
        TOKENIZER,
        text_pair="c good",
        methods=("gradient_x_input",),
        measure=False,
    )
    assert question.texts[0].roles == ("Question", "Context")
    assert [t.name.split(" at")[0] for t in question.texts[0].targets] == [
        "answer starts",
        "answer ends",
    ]
    alike = explain("a b", tiny_bert(""), TOKENIZER, text_pair="c", methods=("occlusion",))
    assert set(alike.texts[0].maps) == {"first text", "second text"}
    assert "cosine" in str(alike)
    written = explain(
        "a b",
        tiny_translator(),
        TOKENIZER,
        written="d",
        measure=False,
        methods=("gradient_x_input",),
    )
    assert [target.name for target in written.texts[0].targets] == ["[CLS]", "d", "[SEP]"]
    with pytest.raises(ValueError, match="methods must be a list of names, got 'occlusion'"):
        explain("a", tiny_bert(), TOKENIZER, methods="occlusion")
    with pytest.raises(ValueError, match="texts must hold at least one text"):
        explain([], tiny_bert(), TOKENIZER)


@dataclass(frozen=True)
class CountingSubject(Subject):
    """Each word that is not masked adds its weight: film 4, good 2, bad 1, a 0."""

    def __call__(self, vectors):
        weights = torch.tensor(
            [
                {"film": 4.0, "good": 2.0, "bad": 1.0}.get(piece, 0.0)
                for piece in TOKENIZER.convert_ids_to_tokens(range(len(TOKENIZER)))
            ]
        )
        return weights[vectors[..., 0].long()].sum(-1)

    def embed(self, ids):
        return ids[..., None].float()


def test_faithfulness_by_hand():
    """Of four words the best 1, 5, 10 and 20 % are one word, the best 50 % are two."""
    model = tiny_bert()
    tokens = read_text(TOKENIZER, model, "a bad good film")
    subject = CountingSubject(model, TOKENIZER, tokens, Target("sum", "score", lambda each: each))
    found = faithfulness(explain_subject(subject, "occlusion"), rankings=200)
    assert found.comprehensiveness == pytest.approx((4 * 4 + 6) / 5)
    assert found.sufficiency == pytest.approx((4 * 3 + 1) / 5)
    # A random word is worth 7/4, and two of them 7/2.
    assert found.random_comprehensiveness == pytest.approx((4 * 7 / 4 + 7 / 2) / 5, abs=0.2)
    assert found.random_sufficiency == pytest.approx((4 * 21 / 4 + 7 / 2) / 5, abs=0.2)
    assert found.beats_chance
    with pytest.raises(ValueError, match="rankings must be a whole number of at least 1, got 0"):
        faithfulness(explain_subject(subject, "occlusion"), rankings=0)
    with pytest.raises(ValueError, match="found must be an attribution as `attribute` makes it"):
        faithfulness(
            type(explain_subject(subject, "occlusion"))(tokens, (0.0,) * 6, "x", "y", "z", 1)
        )


def test_shuffled_weights_give_other_attributions():
    """And leave the model's own as they were; the numbers themselves are the same ones."""
    model = tiny_bert()
    before = attribute("a b c d e f g h good bad film", model, TOKENIZER, target=1)
    other = randomised(model)
    for name, weight in model.state_dict().items():
        assert torch.equal(
            weight.flatten().sort().values, other.state_dict()[name].flatten().sort().values
        ), name
    found = attribute("a b c d e f g h good bad film", other, TOKENIZER, target=1)
    again = attribute("a b c d e f g h good bad film", model, TOKENIZER, target=1)
    assert again.scores == pytest.approx(before.scores, abs=1e-5)
    pair = torch.tensor([before.scores[1:-1], found.scores[1:-1]])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.7


def test_no_public_name_is_hidden_by_a_module():
    """Importing a file sets its name in the package, over a function of the same name."""
    files = {path.stem for path in Path(inspection.__file__).parent.glob("*.py")}
    assert not files & set(inspection.__all__)


@pytest.mark.parametrize(
    ("head", "text", "target"),
    [
        ("PreTraining", "a [MASK]", "good"),
        ("MaskedLM", "a [MASK]", "good"),
        ("TokenClassification", "a film", "LABEL_1"),
    ],
)
def test_a_folder_is_loaded_with_the_head_that_it_has(head, text, target, tmp_path):
    """One of pretraining as a masked LM: its weights for words are the same."""
    model = tiny_bert(head)
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    found = attribute(text, str(tmp_path), target=target, method="gradient_x_input")
    with torch.no_grad():
        outputs = model(**TOKENIZER(text, return_tensors="pt"))
    if head == "TokenClassification":
        chance = outputs.logits[0, 1].softmax(-1)[1]
    else:
        logits = outputs.prediction_logits if head == "PreTraining" else outputs.logits
        chance = logits[0, 2].softmax(-1)[TOKENIZER.vocab["good"]]
    assert found.value == pytest.approx(float(chance.logit()), abs=1e-3)
