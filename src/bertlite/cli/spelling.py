"""One spelling of options: dashes and underscores both."""


def with_dashes(argv: list[str]) -> list[str]:
    """The words of a command line with the names of options in dashes; values stay as they are.

    What follows a lone `--` is no option.

    >>> with_dashes(["my_texts", "--output_dir=my_run", "--max_steps", "20"])
    ['my_texts', '--output-dir=my_run', '--max-steps', '20']
    """
    end = argv.index("--") if "--" in argv else len(argv)
    return [*map(_option_with_dashes, argv[:end]), *argv[end:]]


def _option_with_dashes(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}"


def spelled(name: str) -> str:
    """The name of an option in underscores, as fields have it: to compare two of any spelling.

    >>> spelled("max-steps")
    'max_steps'
    """
    return name.replace("-", "_")
