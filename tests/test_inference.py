"""`bertlite.inference`: what its functions share, answers to questions, and what they refuse."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from inference_cases import LABELS, LETTERS, TEXTS, bert, byte_pairs, same, tiny_writer, wordpiece
from torch import nn
from transformers import BertForQuestionAnswering, BertForSequenceClassification

import bertlite
from bertlite.inference import answer, batching, classify, summarize, tag, translate


@pytest.fixture(scope="module")
def tokenizer():
    return wordpiece()


@pytest.fixture(scope="module")
def bpe():
    return byte_pairs()


@pytest.fixture(scope="module")
def writer(bpe):
    return tiny_writer(bpe)


class PlannedForQuestionAnswering(nn.Module):
    """Logits by token.

    `start` and `end` map tokens to numbers, 0 for the rest; `bonus` adds where a row holds one.
    """

    def __init__(self, tokenizer, start, end, positions=1000, bonus=None):
        super().__init__()
        self.config = SimpleNamespace(max_position_embeddings=positions)
        self.tables = torch.zeros(2, len(tokenizer))
        for table, plan in zip(self.tables, (start, end), strict=True):
            for token, logit in plan.items():
                table[tokenizer.convert_tokens_to_ids(token)] = logit
        self.bonus = [
            (tokenizer.convert_tokens_to_ids(token), logit)
            for token, logit in (bonus or {}).items()
        ]

    def forward(self, input_ids, **kwargs):
        start, end = self.tables[:, input_ids]  # (B, T) each
        for token, logit in self.bonus:
            start = start + logit * (input_ids == token).any(-1, keepdim=True)
        return {"start_logits": start, "end_logits": end}


# ---- what all five share


@pytest.fixture(scope="module", params=["answer", "classify", "tag", "translate", "summarize"])
def job(request, tokenizer, bpe, writer):
    """A function of texts and its options, and the model that it uses."""
    name = request.param
    if name == "answer":
        model = bert("QuestionAnswering", tokenizer, positions=40)
        return lambda texts, **kw: answer(
            "who went", texts, model, tokenizer, doc_stride=4, **kw
        ), model
    if name == "classify":
        model = bert("SequenceClassification", tokenizer, positions=24, labels=list("pqr"))
        return lambda texts, **kw: classify(texts, model, tokenizer, doc_stride=4, **kw), model
    if name == "tag":
        model = bert("TokenClassification", tokenizer, positions=24, labels=LABELS)
        return lambda texts, **kw: tag(texts, model, tokenizer, doc_stride=4, **kw), model
    function = {"translate": translate, "summarize": summarize}[name]
    limit = {} if name == "translate" else {"max_new_tokens": 12}
    return lambda texts, **kw: function(
        texts, writer, bpe, return_scores=True, **limit, **kw
    ), writer


@pytest.mark.parametrize("batch_size", [1, 3])
def test_order_is_restored_and_batches_change_nothing(job, batch_size):
    run, _ = job
    alone = [run(text) for text in TEXTS]
    assert any(result != alone[0] for result in alone)
    same(run(TEXTS, batch_size=batch_size), alone)
    same(run(tuple(reversed(TEXTS)), batch_size=batch_size), alone[::-1])
    assert run([]) == []


def test_the_model_comes_back_as_it_was(job):
    run, model = job
    first = next(model.children())
    model.train()
    first.eval()
    modes = [module.training for module in model.modules()]
    same(run(TEXTS[0]), run(TEXTS[0]), 0)  # no dropout
    assert [module.training for module in model.modules()] == modes
    assert not any(parameter.grad is not None for parameter in model.parameters())
    model.eval()


def test_progress_bar_counts_every_row_and_can_be_turned_off(job, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, total, disable, delay, desc):
            self.seen = {"total": total, "disable": disable, "delay": delay, "count": 0}
            bars.append(self.seen)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def update(self, count):
            self.seen["count"] += count

    monkeypatch.setattr(batching, "tqdm", Bar)
    job[0](TEXTS, batch_size=2)
    job[0](TEXTS, batch_size=2, show_progress=False)
    assert [bar["disable"] for bar in bars] == [False, True]
    assert all(bar["count"] == bar["total"] >= len(TEXTS) and bar["delay"] > 0 for bar in bars)


def test_the_tokenizers_sides_change_nothing(tokenizer):
    model = bert("TokenClassification", tokenizer, positions=16, labels=LABELS)
    other = copy.deepcopy(tokenizer)
    other.padding_side = other.truncation_side = "left"
    same(tag(TEXTS, model, other, aggregate=False), tag(TEXTS, model, tokenizer, aggregate=False))
    assert (other.padding_side, other.truncation_side) == ("left", "left")


@pytest.mark.parametrize(
    "bad", ["", "  ", 3, b"tea", ["tea", ""], ["tea", None], {"a": "tea"}, ["tea", "\ud800"]]
)
def test_bad_texts_are_refused_by_name(job, bad, monkeypatch):
    run, model = job
    monkeypatch.setattr(
        model, "forward", lambda *args, **kwargs: pytest.fail("worked before checking")
    )
    with pytest.raises(ValueError, match=r"(texts|context)(\[1\])? must"):
        run(bad)
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        run("tea", batch_size=0)


# ---- answer


def brute_force(start, end, longest):
    """Every passage (i, j) with its softmax score, best first.

    Plain Python over lists of logits.
    """
    spans = {
        (i, j): start[i] + end[j]
        for i in range(len(start))
        for j in range(i, len(start))
        if j - i < longest
    }
    total = math.log(sum(math.exp(logit) for logit in spans.values()))
    return sorted(((math.exp(logit - total), span) for span, logit in spans.items()), reverse=True)


def test_answer_is_the_best_span_of_the_context_only(tokenizer):
    # The question, special tokens and padding have far better logits; the best end (tea) stands
    # before the best start.
    start = {"who": 50, "[CLS]": 60, "[SEP]": 60, "[PAD]": 60, "mat": 4, "cat": 3, "bob": 1}
    end = {"who": 50, "[CLS]": 60, "[SEP]": 60, "[PAD]": 60, "tea": 4.5, "sat": 2, "london": 2.5}
    model = PlannedForQuestionAnswering(tokenizer, start, end)
    context = "tea the  cat sat on mat and bob in london"
    words = context.split()
    expected = brute_force([start.get(w, 0) for w in words], [end.get(w, 0) for w in words], 4)[:3]
    found = answer(
        ["who", "who the who"], [context, "a"], model, tokenizer, top_k=3, max_answer_length=4
    )
    assert [each["score"] for each in found[0]] == pytest.approx([score for score, _ in expected])
    offsets = [
        (context.index(words[i]), context.index(words[j]) + len(words[j])) for _, (i, j) in expected
    ]
    assert [(each["start"], each["end"]) for each in found[0]] == offsets
    assert (
        found[0][0]["answer"] == "cat sat"
    )  # mat ... london is longer than 4 tokens, tea comes before
    assert found[1] == [{"answer": "a", "score": 1.0, "start": 0, "end": 1}]


def test_windows_find_what_a_single_pass_finds(tokenizer):
    context = " ".join(f"{a} {b}" for a in LETTERS for b in LETTERS[:9])  # 468 tokens
    kw = {"doc_stride": 20, "max_answer_length": 20}
    plans = ({"q": 6, "r": 2, "zoo": 1}, {"c": 3, "r": 2})
    wide = answer(
        "who went",
        context,
        PlannedForQuestionAnswering(tokenizer, *plans),
        tokenizer,
        max_length=1000,
        **kw,
    )
    narrow = PlannedForQuestionAnswering(tokenizer, *plans, positions=50)
    same(answer("who went", context, narrow, tokenizer, batch_size=4, **kw), wide, 1e-9)
    # Where windows disagree the highest logit counts: the bonus of a window lifts its spans alone.
    # In overlapping windows too: a to g stand in the first of two, which holds z; d to k in the
    # second.
    lifted = PlannedForQuestionAnswering(
        tokenizer, {"e": 3}, {"e": 3}, positions=12, bonus={"z": 5}
    )
    found = answer(
        "who", "z a b c d e f g h i j k", lifted, tokenizer, doc_stride=4, max_answer_length=1
    )
    chance = math.exp(11) / (math.exp(11) + 7 * math.exp(5) + 4)
    same(found, {"answer": "e", "score": chance, "start": 10, "end": 11}, 1e-6)
    lifted = PlannedForQuestionAnswering(tokenizer, {}, {}, positions=50, bonus={"z": 7})
    # Windows hold 46 tokens of 2 characters; the first z is token 450, in the window that begins
    # with token 414.
    assert answer("who", context, lifted, tokenizer, doc_stride=0)["start"] >= 2 * 414


def test_no_answer_and_its_threshold(tokenizer):
    model = PlannedForQuestionAnswering(tokenizer, {"[CLS]": 2, "cat": 3}, {"[CLS]": 2.5, "cat": 1})
    context, options = "the cat", {"handle_impossible_answer": True}
    # Spans: the 0+0, the cat 0+1, cat 3+1 = 4; no answer 4.5, which is 0.5 above.
    chance = math.exp(4.5) / sum(math.exp(logit) for logit in (0, 1, 4, 4.5))
    nothing = {"answer": "", "score": chance, "start": 0, "end": 0, "no_answer_probability": chance}
    same(answer("who", context, model, tokenizer, **options), nothing)
    found = answer(
        "who", context, model, tokenizer, null_score_diff_threshold=0.6, top_k=9, **options
    )
    assert [each["answer"] for each in found] == ["cat", "", "the cat", "the"]
    assert sum(each["score"] for each in found) == pytest.approx(1)
    assert answer("who", context, model, tokenizer)["answer"] == "cat"
    # The window that believes in it least decides: the second window lacks z, which lifts the
    # first's [CLS] too.
    lifted = PlannedForQuestionAnswering(tokenizer, {"[CLS]": 1}, {}, positions=8, bonus={"z": 20})
    found = answer(
        "who", "z z z z a a a a", lifted, tokenizer, doc_stride=0, max_answer_length=1, **options
    )
    assert found["answer"] == "z"
    assert found["no_answer_probability"] == pytest.approx(
        math.e / (4 * math.exp(20) + 4 + math.e), rel=1e-3
    )


def test_answer_agrees_with_transformers_model(tokenizer, tmp_path):
    ours = bert("QuestionAnswering", tokenizer)
    ours.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    theirs = BertForQuestionAnswering.from_pretrained(tmp_path).eval()
    question, context = "who drank tea", TEXTS[2]
    inputs = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
    offsets = inputs.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        output = theirs(**inputs)
    places = [i for i, number in enumerate(inputs.sequence_ids(0)) if number == 1]
    expected = brute_force(
        output.start_logits[0, places].tolist(), output.end_logits[0, places].tolist(), 30
    )[:5]
    loaded = bertlite.BertLiteForQuestionAnswering.from_pretrained(tmp_path)
    for model, given in (
        (ours, tokenizer),
        (theirs, tmp_path),
        (loaded, None),
        (tmp_path, None),
        (str(tmp_path), None),
    ):
        found = answer(question, context, model, given, top_k=5)
        assert [each["score"] for each in found] == pytest.approx(
            [score for score, _ in expected], abs=1e-4
        )
        spans = [(offsets[places[i]][0], offsets[places[j]][1]) for _, (i, j) in expected]
        assert [(each["start"], each["end"]) for each in found] == spans


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level"])
def test_offsets_are_exact(kind, tokenizer, bpe):
    used = tokenizer if kind == "wordpiece" else bpe
    for text in TEXTS:
        found = answer(
            "who", text, bert("QuestionAnswering", used, positions=128), used, top_k=10_000
        )
        assert all(text[each["start"] : each["end"]] == each["answer"] != "" for each in found)
        assert all(each["answer"].strip() == each["answer"] for each in found)
        assert len({(each["start"], each["end"]) for each in found}) == len(found)
        entities = tag(
            text,
            bert("TokenClassification", used, positions=128, labels=LABELS),
            used,
            ignore_labels=(),
        )
        assert all(text[each["start"] : each["end"]] == each["word"] != "" for each in entities)
        covered = "".join(each["word"] for each in entities)
        assert covered.replace(" ", "") == text.replace(" ", "")
    if kind == "wordpiece":  # the accent that the tokenizer strips belongs to the answer
        model = PlannedForQuestionAnswering(used, {"cafe": 9}, {"cafe": 9})
        assert answer("who", TEXTS[3], model, used)["answer"] == "cafe\u0301"


def test_one_question_for_many_contexts_and_the_other_way_round(tokenizer):
    model = bert("QuestionAnswering", tokenizer)
    pairs = answer(["who", "who"], TEXTS[:2], model, tokenizer)
    same(answer("who", TEXTS[:2], model, tokenizer), pairs)
    same(answer(["who", "where"], TEXTS[0], model, tokenizer)[0], pairs[0])


def test_answer_refuses(tokenizer):
    model = bert("QuestionAnswering", tokenizer, positions=16)
    with pytest.raises(ValueError, match="got 2 questions and 3 contexts"):
        answer(["who", "where"], ["a", "b", "c"], model, tokenizer)
    with pytest.raises(
        ValueError, match=r"question\[1\] has 14 tokens and leaves no room for context\[1\]"
    ):
        answer(["who", "who " * 14], ["a", "b"], model, tokenizer)
    with pytest.raises(
        ValueError, match=r"context\[0\] must hold some text, the tokenizer sees none"
    ):
        answer("who", "\u200b\u200b", model, tokenizer)
    for name in ("top_k", "max_length", "max_answer_length"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1"):
            answer("who", "a", model, tokenizer, **{name: 0})


# ---- which models and tokenizers


def test_a_bert_folder_is_read_by_our_class(tokenizer, tmp_path):
    ours = bert("SequenceClassification", tokenizer, labels=list("pq"))
    ours.save_pretrained(tmp_path)
    BertForSequenceClassification.from_pretrained(tmp_path).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    same(classify(TEXTS[:2], tmp_path / "bert"), classify(TEXTS[:2], ours, tokenizer))


@pytest.mark.parametrize(
    "head", ["QuestionAnswering", "SequenceClassification", "TokenClassification"]
)
def test_models_of_another_kind_are_refused(head, tokenizer, writer, bpe, tmp_path):
    run = {
        "QuestionAnswering": lambda model: answer("who", "a", model, tokenizer),
        "SequenceClassification": lambda model: classify("a", model, tokenizer),
        "TokenClassification": lambda model: tag("a", model, tokenizer),
    }[head]
    other = bert("MaskedLM", tokenizer)
    other.save_pretrained(tmp_path)
    for model, came in (
        (tmp_path, "BertForMaskedLM"),
        (other, "BertLiteForMaskedLM"),
        (7, "int"),
    ):
        with pytest.raises(ValueError, match=f"model must be a.*For{head}, got {came}"):
            run(model)
    other.config.architectures = (
        None  # a folder that does not say what it is: the head's weights are missing
    )
    path = tmp_path / "config.json"
    path.write_text(
        path.read_text().replace('"BertForMaskedLM"\n', "").replace("architectures", "of_old")
    )
    with pytest.raises(ValueError, match=f"holds no trained For{head}: .* would be random"):
        run(tmp_path)
    writer.save_pretrained(tmp_path / "writer")
    with pytest.raises(ValueError, match=f"For{head}, got"):
        run(tmp_path / "writer")
    with pytest.raises(
        ValueError, match="translate: model must be an encoder-decoder, got model_type 'bert'"
    ):
        translate("a", tmp_path, bpe)
    with pytest.raises(ValueError, match="encoder-decoder, got BertLiteForMaskedLM"):
        translate("a", other, bpe)


def test_folders_that_are_no_models_are_refused(tmp_path):
    runs = {
        "answer": lambda model: answer("who", "a", model),
        "classify": lambda model: classify("a", model),
        "tag": lambda model: tag("a", model),
        "translate": lambda model: translate("a", model),
        "summarize": lambda model: summarize("a", model),
    }
    for name, run in runs.items():
        with pytest.raises(
            ValueError,
            match=f"{name}: model must be a folder with a config.json.*, a folder without",
        ):
            run(tmp_path)
        with pytest.raises(
            ValueError, match=f"{name}: model must be a folder with a config.json.*nothing"
        ):
            run(tmp_path / "nothing")


def test_empty_lists_give_empty_lists(tokenizer, writer, bpe):
    assert classify([], bert("SequenceClassification", tokenizer), tokenizer) == []
    assert classify([], bert("SequenceClassification", tokenizer), tokenizer, text_pair=[]) == []
    assert tag([], bert("TokenClassification", tokenizer), tokenizer) == []
    for question, context in (([], []), ([], "a"), ("who", [])):
        assert answer(question, context, bert("QuestionAnswering", tokenizer), tokenizer) == []
    assert translate([], writer, bpe) == summarize([], writer, bpe) == []


def test_missing_tokenizers_are_refused(tokenizer, writer, tmp_path):
    model = bert("TokenClassification", tokenizer, labels=LABELS)
    with pytest.raises(ValueError, match="tokenizer must be given"):
        tag("a", model)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no vocabulary"):
        tag("a", tmp_path)
    with pytest.raises(ValueError, match="no tokenizer can be loaded from"):
        tag("a", model, tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match="tokenizer must be a folder, a hub name or a tokenizer, got 3"
    ):
        tag("a", model, 3)
    writer.save_pretrained(tmp_path / "writer")
    with pytest.raises(ValueError, match="no tokenizer can be loaded from"):
        translate("a", tmp_path / "writer")
