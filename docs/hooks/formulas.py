"""TeX between dollar signs as MathML, which browsers show by themselves.

Markdown would read the underscores of TeX, and take MathML at the start of a line for a block. So
formulas pass through it as words without meaning, and become MathML afterwards.
"""

import re

from latex2mathml.converter import convert

# Code keeps its dollar signs.
CODE = re.compile(r"(^ *```.*?^ *```[ ]*$|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
DISPLAYED = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
INLINE = re.compile(r"\$([^$\n]+?)\$")


def hide_formulas(markdown: str) -> str:
    """Return the Markdown with each formula as a word that Markdown leaves as it is."""
    parts = CODE.split(markdown)
    parts[::2] = [_hide(text) for text in parts[::2]]
    return "".join(parts)


def show_formulas(html: str) -> str:
    """Return the HTML that Markdown made, with the formulas as MathML."""
    return re.sub(
        r"formula(block|inline)x([0-9a-f]+)x", lambda found: _mathml(*found.groups()), html
    )


def _hide(text: str) -> str:
    """Return text without code, its formulas as words."""
    text = DISPLAYED.sub(lambda found: f"\n\n{_word('block', found[1])}\n\n", text)
    return INLINE.sub(lambda found: _word("inline", found[1]), text)


def _word(display: str, tex: str) -> str:
    """Return the word that stands for a formula."""
    return f"formula{display}x{tex.encode().hex()}x"


def _mathml(display: str, word: str) -> str:
    """Return the formula that a word stands for."""
    tex = " ".join(bytes.fromhex(word).decode().split())
    mathml: str = convert(tex, display=display)
    return mathml
