"""The pages as they are written: every block runs, every name exists, nothing is left out."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from code_blocks import PageError, find_blocks, run_blocks

import hiermodels as hm
from hiermodels.spec.findings_catalogue import KINDS, PAGE

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
WITH_CODE = [page for page in PAGES if "```python" in (DOCS / page).read_text(encoding="utf-8")]
ATTRIBUTE = re.compile(r"\bhm\.(\w+)")


def text_of(page):
    return (DOCS / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_one_title_and_blocks_that_are_python(page):
    text = text_of(page)
    outside = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    assert len(re.findall(r"^# ", outside, re.MULTILINE)) == 1
    for block in find_blocks(page, text):
        ast.parse(block.code)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_what_exists(page):
    unknown = {name for name in ATTRIBUTE.findall(text_of(page)) if not hasattr(hm, name)}
    assert not unknown


@pytest.mark.parametrize("page", PAGES)
def test_pictures_are_drawn_and_not_pasted(page):
    assert not re.search(r"!\[|<img", text_of(page))


def test_the_reference_has_every_public_name_once():
    named = []
    for path in (DOCS / "reference").glob("*.md"):
        named += re.findall(r"^::: hiermodels\.(\w+)$", path.read_text(encoding="utf-8"), re.M)
    public = {name for name in hm.__all__ if not name.startswith("__")}
    assert len(named) == len(set(named))
    assert set(named) == public


def test_the_gallery_has_every_plot():
    drawn = "".join(
        block.code
        for block in find_blocks("gallery.md", text_of("gallery.md"))
        if "figure" in block.options
    )
    plots = {name for name in hm.__all__ if name.startswith("plot_")}
    assert {name for name in plots if f"hm.{name}(" not in drawn} == set()
    assert {name for name in plots if f"\n## {name}\n" not in text_of("gallery.md")} == set()


def test_the_words_for_a_picture_say_something():
    for page in WITH_CODE:
        for block in find_blocks(page, text_of(page)):
            assert len(block.options.get("figure", "x" * 40)) >= 40, block.place


def test_arguments_in_the_tables_exist():
    """``hm.predict(kind="linear")`` in a table is checked as code would be."""
    checked = 0
    for page in PAGES:
        outside = re.sub(r"^ *```.*?^ *```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
        for call in re.findall(r"`(hm\.\w+\([^`]*\))`", outside):
            whole = re.sub(r"=(?=[,)])", "=0", call.replace("\\|", "|"))
            for inner in ast.walk(ast.parse(whole)):
                if isinstance(inner, ast.Call) and re.fullmatch(
                    r"hm\.\w+", ast.unparse(inner.func)
                ):
                    takes = inspect.signature(getattr(hm, inner.func.attr)).parameters
                    if any(t.kind is inspect.Parameter.VAR_KEYWORD for t in takes.values()):
                        continue
                    assert {k.arg for k in inner.keywords} <= set(takes), f"{page}: {call}"
                    checked += 1
    assert checked > 20


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE)
def test_every_block_runs(page):
    outcomes = list(run_blocks(page, text_of(page)))
    assert len(outcomes) == len(find_blocks(page, text_of(page)))


def test_the_map_of_the_house_names_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/.-]+(?:\.(?:py|toml|md|yml)|/))`", text))
    places = (ROOT, ROOT / "hiermodels")
    named.discard("site/")  # written by the build
    rooms = [path for path in (ROOT / "hiermodels").iterdir() if path.is_dir()]
    missing = {
        name for name in named if not any((place / name).exists() for place in (*places, *rooms))
    }
    assert len(named) > 50
    assert not missing


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_beside_the_site_lead_to_files(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_finding_of_lint_has_its_anchor():
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    anchors = re.findall(r"^### .* \{#([\w-]+)\}$", text, re.MULTILINE)
    assert sorted(anchors) == sorted(KINDS)


# --- what the pages are run with


def run(text):
    return list(run_blocks("page.md", text))


def test_blocks_share_a_namespace_and_say_what_they_print_and_are():
    first, second = run("```python\nx = 2\nprint(x)\n```\n\n  ```python\n  x + 1\n  ```\n")
    assert (first.text, second.text) == ("2", "3")
    assert second.block.indent == "  "


def test_a_picture_needs_words_and_words_need_a_picture():
    drawing = "import matplotlib.pyplot as plt\nfigure, ax = plt.subplots()\nax"
    (outcome,) = run(f'```python figure="an empty frame"\n{drawing}\n```')
    assert outcome.svg.startswith(b"<?xml")
    with pytest.raises(PageError, match="no words describe"):
        run(f"```python\n{drawing}\n```")
    with pytest.raises(PageError, match="is no picture but 3"):
        run('```python figure="a three"\n3\n```')


def test_the_same_block_draws_the_same_file():
    text = (
        '```python figure="a line"\nimport matplotlib.pyplot as plt\n'
        "figure, ax = plt.subplots()\nax.plot([1, 2])\nfigure\n```"
    )
    assert run(text)[0].svg == run(text)[0].svg


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (
            "```python\n1 / 0\n```",
            r"page.md, line 1 \(block 1\): raises ZeroDiv\w+, not None",
        ),
        ('```python raises="KeyError"\n1 / 0\n```', "raises ZeroDivisionError, not KeyError"),
        ('```python raises="KeyError"\n1\n```', "raises None, not KeyError"),
        (
            "```python\nimport warnings, hiermodels as hm\n"
            "warnings.warn('few draws', hm.SamplingWarning)\n```",
            "warns .'SamplingWarning'., not None",
        ),
        ("```python figur='x'\n1\n```", "after python stands"),
        ("```python\n1\n", "1 Python blocks are opened, 0 are whole"),
    ],
)
def test_a_block_that_does_not_do_what_the_page_says(block, message):
    with pytest.raises(PageError, match=message):
        run(block)


def test_a_block_may_show_its_error_and_its_warning():
    (error,) = run('```python raises="ZeroDivisionError"\n1 / 0\n```')
    assert error.text == "ZeroDivisionError: division by zero"
    (warning,) = run(
        '```python warns="SamplingWarning"\nimport warnings, hiermodels as hm\n'
        "warnings.warn('few draws', hm.SamplingWarning)\n```"
    )
    assert warning.text == "SamplingWarning: few draws"


def test_formulas_become_mathml_and_code_keeps_its_dollars():
    formulas = pytest.importorskip("formulas", reason="the docs extra is not installed")
    hidden = formulas.hide_formulas("$x_1$ `$y$`\n\n```text\n$z$\n```\n\n$$a_b\n= b$$")
    assert "_" not in hidden
    shown = formulas.show_formulas(hidden)
    assert shown.count("<math") == 2
    assert 'display="block"' in shown
    assert "`$y$`" in shown
    assert "\n$z$\n" in shown
