"""Entities of texts: `python run.py TEXT ...`, or a text a line on the input."""

import numpy as np
from engine import load
from texts import LABELS, characters, main, numbers, run, softmax, windows

compute = load()


def tag(texts):
    """For each text its entities, as `bertlite.tag`."""
    groups = [windows(text) for text in texts]
    found = iter(run(compute, [row for rows in groups for row in rows], per_token=True))
    results = []
    for text, rows in zip(texts, groups, strict=True):
        results.append(join(text, words_of(text, tokens_of(rows, [next(found)[0] for _ in rows]))))
    return results


def tokens_of(rows, logits):
    """Each token of a text: its offsets, its word, and its logits, from the window where it has the
    most neighbours on its poorer side.
    """
    tokens = {}
    for row, values, places in zip(rows, logits, numbers(rows), strict=True):
        for index, (place, number) in enumerate(places):
            near = min(index, len(places) - 1 - index)
            if number not in tokens or near > tokens[number][0]:
                tokens[number] = near, row.offsets[place], row.word_ids[place], values[place]
    return {number: found[1:] for number, found in tokens.items()}


def words_of(text, tokens):
    """Each word: the label of its first token, and its characters."""
    words, spans = {}, {}
    for number, (_, word, logits) in tokens.items():
        key = ("token", number) if word is None else word
        scores = softmax(logits)
        best = int(np.argmax(scores))
        words.setdefault(key, {"entity": LABELS[best], "score": float(scores[best])})
        spans[key] = spans.get(key, (number,))[0], number
    offsets, found = {number: each[0] for number, each in tokens.items()}, []
    for key, label in words.items():
        start, end = characters(text, offsets, *spans[key])
        if start < end:
            found.append({**label, "start": start, "end": end})
    return found


def join(text, words):
    """Words with labels B-X, I-X and O to entities X; neighbours of another label that is equal."""
    groups = []
    for word in words:
        prefix, dash, kind = word["entity"].partition("-")
        if not (dash and kind and prefix in ("B", "I")):
            prefix, kind = "", word["entity"]
        if groups and prefix != "B" and groups[-1][0] == kind:
            groups[-1][1].append(word)
        else:
            groups.append((kind, [word]))
    entities = []
    for kind, members in groups:
        start, end = members[0]["start"], members[-1]["end"]
        score = sum(each["score"] for each in members) / len(members)
        found = {"word": text[start:end], "start": start, "end": end}
        if kind != "O":
            entities.append({"entity_group": kind, "score": score, **found})
    return entities


if __name__ == "__main__":
    main(tag)
