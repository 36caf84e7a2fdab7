"""`python -m bertlite`: the same as the command `bertlite`."""

import sys

from .cli.main import main

sys.exit(main())
