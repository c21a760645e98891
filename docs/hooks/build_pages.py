"""What MkDocs calls while it builds: pages run their code, and formulas become MathML."""

import html
import posixpath
import re
from typing import Any

from code_blocks import Outcome, PageError, run_blocks
from formulas import hide_formulas, show_formulas
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# Docstrings mark names for Sphinx too; here the name alone is enough.
ROLE = re.compile(r":(?:class|attr|func|meth|mod|data|exc):(?=<code>)")
# In a table other readers of Markdown need the bar escaped even in code; this one shows the escape.
CELL_BAR = re.compile(r"^\|.*\|$", re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the page with the output of its Python blocks and its formulas in place."""
    written = []
    position = 0
    try:
        outcomes = list(run_blocks(page.file.src_uri, markdown))
    except PageError as error:
        raise PluginError(str(error)) from error
    for outcome in outcomes:
        block = outcome.block
        written.append(markdown[position : block.start])
        shown = f"```python\n{block.code}\n```" + _answer(outcome, page, config, files)
        written.append("\n".join(f"{block.indent}{line}".rstrip() for line in shown.split("\n")))
        position = block.end
    written.append(markdown[position:])
    return hide_formulas(CELL_BAR.sub(lambda found: found[0].replace(r"\|", "|"), "".join(written)))


def _answer(outcome: Outcome, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return the Markdown of what a block said; its picture becomes a file of the site."""
    lines = ""
    if outcome.text:
        lines += f"\n\n```{{.text .printed .no-copy}}\n{outcome.text}\n```"
    if outcome.svg is not None:
        stem = page.file.src_uri.removesuffix(".md").replace("/", "-")
        uri = f"figures/{stem}-{outcome.block.number:02d}.svg"
        files.append(File.generated(config, uri, content=outcome.svg))
        path = posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")
        alt = html.escape(outcome.block.options["figure"], quote=True)
        lines += f"\n\n![{alt}]({path})"
    return lines


def on_page_content(html: str, **_: Any) -> str:
    """Return the page with its formulas, without the marks that only Sphinx reads."""
    return show_formulas(ROLE.sub("", html))
