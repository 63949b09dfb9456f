"""Pages are written to be read in the repository; this makes the same text a site.

The pages beside docs/ (README.md is the first) become pages of the site, links out of docs/ lead to them or into the repository, a folder
in the navigation stands for its pages, and lists are what they are in CommonMark.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://github.com/millrace/millrace/blob/main/"
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md",
         "SECURITY.md": "security.md", "AGENTS.md": "agents.md"}

LINK = re.compile(r"(`+)(?:.*?[^`])?\1(?!`)|\]\(([^)\s#]+)(#[^)\s]*)?\)", re.S)  # a link, or inline code, which is left alone
ITEM = re.compile(r"([-*+] +|\d+[.)] +)\S")
PARAGRAPH = re.compile(r"(?![-*+] |\d+[.)] |```|\||#|<!--|>)\S")


def on_config(config):
    config.nav = _folders(config.nav)
    return config


def _folders(nav):
    """An entry that ends in a slash becomes the pages of that folder, its README.md first."""
    out = []
    for entry in nav:
        if isinstance(entry, str) and entry.endswith("/"):
            names = sorted(path.name for path in (ROOT / "docs" / entry).glob("*.md"))
            out += [entry + name for name in sorted(names, key=lambda name: name != "README.md")]
        elif isinstance(entry, dict):
            out.append({title: _folders(below) if isinstance(below, list) else below for title, below in entry.items()})
        else:
            out.append(entry)
    return out


def on_files(files, config):
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown, page, config, files):
    shown = page.file.src_uri
    source = next((name for name, at in PAGES.items() if at == shown), "docs/" + shown)

    def link(match):
        target, anchor = match[2], match[3] or ""
        if target is None or ":" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        inside = PAGES.get(path) or path.removeprefix("docs/")
        if path in PAGES or path.startswith("docs/") and files.get_file_from_path(inside):
            return f"]({posixpath.relpath(inside, posixpath.dirname(shown) or '.')}{anchor})"
        if (ROOT / path).exists():
            return f"]({REPOSITORY}{path}{anchor})"
        return match[0]  # which the build says

    parts = re.split(r"(^ *```.*?^ *```[^\S\n]*$)", _lists(markdown), flags=re.M | re.S)  # every second one is a block of code
    return "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))


def _lists(text):
    """A list may follow a line of a paragraph, and what belongs to an item is indented as far as its text; Python-Markdown wants an empty
    line there, and four spaces."""
    lines, missing, code = [], 0, False
    for line in text.split("\n"):
        code ^= line.startswith("```")
        item = None if code else ITEM.match(line)
        if item:
            if lines and PARAGRAPH.match(lines[-1]):
                lines.append("")
            missing = 4 - len(item[1])
        elif line.strip() and not line.startswith(" "):
            missing = 0
        lines.append(" " * missing + line if line.startswith(" ") else line)
    return "\n".join(lines)
