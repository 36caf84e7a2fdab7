"""Run in a process of its own: what the Auto classes make of a folder, with bertlite or without.

    python -P fresh_process.py < question.json

It is run as a file and imports nothing of bertlite but where the question asks for it. The
question holds `folder`, `classes` (names, each with its inputs), `outputs` (a file to write),
`package` (the folder in which bertlite lies), `without_bertlite` and `trust_remote_code`. A name is
an Auto class's, or that of a class with its module. What each class made goes to stdout, as one
JSON line after `REPORT`.
"""

import importlib
import json
import sys
from typing import Any

REPORT = "REPORT"


class Blocked:
    """Makes `import bertlite` fail, as on a machine that does not have it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Refuse bertlite, and leave all else to others."""
        if name.split(".")[0] == "bertlite":
            raise ImportError("bertlite is not installed here")


def load(name: str, question: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A model by a class, in fp32, and what the library says of its loading."""
    import torch

    package, _, own = name.rpartition(".")
    module = importlib.import_module(package or "transformers")
    return getattr(module, own).from_pretrained(
        question["folder"],
        dtype=torch.float32,
        output_loading_info=True,
        trust_remote_code=question["trust_remote_code"] or None,
    )


def run(name: str, question: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """One class: what it chose, what was missing, and its outputs under `NAME/OUTPUT` in `kept`."""
    try:
        model, info = load(name, question)
        return answer(name, model, info, question, kept)
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def answer(
    name: str, model: Any, info: dict[str, Any], question: dict[str, Any], kept: dict[str, Any]
) -> dict[str, Any]:
    """As `run`, of a model that is loaded."""
    import torch

    # Marian's base class computes its tables, and does not say that files lack them.
    computed = ["embed_positions", "position_ids", "final_logits_bias"]
    if type(model).__name__.endswith("Model"):  # a head that reads the pooler needs a trained one
        computed.append("pooler.")
    missing = [key for key in info["missing_keys"] if not any(each in key for each in computed)]
    report = {"class": f"{type(model).__module__}.{type(model).__name__}", "missing": missing}
    if missing:
        return report
    pooled = not any("pooler." in key for key in info["missing_keys"])
    batch = {key: torch.tensor(value) for key, value in question["classes"][name].items()}
    with torch.no_grad():
        outputs = model.eval()(**batch)
    for key, value in outputs.items():
        if isinstance(value, torch.Tensor) and (pooled or key != "pooler_output"):
            kept[f"{name}/{key}"] = value.float().contiguous().clone()
    return report


def main() -> None:
    """Answer the question on stdin."""
    question = json.load(sys.stdin)
    if question["without_bertlite"]:
        sys.meta_path.insert(0, Blocked())  # type: ignore[arg-type]
    else:
        sys.path.append(question["package"])  # behind what this interpreter has of its own
        import bertlite  # noqa: F401  tells the Auto classes
    import transformers
    from safetensors.torch import save_file

    kept: dict[str, Any] = {}
    made = {name: run(name, question, kept) for name in question["classes"]}
    if kept:
        save_file(kept, question["outputs"])
    report = {"transformers": transformers.__version__, "classes": made}
    sys.stdout.write(f"\n{REPORT}{json.dumps(report)}\n")


if __name__ == "__main__":
    main()
