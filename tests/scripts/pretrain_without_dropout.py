"""`bertlite pretrain` without dropout, which each process draws for itself."""

import sys

from bertlite.models import presets

_, fields = presets.PRESETS["bert-tiny"]
fields |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}

from bertlite.cli.pretrain import main  # noqa: E402

sys.exit(main(sys.argv[1:]))
