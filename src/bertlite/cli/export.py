"""`bertlite export`: folders that run without torch."""

import json
import sys
from typing import Any

from .command_parser import CommandParser

FORMATS = ("onnx", "openvino", "ctranslate2", "torch")
DESCRIPTION = """\
Write a folder that runs without torch: the model's graphs, its tokenizer, its labels, and run.py,
which needs the engine, numpy and tokenizers only. Every BERT head, folders of
sentence-transformers, and encoder-decoders (onnx and ctranslate2). The outputs are held to the
model's, within 1e-4 over several shapes with padding, before the folder takes its place.
"""
EPILOG = """\
examples:
  bertlite export onnx out/sentiment --out out/sentiment-onnx
  python out/sentiment-onnx/run.py "A warm, funny film."
      which needs: pip install onnxruntime tokenizers
  bertlite export onnx out/sentiment --out out/small --int8 --data held_out.csv
      refused where the figure on these rows falls by more than 0.3 points
  bertlite export ctranslate2 Helsinki-NLP/opus-mt-en-de --out out/en-de
  bertlite export onnx facebook/nllb-200-distilled-600M --out out/nllb
  python out/nllb/run.py --source_language eng_Latn --target_language deu_Latn "Good morning."
  bertlite export openvino sentence-transformers/all-MiniLM-L6-v2 --out out/vectors

What was found out comes as JSON, and stands in export.json of the folder. To install what writes a
format: pip install "bertlite[onnx]", and so on.
"""


def main(argv: list[str]) -> int:
    """Export; see `bertlite export --help`.

    A ValueError refuses, by name, what cannot be exported.
    """
    arguments = make_parser().read(argv)
    from ..export.exporting import export_folder

    report = export_folder(
        arguments.folder,
        arguments.out,
        format=arguments.format,
        int8=arguments.int8,
        data=arguments.data,
        task=arguments.task,
        source_language=arguments.source_language,
        target_language=arguments.target_language,
    )
    for line in lines_of(report):
        sys.stderr.write(f"{line}\n")
    sys.stdout.write(json.dumps({"out": arguments.out, **report}, ensure_ascii=False) + "\n")
    return 0


def lines_of(report: dict[str, Any]) -> list[str]:
    """What was found out, in words."""
    largest = max(report["largest_difference"].values(), default=0.0)
    lines = [f"fp32: outputs within {largest:.1e} of the model's"]
    if figures := report.get("figures"):
        change = f"{figures['model']:.4f} to {figures['int8']:.4f}"
        lines.append(f"int8: {figures['name']} on {figures['examples']} rows from {change}")
    for name, cosine in report.get("cosine", {}).items():
        agreement = report["agreement"][name]
        lines.append(f"int8: {name}: cosine {cosine:.4f}, the same largest {agreement:.3f}")
    return lines


def make_parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        prog="bertlite export",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("format", choices=FORMATS, help="what runs it")
    add("folder", metavar="FOLDER", help="folder or hub name of a model with its tokenizer")
    add("--out", required=True, metavar="OUT", help="the folder to write; new or empty")
    add("--int8", action="store_true", help="products in int8")
    add(
        "--data",
        metavar="FILE",
        help="labelled rows to measure int8 on, as bertlite evaluate takes them",
    )
    add(
        "--task",
        choices=("translation", "summarization"),
        help="what an encoder-decoder does (default: as its run or its config says)",
    )
    said = "language of the %s where run.py is told no other, such as eng_Latn"
    add("--source-language", metavar="CODE", help=said % "source")
    add("--target-language", metavar="CODE", help=said % "target")
    return parser
