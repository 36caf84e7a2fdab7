"""Whether a text goes on with another: `python run.py "FIRST<tab>SECOND" ...`, or a pair a line."""

from engine import load
from texts import SETTINGS, main, run, softmax, tokenizer

compute = load()


def next_sentence(pairs):
    """For each pair, which has a tab between its texts, the probability that the second follows."""
    for pair in pairs:
        if "\t" not in pair:
            raise ValueError(f"a pair must have a tab between its texts, got {pair!r:.80}")
    tokenizer.enable_truncation(SETTINGS["max_length"])
    rows = tokenizer.encode_batch([tuple(pair.split("\t", 1)) for pair in pairs])
    tokenizer.no_truncation()
    return [{"is_next": float(softmax(outputs[0])[0])} for outputs in run(compute, rows)]


if __name__ == "__main__":
    main(next_sentence)
