"""`bertlite serve`: every reply is what bertlite's own function returns, whatever goes with it."""

import random
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import openai
import pytest
from inference_cases import TEXTS, same
from seq2seq_folders import make_folder
from serving_cases import Client, Running, save_models
from transformers import AutoTokenizer, pipeline

import bertlite
from bertlite.cli.serve import make_parser

QUESTION = "who went to Paris?"
LONG = "the cat sat on a mat in paris and anna drank tea with bob " * 12


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(folders):
    running = Running(folders)
    yield running
    running.stop()


def close(found, expected):
    np.testing.assert_allclose(np.array(found), expected, atol=1e-5)


def test_embed(server, folders):
    found = server.good("/embed", texts=TEXTS, model="vectors")
    expected = bertlite.encode(TEXTS, folders["vectors"])
    close(found["vectors"], expected)
    assert found["model"] == "vectors"
    alone = server.good("/embed", texts=TEXTS[1])  # a model without a head comes first
    close(alone["vectors"], expected[1:2])
    other = {"pooling": "cls", "normalize": False, "prompt": "the ", "max_length": 7}
    found = server.good("/embed", texts=TEXTS, model="vectors", **other)
    close(found["vectors"], bertlite.encode(TEXTS, folders["vectors"], **other))
    with_head = server.good("/embed", texts=TEXTS, model="tags")
    close(with_head["vectors"], bertlite.encode(TEXTS, folders["tags"]))


@pytest.mark.parametrize(
    "fields",
    [{}, {"top_k": 2}, {"max_length": 12, "doc_stride": 3}, {"text_pair": TEXTS[::-1]}],
    ids=str,
)
def test_classify(server, folders, fields):
    found = server.good("/classify", texts=[*TEXTS], **fields)["results"]
    same(found, bertlite.classify(TEXTS, folders["classes"], **fields), 1e-5)


@pytest.mark.parametrize("fields", [{}, {"aggregate": False}, {"ignore_labels": ["PER"]}], ids=str)
def test_tag(server, folders, fields):
    texts = [*TEXTS, LONG]
    found = server.good("/tag", texts=texts, **fields)["results"]
    same(found, bertlite.tag(texts, folders["tags"], **fields), 1e-5)
    words = [text.split() for text in texts]
    found = server.good("/tag", texts=words, is_split_into_words=True, **fields)["results"]
    expected = bertlite.tag(words, folders["tags"], is_split_into_words=True, **fields)
    same(found, expected, 1e-5)


@pytest.mark.parametrize(
    "fields", [{}, {"top_k": 3}, {"handle_impossible_answer": True, "max_length": 24}], ids=str
)
def test_answer(server, folders, fields):
    contexts = [TEXTS[0], TEXTS[2], LONG]
    found = server.good("/answer", question=QUESTION, context=contexts, **fields)["results"]
    same(found, bertlite.answer(QUESTION, contexts, folders["answers"], **fields), 1e-5)


@pytest.mark.parametrize("name", ["translate", "summarize"])
def test_writing(server, folders, name):
    function = getattr(bertlite, name)
    fields = {"max_new_tokens": 8, "return_scores": True}
    found = server.good(f"/{name}", texts=TEXTS, **fields)["results"]
    same(found, function(TEXTS, folders["writer"], **fields), 1e-4)
    plain = server.good(f"/{name}", texts=TEXTS[1], max_new_tokens=4, num_beams=2)["results"]
    assert plain == [function(TEXTS[1], folders["writer"], max_new_tokens=4, num_beams=2)]


def test_a_text_that_was_cut_is_named(server):
    found = server.good("/translate", texts=[LONG], max_source_length=20, max_new_tokens=3)
    assert "texts[0] has" in found["warnings"][0]


@pytest.mark.filterwarnings("ignore")
def test_fill_mask(server, folders):
    """As the library's pipeline; a tie between words may fall either way."""
    texts = ["the [MASK] sat on a mat", "[MASK] went to [MASK].", "[MASK]"]
    found = server.good("/fill-mask", texts=texts, top_k=3)["results"]
    model = bertlite.BertLiteForMaskedLM.from_pretrained(folders["words"])
    ask = pipeline(
        "fill-mask", model=model, tokenizer=AutoTokenizer.from_pretrained(folders["words"])
    )
    same(found, ask(texts, top_k=3), 1e-5)


def requests_of(seed):
    """Requests of every kind with texts of many lengths."""
    draw = random.Random(seed)
    words = LONG.split()
    text = lambda: " ".join(draw.choices(words, k=draw.choice([1, 3, 8, 20, 60])))  # noqa: E731
    texts = [text() for _ in range(draw.choice([1, 1, 2, 5]))]
    return draw.choice(
        [
            ("/embed", {"texts": texts, "model": "vectors"}),
            ("/embed", {"texts": texts, "model": "vectors", "pooling": "max"}),
            ("/classify", {"texts": texts}),
            ("/classify", {"texts": texts, "text_pair": [QUESTION] * len(texts)}),
            ("/tag", {"texts": texts, "aggregate": False, "ignore_labels": []}),
            ("/answer", {"question": QUESTION, "context": texts}),
        ]
    )


FUNCTIONS = {
    "/classify": (bertlite.classify, "classes"),
    "/tag": (bertlite.tag, "tags"),
    "/answer": (bertlite.answer, "answers"),
}


