"""CTranslate2's own converter reads the folders that we save, and writes what we write."""

import json
import subprocess
import sys

import pytest
from seq2seq_cases import batch_of, their_model

import bertlite

pytestmark = pytest.mark.slow

STEPS = 9
# In a process of its own, which has CTranslate2's threads and not ours. Its words are the ids.
PROGRAM = """
import json, sys
import ctranslate2
from ctranslate2.converters import TransformersConverter

folder, target, rows, prefix, special, steps = json.loads(sys.stdin.read())

class Tokenizer:
    special_tokens_map, num_madeup_words, unk_token_id = {}, 0, 3
    bos_token, pad_token, eos_token, unk_token = special

    def get_vocab(self):
        return {f"w{number}": number for number in range(61)}

    def convert_ids_to_tokens(self, number):
        return f"w{number}"

class Converter(TransformersConverter):
    def load_tokenizer(self, tokenizer_class, name, **kwargs):
        return Tokenizer()

Converter(folder).convert(target)
translator = ctranslate2.Translator(target, inter_threads=1, intra_threads=1)
options = {"beam_size": 1, "max_decoding_length": steps, "disable_unk": False}
options["target_prefix"] = [prefix] * len(rows)
found = translator.translate_batch(rows, **options)
print(json.dumps([each.hypotheses[0] for each in found]))
"""


@pytest.mark.parametrize("family", ["bart", "mbart", "m2m_100", "pegasus"])
def test_converted_and_translated(tmp_path, family):
    theirs = their_model(family, std=0.3)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = bertlite.TransformerLiteForConditionalGeneration.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    config = ours.config
    ids = batch_of(config, side=None)["input_ids"]
    given = {"max_new_tokens": STEPS, "num_beams": 1, "forced_eos_token_id": None}
    # MBART begins with the language, which is then not told; others write it, or a word, first.
    given["decoder_start_token_id" if family == "mbart" else "forced_bos_token_id"] = 7
    words = [
        [f"w{number}" for number in row.tolist()] for row in ours.eval().generate(ids, **given)
    ]
    expected = [row[1:] for row in words]
    special = (config.bos_token_id or 0, config.pad_token_id, config.eos_token_id, 3)
    rows = [[f"w{number}" for number in row.tolist()] for row in ids]
    names = [f"w{number}" for number in special]
    sent = [str(tmp_path / "ours"), str(tmp_path / "converted"), rows, ["w7"], names, STEPS]
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(sent),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.splitlines()[-1])
    for theirs_now, ours_now in zip(found, expected, strict=True):
        until = ours_now.index(names[2]) if names[2] in ours_now[1:] else len(ours_now)
        common = min(len(theirs_now), until)
        assert common >= min(until, STEPS - 1)
        assert theirs_now[:common] == ours_now[:common]
    assert len({word for row in found for word in row}) > 2
