"""What mkdocs does besides rendering: pages made from the source, and links out of `docs/`.

- `differences.md` ends in the list of all `Deviation:` notes of the source, so that it cannot age.
- The reference's pages are made from what the package exports.
- A link from a page to a file of the repository that is not under `docs/` (a table of figures, a
  card) leads to a copy in the site, under `repository/`.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

import bertlite

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "bertlite"
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")
REPOSITORY = "repository/"


def on_files(files, config):
    """Add the pages that are made, and copies of what pages link to outside `docs/`."""
    for uri, text in reference_pages().items():
        files.append(File.generated(config, uri, content=text))
    waiting = list(files.documentation_pages())
    while waiting:
        page = waiting.pop()
        for path in sorted(linked_files(page)):
            uri = site_uri(path)
            if files.get_file_from_path(uri) is None and (ROOT / path).is_file():
                copy = File.generated(config, uri, abs_src_path=str(ROOT / path))
                files.append(copy)
                if uri.endswith(".md"):
                    waiting.append(copy)
    return files


def on_page_markdown(markdown, page, config, files):
    """Lead links to where their targets lie in the site; list the deviations."""
    if page.file.src_uri == "differences.md":
        markdown += "\n" + deviations()

    def lead(match):
        target = site_uri(repository_path(page.file.src_uri, match[1]))
        start = posixpath.dirname(page.file.src_uri) or "."
        return posixpath.relpath(target, start) + (match[2] or "")

    return LINK.sub(lead, markdown)


def linked_files(page) -> set[str]:
    """Paths, from the repository's root, of what a page links to."""
    return {repository_path(page.src_uri, m[1]) for m in LINK.finditer(page.content_string)}


def repository_path(uri: str, link: str) -> str:
    """Where a link of the page `uri` leads, from the repository's root.

    A folder stands for its `README.md`.
    """
    path = uri.removeprefix(REPOSITORY) if uri.startswith(REPOSITORY) else f"docs/{uri}"
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    if (ROOT / target).is_dir():
        return f"{target}/README.md"
    return target


def site_uri(path: str) -> str:
    """Where a file of the repository lies in the site's tree."""
    return path.removeprefix("docs/") if path.startswith("docs/") else REPOSITORY + path


def reference_pages() -> dict[str, str]:
    """The reference: what `bertlite` and its rooms export, by defining module."""
    models, functions = [], []
    for module, names in bertlite.NAMES.items():
        for name in names:
            value = getattr(bertlite, name)
            place = getattr(value, "__module__", f"bertlite{module}")
            (models if isinstance(value, type) else functions).append(f"{place}.{name}")
    pages = {
        "reference/models.md": page("Models", "Classes that `bertlite` exports.", models),
        "reference/functions.md": page("Functions", "What `bertlite` exports.", functions),
    }
    for room in ("training", "metrics"):
        exported = __import__(f"bertlite.{room}", fromlist=["__all__"])
        names = [
            f"{value.__module__}.{name}"
            for name in exported.__all__
            if hasattr(value := getattr(exported, name), "__module__")
        ]
        pages[f"reference/{room}.md"] = page(room.capitalize(), f"`bertlite.{room}`.", names)
    return pages


def page(title: str, words: str, names: list[str]) -> str:
    """A page of the reference."""
    entries = "\n\n".join(f"::: {name}" for name in sorted(names, key=lambda n: n.split(".")[-1]))
    return f"# {title}\n\n{words}\n\n{entries}\n"


def deviations() -> str:
    """All notes `Deviation:` of the source, by file."""
    lines = []
    for path in sorted(SOURCE.rglob("*.py")):
        source = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(source):
            if "Deviation: " in line:
                lines.append(f"- `{path.relative_to(ROOT / 'src')}`: {note(source[number:])}")
    return "\n".join(lines) + "\n"


def note(lines: list[str]) -> str:
    """The note that begins in the first of `lines`, to the end of its paragraph or comment."""
    is_comment = lines[0].lstrip().startswith("#")
    words = [lines[0].split("Deviation: ", 1)[1]]
    for line in lines[1:]:
        text = line.strip()
        if text.startswith("#") != is_comment or not text or words[-1].endswith('"""'):
            break
        words.append(text.lstrip("# "))
    return " ".join(words).split('"""')[0].strip()
