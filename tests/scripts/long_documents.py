"""By how many megabytes a process's peak grows from 2,000 tokens a document to 10,000, as JSON."""

import json
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from inference_cases import LABELS, WORDS, bert, byte_pairs, tiny_writer, wordpiece

import bertlite
from bertlite.tasks import TASKS, TaskOptions

torch.set_num_threads(1)
QUIET = {"show_progress": False, "batch_size": 8}
CLASSIFIER = bert("SequenceClassification", wordpiece(), labels=["a", "b"])
TAGGER = bert("TokenClassification", wordpiece(), labels=LABELS)
READER = bert("QuestionAnswering", wordpiece())
CHOOSER = bert("MultipleChoice", wordpiece())
WRITER = tiny_writer(byte_pairs())
WORK = {
    "classify": lambda text: bertlite.classify(text, CLASSIFIER, wordpiece(), **QUIET),
    "tag": lambda text: bertlite.tag(text, TAGGER, wordpiece(), **QUIET),
    "answer": lambda text: bertlite.answer("who went", text, READER, wordpiece(), **QUIET),
    "choose": lambda text: TASKS["multiple-choice"].predict(
        [{"question": text, "choices": ["anna", "bob"]}],
        CHOOSER,
        wordpiece(),
        TaskOptions(prediction_batch_size=8),
        show_progress=False,
    ),
    "translate": lambda text: bertlite.translate(
        text, WRITER, byte_pairs(), num_beams=1, max_new_tokens=2, **QUIET
    ),
}


def peak() -> float:
    """The most memory that the process has held so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


grown = {}
for name, work in WORK.items():
    for _ in range(2):  # what is made once is made now
        work(" ".join((WORDS * 200)[:2000]))
    before = peak()
    work(" ".join((WORDS * 1000)[:10_000]))
    grown[name] = round(peak() - before, 1)
print(json.dumps(grown))
