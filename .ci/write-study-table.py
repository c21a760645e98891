"""Write the table of studies, made from the folder ``models``, between its marks in README.md.

python .ci/write-study-table.py           write it
python .ci/write-study-table.py --check   exit 1 where README.md holds another one
"""

import sys
from pathlib import Path

import hiermodels as hm
from hiermodels.library.datasets import SOURCES
from hiermodels.library.studies import Study

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN = "<!-- studies: written by .ci/write-study-table.py from models/ -->"
END = "<!-- end of studies -->"


def cell(text: str) -> str:
    """Return a text that a cell of a Markdown table can hold."""
    return text.replace("|", "\\|").replace("\n", " ")


def row(study: Study) -> str:
    """Return the line of a study."""
    main = study.variant()
    formula = main.formula if isinstance(main.formula, str) else "; ".join(main.formula)
    tools = sorted({r.tool for v in study.variants.values() for r in v.references.values()})
    data = "bundled" if SOURCES[study.data].bundled else "`HIERMODELS_DATA`"
    cells = [
        f"[{study.name}](models/{study.name}.toml)",
        study.title,
        f"`{formula}`",
        main.family,
        str(len(study.variants)),
        ", ".join(tools),
        data,
    ]
    return "| " + " | ".join(cell(text) for text in cells) + " |"


def table() -> str:
    """Return the table, its marks included."""
    head = ["study", "what it is", "main model", "family", "models", "checked against", "data"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += [row(hm.load_study(name)) for name in hm.list_studies().index]
    return "\n".join([BEGIN, *lines, END])


def with_table(text: str) -> str:
    """Return the text of a README whose table of studies is the present one."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{README} lacks the marks {BEGIN!r} and {END!r}")
    return before + table() + after


def main(words: list[str]) -> int:
    """Write the table, or say that it is out of date."""
    text = README.read_text(encoding="utf-8")
    wanted = with_table(text)
    if words == ["--check"]:
        if text != wanted:
            print("README.md: the table of studies is out of date; run `make studies`")
        return int(text != wanted)
    README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
