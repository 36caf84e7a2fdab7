"""The works of the GPU benchmark: transformers' sdpa against bertlite on the same inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from gpu_measure import encoder_operations, peak_memory, profiled, race
from gpu_models import Setting, batches, load, on_device, padded, real_tokens, sources

import bertlite
from bertlite.backends.generation import generate

THEIRS, COMPILED = "transformers sdpa", "transformers sdpa, compiled"
OURS, KNOWN, FROZEN = "bertlite", "bertlite, lengths known", "bertlite.optimize"
Work = Callable[[], Any]


@dataclass(frozen=True)
class Entry:
    """A line of the table.

    Args:
        name: of the work.
        run: measures it.
        target: at least so many times transformers' speed.
        who: whose speed counts.
    """

    name: str
    run: Callable[[Setting], dict]
    target: float
    who: str = KNOWN


def entries() -> list[Entry]:
    """All works, in the order of the table."""
    steps = "masked-lm"
    return [
        Entry("inference, skewed, batch 256", lambda s: inference(s, "skewed", 1024, 256), 5),
        Entry("inference, skewed, batch 32", lambda s: inference(s, "skewed", 256, 32), 1.5),
        Entry("inference, long, batch 32", lambda s: inference(s, "long", 128, 32), 2.3),
        Entry("inference, equal 128, batch 64", lambda s: inference(s, "128", 256, 64), 1.2),
        Entry("inference, one of 16", lambda s: inference(s, "16", 8, 1), 2.5, FROZEN),
        Entry("masked-LM step, skewed", lambda s: step(s, steps, "skewed", 64), 2.2),
        Entry("masked-LM step, long", lambda s: step(s, steps, "long", 32), 2.5),
        Entry("masked-LM step, equal 128", lambda s: step(s, steps, "128", 64), 1.3),
        Entry("fine-tuning step, skewed", lambda s: step(s, "classes", "skewed", 32), 1.6),
        Entry("generate, batch 1, greedy", lambda s: writing(s, 1, 1), 5, OURS),
        Entry("generate, batch 16, 4 beams", lambda s: writing(s, 16, 4), 4, OURS),
        Entry("generate, batch 128, 4 beams", lambda s: writing(s, 128, 4), 2.5, OURS),
        Entry("inference, fp32, skewed", lambda s: inference(s, "skewed", 256, 32, False), 1),
        Entry("masked-LM step, fp32, skewed", lambda s: step(s, steps, "skewed", 64, False), 1),
    ]


def report(
    setting: Setting, competitors: dict[str, Work], tokens: int, more: dict[str, Any]
) -> dict[str, Any]:
    """Race, then count: what one batch launches and waits for."""
    rows = race(setting, competitors)
    for name, row in rows.items():
        if "seconds" in row:
            row["tokens_a_second"] = tokens / row["seconds"]
            row |= profiled(setting, competitors[name])
    return {"rows": rows, "tokens": tokens, **more}


def inference(setting: Setting, kind: str, count: int, size: int, half: bool = True) -> dict:
    """Forwards of an encoder without a head, over all batches."""
    dtype = torch.bfloat16 if half else torch.float32
    made = batches(setting, kind, count, size)
    given = [on_device(setting, batch) for batch in made]
    known = [on_device(setting, batch, with_lengths=True) for batch in made]
    theirs = load(setting, "base", ours=False, dtype=dtype).eval()
    ours = load(setting, "base", ours=True, dtype=dtype).eval()
    frozen = bertlite.optimize(load(setting, "base", ours=True, dtype=dtype).eval())

    def over(model: Any, inputs: list[dict]) -> Work:
        @torch.no_grad()
        def work() -> None:
            for batch in inputs:
                model(**batch)

        return work

    competitors = {THEIRS: over(theirs, given), OURS: over(ours, given), KNOWN: over(ours, known)}
    competitors[FROZEN] = over(frozen, known)
    if setting.is_gpu:
        competitors[COMPILED] = over(torch.compile(theirs, dynamic=True), given)
    operations = encoder_operations(setting.size, real_tokens(made))
    more = {"padded": padded(made), "batches": len(made), "operations": operations}
    return report(setting, competitors, real_tokens(made), more)


def step(setting: Setting, kind: str, lengths: str, size: int, half: bool = True) -> dict:
    """Training steps: forward under autocast, backward, clipping, fused AdamW."""
    made = batches(setting, lengths, 4 * size, size, "words" if kind == "masked-lm" else "rows")
    given = [on_device(setting, batch) for batch in made]
    known = [on_device(setting, batch, with_lengths=True) for batch in made]

    def over(ours: bool, inputs: list[dict]) -> Work:
        model = load(setting, kind, ours=ours).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

        def work() -> None:
            for batch in inputs:
                with torch.autocast(setting.device, torch.bfloat16, enabled=half):
                    loss = model(**batch).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()

        return work

    makers = {
        THEIRS: lambda: over(False, given),
        OURS: lambda: over(True, given),
        KNOWN: lambda: over(True, known),
    }
    peaks = {name: peak_memory(setting, make()) for name, make in makers.items()}
    competitors = {name: make() for name, make in makers.items()}
    operations = 3 * encoder_operations(setting.size, real_tokens(made))
    more = {"padded": padded(made), "batches": len(made), "operations": operations}
    return report(setting, competitors, real_tokens(made), more | {"peaks": peaks})


def writing(setting: Setting, count: int, beams: int) -> dict:
    """`generate` of 40 tokens in fp32; tokens are compared first."""
    given = sources(setting, setting.scaled(count))
    tokens = 4 if setting.quick else 40
    asked = {"max_new_tokens": tokens, "min_new_tokens": tokens, "num_beams": beams}
    asked["do_sample"] = False
    theirs = load(setting, "writer", ours=False).eval()
    ours = load(setting, "writer", ours=True).eval()
    expected = theirs.generate(**given, **asked)
    found = generate(ours, **given, **asked)
    same = expected.shape == found.shape and bool((expected == found).all())
    competitors = {
        THEIRS: lambda: theirs.generate(**given, **asked),
        OURS: lambda: generate(ours, **given, **asked),
    }
    return report(setting, competitors, tokens * len(given["input_ids"]), {"same_tokens": same})
