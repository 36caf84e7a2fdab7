"""Translate or summarise: `python run.py TEXT ...`, or a text a line on the input."""

import numpy as np
from engine import load
from subwords import text_of
from texts import SETTINGS, main
from writing import Direction, by_lines, longest

encoder, decoder = load("encoder"), load("decoder")
RULES = SETTINGS["decoding"]


def translate(texts, source_language=None, target_language=None):
    """A text for each text, line by line, by beam search; as `bertlite.translate`.

    The languages by the codes of models that write several; None: as the folder was exported.
    """
    direction = Direction(source_language, target_language)
    return ["".join(by_lines(text, lambda line: write(line, direction))) for text in texts]


def write(text, direction):
    """What the decoder writes for one line."""
    row = direction.row(text)
    return text_of(search(Steps(np.array([row], dtype=np.int64)), longest(row), direction))


class Steps:
    """The decoder on one source, a token of each beam at a time.

    Keys and values: of the source once, of the targets so far as the beams have them.
    """

    def __init__(self, source):
        self.mask = np.ones_like(source)
        made = encoder({"input_ids": source, "attention_mask": self.mask})
        self.source = dict(zip(names(len(made), "source"), made, strict=True))
        rows, heads, _, size = made[0].shape
        self.kept = [np.zeros((rows, heads, 0, size), np.float32)] * len(made)

    def __call__(self, tokens, beams):
        """Scores (beams, words) after `tokens`, which go on from these earlier beams: logits of one
        beam, of several their log-probabilities, as in transformers.
        """
        kept = [each[beams] for each in self.kept]
        given = dict(zip(names(len(kept), "before"), kept, strict=True))
        for name, each in self.source.items():
            given[name] = np.repeat(each, len(tokens), 0)
        given["attention_mask"] = np.repeat(self.mask, len(tokens), 0)
        given["decoder_input_ids"] = np.array(tokens, dtype=np.int64)[:, None]
        logits, *self.kept = decoder(given)
        return logits[:, -1] if RULES["num_beams"] == 1 else log_softmax(logits[:, -1])


def log_softmax(scores):
    """Of the last side."""
    scores = scores - scores.max(-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def names(count, kind):
    """The graphs' names of keys and values."""
    return [f"{kind}.{index}.{part}" for index in range(count // 2) for part in ("key", "value")]


def allowed(scores, texts, length, limit, direction):
    """Scores without what the model's generation config bans or forces after these texts."""
    penalty, scores = RULES["repetition_penalty"], scores.copy()
    for row, text in zip(scores, texts, strict=True):
        written = [direction.start, *text]
        seen = np.unique(written)
        if penalty != 1:
            row[seen] *= np.where(row[seen] < 0, penalty, 1 / penalty)
        row[repeating(written)] = -np.inf
    scores[:, RULES["banned"]] = -np.inf
    if length < RULES["least"]:
        scores[:, RULES["eos_token_ids"]] = -np.inf
    forced = direction.first if length == 0 else None
    if length + 1 == limit and RULES["forced_eos_token_id"] is not None:
        forced = RULES["forced_eos_token_id"]
    if forced is not None:
        scores = np.full_like(scores, -np.inf)
        scores[:, forced] = 0.0
    return log_softmax(scores) if RULES["renormalize_logits"] else scores


def repeating(written):
    """The tokens that would write a run of `no_repeat_ngram_size` tokens again."""
    size = RULES["no_repeat_ngram_size"]
    if not size:
        return []
    last = written[len(written) - size + 1 :]
    places = range(size - 1, len(written))
    return [written[place] for place in places if written[place - size + 1 : place] == last]


def search(step, limit, direction):
    """The ids of the best text of at most `limit` tokens: greedy or beam search, with the rules
    of transformers' `generate`.
    """
    width, ends = RULES["num_beams"], RULES["eos_token_ids"]
    forced_at = RULES["forced_at"] or limit
    running, texts, scores, parents = np.zeros(1), [[]], [direction.start], [0]
    finished, count = [], max(2, 1 + len(ends)) * width
    for length in range(limit):
        found = allowed(step(scores, parents), texts, length, forced_at, direction)
        found = found + running[:, None]
        if width == 1:
            token = int(found[0].argmax())
            texts, scores, running = [[*texts[0], token]], [token], np.zeros(1)
            if token in ends:
                break
            continue
        flat = found.ravel()
        best = highest(flat, count)
        tokens, beams = best % found.shape[1], best // found.shape[1]
        over = np.isin(tokens, ends) | (length + 1 >= limit)
        may_end = not (len(finished) == width and RULES["early_stopping"] is True)
        ended = over[:width] & np.isfinite(flat[best[:width]])
        for place in np.flatnonzero(ended) if may_end else ():
            text = [*texts[beams[place]], int(tokens[place])]
            finished.append((flat[best[place]] / (length + 1) ** RULES["length_penalty"], text))
        finished = sorted(finished, key=lambda each: -each[0])[:width]
        going = np.flatnonzero(~over)[:width]
        if not len(going) or done(finished, width, flat[best[going[0]]], length + 1, limit):
            break
        texts = [[*texts[beams[place]], int(tokens[place])] for place in going]
        running, scores, parents = flat[best[going]], tokens[going].tolist(), beams[going]
    return finished[0][1] if finished else texts[0]


def highest(scores, count):
    """The places of the highest scores, from the highest on; of equal ones the first."""
    least = np.partition(scores, -count)[-count]
    places = np.flatnonzero(scores >= least)
    return places[np.argsort(-scores[places], kind="stable")][:count]


def done(finished, width, best, length, limit):
    """Whether no text in work can become better than those that have ended."""
    if len(finished) < width:
        return False
    penalty = RULES["length_penalty"]
    if RULES["early_stopping"] is True:
        return True
    reach = limit if RULES["early_stopping"] == "never" and penalty > 0 else length
    return best / reach**penalty <= finished[-1][0]


if __name__ == "__main__":
    main(translate, ("source_language", "target_language"))
