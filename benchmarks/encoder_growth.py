"""How time grows.

With the length, with the batch, and with threads, for a few of the competitors.
"""

from collections.abc import Callable
from functools import partial

import torch
from common import Race
from encoder_inputs import Scenario, equal
from encoder_peers import OURS, SDPA, Peer
from encoder_race import PAUSE, compare, load_all, reference_of, spread

FEW = (OURS, SDPA, "ONNX Runtime fp32", "OpenVINO fp32", "CTranslate2 fp32")


def point(value: int, scenario: Scenario, runners: dict, rounds: int) -> dict:
    """Seconds for each 1,000 real tokens, by name, at one value of what grows."""
    batches = scenario.batches()
    calls = {
        name: partial(each.forward_all, list(map(each.adapt, batches)))
        for name, each in runners.items()
    }
    race = Race(calls, pause=PAUSE).run(rounds)
    scale = 1000 / scenario.tokens()
    times = {
        name: {key: figure * scale for key, figure in spread(race, name).items()} for name in calls
    }
    return {"value": value, "title": scenario.title, "rows": times}


def wrong(runners: dict, reference, peers: list[Peer], scenario: Scenario) -> dict[str, str]:
    """Who must not be timed, and why."""
    precisions = {peer.name: peer.precision for peer in peers}
    rows = compare(runners, reference, precisions, scenario.batches()[:1])
    return {
        name: row.get("failed", "wrong outputs") for name, row in rows.items() if not row["right"]
    }


def curve(
    points: list,
    runners: dict,
    reference,
    peers: list[Peer],
    rounds: int,
    say: Callable[[str], None],
) -> dict:
    """A curve over scenarios; who is wrong on the largest of them is left out."""
    bad = wrong(runners, reference, peers, points[-1][1])
    right = {name: runner for name, runner in runners.items() if name not in bad}
    made = []
    for value, scenario in points:
        say(f"  {scenario.title}")
        made.append(point(value, scenario, right, rounds))
    return {"points": made, "left_out": bad}


def over_threads(
    peers: list[Peer], files, threads: int, rounds: int, quick: bool, say: Callable[[str], None]
) -> dict:
    """The same batches with 1, 2, 4 ...

    up to `threads` threads; everybody is loaded anew for each count.
    """
    counts = [count for count in (1, 2, 4, 8, 16, 32, 64) if count < threads] + [threads]
    scenario = equal(16, 2, 1) if quick else equal(128, 8, 2)
    made, bad = [], {}
    before = torch.get_num_threads()
    try:
        for count in counts:
            say(f"  {count} thread(s), {scenario.title}")
            torch.set_num_threads(count)
            runners, bad = load_all(peers, files, count)
            reference = reference_of(runners, files, count)
            bad |= wrong(runners, reference, peers, scenario)
            right = {name: runner for name, runner in runners.items() if name not in bad}
            made.append(point(count, scenario, right, rounds))
    finally:
        torch.set_num_threads(before)
    return {"points": made, "left_out": bad}