def expected_of(path, fields, folders):
    given = {name: value for name, value in fields.items() if name not in ("texts", "model")}
    if path == "/embed":
        return bertlite.encode(fields["texts"], folders["vectors"], **given)
    function, model = FUNCTIONS[path]
    if path == "/answer":
        return function(QUESTION, fields["context"], folders[model])
    return function(fields["texts"], folders[model], **given)


def test_replies_are_not_mixed_up(server, folders):
    """Many clients at once, each with requests of its own."""

    def ask(client_number):
        with closing(Client(server.port)) as client:
            found = []
            for number in range(6):
                path, fields = requests_of(100 * client_number + number)
                found.append((path, fields, *client.ask(path, fields)))
            return found

    with ThreadPoolExecutor(16) as pool:
        replies = [each for found in pool.map(ask, range(16)) for each in found]
    assert len(replies) == 96
    for path, fields, status, reply in sorted(replies, key=lambda each: each[0]):
        assert status == 200, reply
        expected = expected_of(path, fields, folders)
        if path == "/embed":
            close(reply["vectors"], expected)
        else:
            same(reply["results"], expected, 1e-5)
    page = server.ask("/metrics")[1]
    passes = float(page.split("bertlite_pass_rows_count ")[1].split()[0])
    rows = float(page.split("bertlite_pass_rows_sum ")[1].split()[0])
    assert rows > passes  # some went together


def test_the_official_client_of_openai(server, folders):
    with openai.OpenAI(
        base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0
    ) as client:
        expected = bertlite.encode(TEXTS, folders["vectors"])
        for encoding in ({}, {"encoding_format": "float"}):
            found = client.embeddings.create(input=TEXTS, model="vectors", **encoding)
            close([each.embedding for each in found.data], expected)
        assert [each.index for each in found.data] == list(range(len(TEXTS)))
        assert found.usage.prompt_tokens == server.good("/embed", texts=TEXTS)["tokens"]
        assert {each.id for each in client.models.list()} == set(folders)
        with pytest.raises(openai.NotFoundError, match="model must be one of .*, got 'gpt'"):
            client.embeddings.create(input="a", model="gpt")
        with pytest.raises(openai.BadRequestError, match="dimensions must be 32.*got 7"):
            client.embeddings.create(input="a", model="vectors", dimensions=7)
        with pytest.raises(openai.BadRequestError, match=r"input\[0\] must be a string, got int"):
            client.embeddings.create(input=[1, 2], model="vectors")


def test_the_page_of_the_documentation(server, capsys):
    """Its Python blocks run, one after the other, and its options are those of the command."""
    page = (Path(__file__).parents[1] / "docs" / "serving.md").read_text(encoding="utf-8")
    names = {"address": f"http://127.0.0.1:{server.port}"}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "serving.md", "exec"), names)
    names["client"].close()
    assert capsys.readouterr().out == "2\n2\n"
    known = {each for action in make_parser()._actions for each in action.option_strings}
    assert set(re.findall(r"`(--[a-z-]+)", page)) <= known | {"--output-dir", "--shard-rows"}


def test_no_texts(server):
    for path, name in (("/embed", "vectors"), ("/classify", "results"), ("/tag", "results")):
        assert server.good(path, texts=[])[name] == []
    assert server.good("/v1/embeddings", input=[])["data"] == []


def test_sets_of_labels(server, folders):
    """As of `classify` with the thresholds that fine-tuning keeps in the config."""
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(folders["classes"])
    table = {"0.80": 0.34, "0.90": 0.2}
    for config in (model.config, server.engine.catalog.models["classes"].model.config):
        config.conformal_thresholds = table
    tokenizer = AutoTokenizer.from_pretrained(folders["classes"])
    for coverage in (0.8, 0.9):
        found = server.good("/classify", texts=TEXTS, coverage=coverage)["results"]
        same(found, bertlite.classify(TEXTS, model.eval(), tokenizer, coverage=coverage), 1e-5)
    refused = server.refusal("/classify", {"texts": "a", "coverage": 0.9, "top_k": 1})
    assert refused == (400, "top_k and coverage exclude each other, got 1 and 0.9", "top_k")
    refused = server.refusal("/classify", {"texts": "a", "coverage": 0.95})
    assert refused[::2] == (400, "coverage")


@pytest.mark.processor
def test_languages(tmp_path):
    """Whoever asks a model of many languages says which one is written."""
    _, _, (first, second, _) = make_folder("nllb", tmp_path)
    running = Running({"many": str(tmp_path)})
    try:
        given = {"source_language": first, "num_beams": 2, "max_new_tokens": 5}
        for target in (first, second):
            asked = {**given, "target_language": target}
            found = running.good("/translate", texts=TEXTS, **asked)["results"]
            assert found == bertlite.translate(TEXTS, str(tmp_path), **asked)
        (model,) = running.ask("/v1/models")[1]["data"]
        assert {first, second} <= set(model["languages"])
        status, message, field = running.refusal("/translate", {"texts": "a"})
        assert (status, field) == (400, "target_language")
        assert "target_language must be given" in message
        asked = {"texts": "a", "target_language": "Klingon"}
        assert running.refusal("/summarize", asked)[::2] == (400, "target_language")
    finally:
        running.stop()
