"""The notebooks as files, and the program that executes them on small ones of its own.

What the notebooks claim is asserted in their last cells, which run where .ci/run-notebooks.py does.
"""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hiermodels.library.datasets import SOURCES
from hiermodels.library.studies import load_study, study_names

ROOT = Path(__file__).resolve().parents[1]
RUNNER = ROOT / ".ci" / "run-notebooks.py"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
LARGEST = 400_000

if not NOTEBOOKS or not RUNNER.is_file():
    pytest.skip("the notebooks are in the checkout only", allow_module_level=True)


def script(name):
    """Return a program of .ci as a module."""
    spec = importlib.util.spec_from_file_location(
        name.replace("-", "_"), ROOT / ".ci" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runner():
    return script("run-notebooks")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def pair(request, runner):
    """A notebook as its .py says it, and the path of its .ipynb."""
    return runner.jupytext.read(request.param), request.param.with_suffix(".ipynb")


def code_of(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_eight():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{k:02d}" for k in range(1, 9)]


def test_both_halves_of_a_pair_hold_the_same_cells(pair, runner):
    assert runner.disagreement(*pair) == ""


def test_an_edit_of_one_half_is_noticed(pair, runner):
    source, stored = pair
    source.cells[-1].source += "\n1 + 1"
    assert "has other cells" in runner.disagreement(source, stored)
    assert "is absent" in runner.disagreement(source, stored.with_name("no.ipynb"))


def test_what_is_stored_is_small_and_has_pictures(pair, runner):
    _, path = pair
    assert path.stat().st_size < LARGEST
    stored = runner.nbformat.read(path, as_version=4)
    outputs = [output for cell in stored.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [o for o in outputs if o.output_type == "stream" and o.name == "stderr"]
    text = path.read_text(encoding="utf-8")
    assert "/tmp" not in text
    assert str(Path.home()) not in text


def test_a_question_a_notice_and_an_exercise_with_a_hidden_answer(pair):
    notebook, _ = pair
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "**The question.**" in prose
    assert prose.count("**Notice**") >= 2
    assert "## Exercise" in prose
    answer = re.search(r"<details><summary>Answer</summary>(.+?)</details>", prose, re.DOTALL)
    assert answer is not None
    assert "```python" in answer[1]


def test_the_last_cell_asserts_the_headline_numbers(pair):
    notebook, _ = pair
    last = ast.parse(code_of(notebook)[-1])
    assert sum(isinstance(node, ast.Assert) for node in last.body) >= 5


def test_the_header_names_the_data_that_are_not_bundled(pair):
    notebook, _ = pair
    calls = re.findall(r"\b(load_study|load_dataset)\(\"(\w+)\"\)", "\n".join(code_of(notebook)))
    assert calls
    used = {load_study(name).data if how == "load_study" else name for how, name in calls}
    declared = notebook.metadata["hiermodels"]["data"]
    assert sorted(declared) == sorted(name for name in used if not SOURCES[name].bundled)


HEADER = """\
# ---
# jupyter:
#   hiermodels:
#     data: [{data}]
# ---

# %%
"""


def run_folder(folder, *words, data=None):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HIERMODELS_")}
    environment["HIERMODELS_SHARED"] = str(folder / "absent")
    if data is not None:
        environment["HIERMODELS_DATA"] = str(data)
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(RUNNER), str(folder), *words],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip


def test_without_its_data_a_notebook_is_left_out_and_that_is_said(tmp_path):
    (tmp_path / "1.py").write_text(HEADER.format(data="gpa") + "1 / 0\n", encoding="utf-8")
    done = run_folder(tmp_path, "--write")
    assert done.returncode == 0
    assert "1.py: left out, gpa not at hand (HIERMODELS_DATA)" in done.stdout
    assert not (tmp_path / "1.ipynb").exists()


def test_data_that_are_there_are_found_pictures_stored_and_errors_end_the_run(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "gpa.csv").write_text("gpa\n2.5\n", encoding="utf-8")
    cell = (
        "import os\nimport matplotlib.pyplot as plt\n"
        "assert os.path.isfile(os.path.join(os.environ['HIERMODELS_DATA'], 'gpa.csv'))\n"
        "plt.plot([1, 2])\nplt.show()\n"
    )
    (tmp_path / "1.py").write_text(HEADER.format(data="gpa") + cell, encoding="utf-8")
    (tmp_path / "2.py").write_text(HEADER.format(data="") + "assert 1 == 2\n", encoding="utf-8")
    done = run_folder(tmp_path, "--write", data=data)
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
    assert '"image/png"' in (tmp_path / "1.ipynb").read_text(encoding="utf-8")
    assert not (tmp_path / "2.ipynb").exists()


def test_the_table_of_studies_in_the_readme_is_what_the_folder_gives():
    studies = script("write-study-table")
    text = studies.README.read_text(encoding="utf-8")
    assert studies.with_table(text) == text
    assert all(f"(models/{name}.toml)" in text for name in study_names())
    with pytest.raises(SystemExit, match="lacks the marks"):
        studies.with_table("no marks")
