"""Every engine of the encoder benchmark on two small batches, outside the tests' own process.

Figures as JSON.

    python tests/scripts/compare_engines.py BENCHMARKS WEIGHTS FOLDER

ONNX Runtime, OpenVINO and torch bring threads and memory of their own, which should not stay in the
tests' process.
"""

import json
import sys


def main(benchmarks: str, weights: str, folder: str) -> None:
    sys.path.insert(0, benchmarks)
    import encoder_child
    import encoder_inputs
    import encoder_peers
    import encoder_race
    import numpy as np

    files, chosen = encoder_peers.Files(weights, folder), encoder_peers.chosen(None, compiled=False)
    runners, left_out = encoder_race.load_all(chosen, files, 1)
    precisions = {peer.name: peer.precision for peer in chosen}
    batches = encoder_inputs.Scenario("s", "title", np.array([3, 9, 12, 7, 7, 7]), 3).batches()
    rows = encoder_race.compare(runners, runners[encoder_peers.EAGER], precisions, batches)
    encoder_child.write_batches(batches, f"{folder}/inputs.npz")
    memory = encoder_child.in_a_child(encoder_peers.OURS, files, f"{folder}/inputs.npz", 1)
    print(
        json.dumps({"rows": rows, "left_out": left_out, "precisions": precisions, "memory": memory})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
