"""Load a folder with every Auto class in a process where bertlite cannot be imported, and save it
again.
"""

import json
import sys


class Blocked:
    """Makes `import bertlite` fail, as on a machine that does not have it."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "bertlite":
            raise ImportError("bertlite is not installed here")


sys.meta_path.insert(0, Blocked())

import torch  # noqa: E402
import transformers  # noqa: E402

folder, again, auto_classes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
ids = torch.tensor([[2, 5, 8, 3]])
for auto_class in auto_classes:
    loaded = getattr(transformers, auto_class).from_pretrained(folder, trust_remote_code=True)
    assert type(loaded).__module__.startswith("transformers_modules."), type(loaded)
    if auto_class in ("AutoModelForMaskedLM", "AutoModelForSeq2SeqLM"):
        inputs = {"decoder_input_ids": ids} if "Seq2Seq" in auto_class else {}
        before = loaded.eval()(ids, **inputs).logits
        loaded.save_pretrained(again)
        after = getattr(transformers, auto_class).from_pretrained(again, trust_remote_code=True)
        assert torch.equal(before, after.eval()(ids, **inputs).logits)
if "AutoModelForMaskedLM" in auto_classes:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    assert tokenizer("a good film.")["input_ids"] == [2, 5, 8, 7, 11, 3]
assert "bertlite" not in sys.modules
