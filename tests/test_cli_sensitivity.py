"""``hiermodels sensitivity``: tables, picture and page in a folder, and a run that goes on."""

import shutil

import pandas as pd
import pytest

import hiermodels as hm
from hiermodels import cli

FORMULA = "Yield ~ 1 + (1 | Batch)"
WRITTEN = {
    "alternatives.csv",
    "power_scaling.csv",
    "quantities.csv",
    "sensitivity.html",
    "sensitivity.png",
}


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "dyes.csv"
    hm.load_dataset("Dyestuff").to_csv(path, index=False)
    return str(path)


def alternatives(tmp_path, text):
    path = tmp_path / "alternatives.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_run_and_its_going_on(data, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    file = alternatives(
        tmp_path,
        '[wide]\nsd = "HalfNormal(sigma=150)"\n\n'
        '[calm]\nsigma = {dist = "PC", u = 100, alpha = 0.05}\n',
    )
    words = ["sensitivity", data, FORMULA, "--alternatives", file, "--out", str(out)]
    words += ["--prior", "sd=HalfNormal(sigma=100)"]
    assert cli.main(words) == 0
    assert {path.name for path in out.iterdir()} == {*WRITTEN, "results"}
    listed = pd.read_csv(out / "alternatives.csv").set_index("alternative")
    assert set(listed.index) == {"wide", "calm"}
    assert "Going on" not in capsys.readouterr().out
    first = (out / "quantities.csv").read_text()
    for name in WRITTEN:
        (out / name).unlink()
    monkeypatch.setattr("hiermodels.fitting.model.Model.fit", None)
    assert cli.main(words) == 0
    assert "Going on with the fit kept" in capsys.readouterr().out
    assert (out / "quantities.csv").read_text() == first
    # nothing of the study's before is left out of another one's way
    shutil.rmtree(out)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[wide]\nsd = "HalfNormal(sigma=9)"\n[broken\n', "at line 3, column 8"),
        ('[wide]\nsdd = "HalfNormal(sigma=9)"\n', "Alternative 1 (wide): The prior key 'sdd'"),
        ('[wide]\nsd = "HalfNormal(sigma=0)"\n', "sigma must be finite and above 0"),
        ('sd = "HalfNormal(sigma=9)"\n', "'sd' is no table of priors"),
        ("", "holds no alternative"),
    ],
)
def test_bad_alternatives_are_said_before_anything_is_fitted(
    data, tmp_path, capsys, monkeypatch, text, message
):
    monkeypatch.setattr("hiermodels.fitting.model.Model.fit", None)
    file = alternatives(tmp_path, text)
    out = tmp_path / "out"
    code = cli.main(["sensitivity", data, FORMULA, "--alternatives", file, "--out", str(out)])
    assert code == cli.BAD_INPUT
    shown = capsys.readouterr().err.strip()
    assert message in shown
    assert "\n" not in shown
    assert not out.exists()


def test_no_such_file_study_or_folder(data, tmp_path, capsys):
    assert cli.main(["sensitivity", data, FORMULA, "--alternatives", "none.toml"]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert cli.main(["sensitivity", "no-such-study", "--out", str(tmp_path / "out")]) == 2
    assert "no-such-study" in capsys.readouterr().err
    file = tmp_path / "file"
    file.write_text("")
    assert cli.main(["sensitivity", data, FORMULA, "--out", str(file / "out")]) == 2
    assert "cannot be written to" in capsys.readouterr().err
