"""How far packed weights in bf16 and int8 turn a vector: the cosine to fp32, by kind of text.

Real MiniLM weights, vectors of `bertlite.encode`. Held to AVX2 (ONEDNN_MAX_CPU_ISA=AVX2
ATEN_CPU_CAPABILITY=avx2) int8 weights have seven bits.
"""

import argparse
import json
from pathlib import Path

import torch
from encoder_inputs import minilm_folder


def texts_of(tokenizer, count: int) -> dict[str, list[str]]:
    """Texts of one word, and texts of eleven."""
    known = sorted(word for word in tokenizer.get_vocab() if word.isalpha() and len(word) > 2)
    words = known[:: max(len(known) // count, 1)][:count]
    groups = zip(words[::4], words[1::4], words[2::4], words[3::4], strict=False)
    sentences = [f"the {a} was {b} and the {c} in the end {d}" for a, b, c, d in groups]
    return {"one word": words, "a sentence": sentences}


def cosines(count: int) -> dict[str, dict[str, float]]:
    """The lowest, the hundredth and the median cosine, by precision and kind of text."""
    from transformers import AutoTokenizer

    import bertlite

    folder = str(minilm_folder())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = bertlite.BertLiteModel.from_pretrained(folder).eval()
    kinds = texts_of(tokenizer, count)
    exact = {
        kind: bertlite.encode(texts, model, tokenizer, output="torch")
        for kind, texts in kinds.items()
    }
    found = {}
    for dtype in ("bf16", "int8"):
        bertlite.optimize(model, dtype=dtype)
        for kind, texts in kinds.items():
            vectors = bertlite.encode(texts, model, tokenizer, output="torch")
            cosine = (vectors * exact[kind]).sum(-1)
            found[f"{dtype}, {kind}"] = {
                "lowest": cosine.min().item(),
                "lowest hundredth": cosine.quantile(0.01).item(),
                "median": cosine.median().item(),
            }
        bertlite.undo_optimize(model)
    return found


def main() -> None:
    """Print a table, and write it as JSON where asked."""
    from bertlite.backends.cpu.packed_linear import has_fast_int8

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=800, help="words")
    parser.add_argument("--output", type=Path, help="also write JSON there")
    given = parser.parse_args()
    found = cosines(given.count)
    bits = 8 if has_fast_int8() else 7
    print(f"int8 weights of {bits} bits, {torch.backends.cpu.get_cpu_capability()}\n")
    print("| precision, text | lowest | lowest hundredth | median |\n| --- | --- | --- | --- |")
    for name, row in found.items():
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in row.values()) + " |")
    if given.output:
        given.output.write_text(json.dumps({"bits": bits, "cosines": found}, indent=1))


if __name__ == "__main__":
    main()
