"""The package's version, apart so that building it imports nothing."""

VERSION = "0.2.0"
