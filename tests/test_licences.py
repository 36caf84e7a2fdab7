"""What bertlite's own dependencies bring is under licences that ask nothing of the user's code."""

import importlib.metadata as metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PAGE = (Path(__file__).parents[1] / "docs" / "licences.md").read_text(encoding="utf-8")
# As packages write them; of a list joined by AND, each must be here.
FREE = re.compile(
    r"MIT( License)?|Apache.*|(0|[23]-Clause )?BSD.*|ISC.*|"
    r"PSF-2.0|Python Software Foundation License|Zlib|CC0-1.0|"
    r"CNRI-Python|BSL-1.0|(Mozilla Public License 2.0.*|MPL-2.0)"
)


def needed():
    """Names of the packages that `bertlite` needs, and those that these need, without extras."""
    names, waiting = set(), [("bertlite", frozenset())]
    while waiting:
        name, extras = waiting.pop()
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of another platform
        names.add(name)
        for line in package.requires or []:
            requirement = Requirement(line)
            applies = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in extras or {""}
            )
            if applies and normal(requirement.name) not in names:
                waiting.append((normal(requirement.name), frozenset(requirement.extras)))
    return sorted(names - {"bertlite"})


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def licences(name):
    """What the package `name` says of its licence."""
    about = metadata.metadata(name)
    classified = [
        each.split("::")[-1].strip()
        for each in about.get_all("Classifier") or []
        if each.startswith("License ::")
    ]
    named = [each for each in classified if each != "OSI Approved"]
    words = about.get("License-Expression") or about.get("License") or ""
    return named or re.split(r" AND | OR ", words.splitlines()[0])


@pytest.mark.parametrize("name", needed())
def test_a_package_is_under_a_free_licence_and_on_the_page(name):
    for licence in licences(name):
        assert FREE.fullmatch(licence.strip()), f"{name}: {licence}"
    assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", PAGE), f"{name} is not on the page"


def test_the_walk_finds_what_there_is():
    assert {"torch", "transformers", "numpy", "tokenizers"} <= set(needed())
