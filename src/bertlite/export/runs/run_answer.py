"""Answer questions: `python run.py QUESTION CONTEXT`, or both with a tab between on the input."""

import numpy as np
from engine import load
from texts import characters, main_of_parts, numbers, run, windows

EXPECTED = "QUESTION and CONTEXT"
compute = load()


def answer(question, context, max_answer_length=30):
    """The passage of the context that answers the question, as `bertlite.answer`.

    Only tokens of the context can begin or end it, so that neither the question nor padding counts.
    """
    rows, spans, offsets = windows(question, context, cut=1), {}, {}
    found = run(compute, rows, per_token=True)
    for row, (starts, ends), tokens in zip(rows, found, numbers(rows, 1), strict=True):
        offsets |= {number: row.offsets[place] for place, number in tokens}
        seen = [each for each in tokens if context[slice(*row.offsets[each[0]])].strip()]
        for index, (start, first) in enumerate(seen):
            for end, last in seen[index : index + max_answer_length]:
                if last < first + max_answer_length:
                    logit = float(starts[start]) + float(ends[end])
                    spans[first, last] = max(spans.get((first, last), logit), logit)
    if not spans:
        raise ValueError("the tokenizer sees no text in the context")
    best = max(spans, key=spans.get)
    logits = np.array(list(spans.values()))
    score = float(1 / np.exp(logits - spans[best]).sum())
    start, end = characters(context, offsets, *best)
    return {"answer": context[start:end], "score": score, "start": start, "end": end}


if __name__ == "__main__":
    main_of_parts(lambda question, *parts: answer(question, "\t".join(parts)), EXPECTED, 2)
