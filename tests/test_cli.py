"""The command line, first around a stand-in for the sampler, then around the real one."""

import logging
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import hiermodels as hm
from hiermodels import cli
from hiermodels.cli.console import cell, print_table
from hiermodels.cli.prior_words import parse_priors

FILES = {
    "report.html",
    "fit.nc",
    "fixef.csv",
    "ranef.csv",
    "coef.csv",
    "varcorr.csv",
    "correlations.csv",
}


class StandInFit:
    """Tables of the right shape, and a note of what was asked."""

    def __init__(self, model, options):
        self.model = model
        self.options = options
        self.interrupted = model.interrupted

    def fixef(self):
        index = pd.Index(["Intercept", "x"], name="coefficient")
        return pd.DataFrame({"mean": [12345.678, 0.5], "r_hat": [1.0, float("nan")]}, index=index)

    def ranef(self):
        levels = [f"[g{i}]" for i in range(50)]
        return pd.DataFrame({"group": "g", "effect": "Intercept", "level": levels, "mean": 0.25})

    coef = ranef

    def varcorr(self):
        return pd.DataFrame({"group": ["g", "Residual"], "sd": [1.0, 2.0]})

    def correlations(self):
        return pd.DataFrame({"group": [], "mean": []})

    def save(self, path):
        path.write_text("draws", encoding="utf-8")


@pytest.fixture
def stand_in(monkeypatch):
    """Replace Model and report; returns what they were called with, and switches."""
    seen = SimpleNamespace(interrupted=False, fit_error=None, report_error=None, groups=("g",))

    class Model:
        def __init__(self, formula, data, **options):
            seen.formula, seen.data, seen.options = formula, data, options
            self.design = SimpleNamespace(groups=seen.groups, parameters=())
            self.interrupted = seen.interrupted

        def __str__(self):
            return "the model in words"

        def fit(self, **options):
            seen.sampling = options
            if seen.fit_error:
                raise seen.fit_error
            logging.getLogger("hiermodels").info("a note of the log")
            warnings.warn("2 divergences", hm.SamplingWarning, stacklevel=1)
            return StandInFit(self, options)

    def report(fit, path):
        if seen.report_error:
            raise seen.report_error
        path.write_text("<html>", encoding="utf-8")

    monkeypatch.setitem(vars(hm), "Model", Model)
    monkeypatch.setitem(vars(hm), "report", report)
    return seen


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("y,x,g\n1,2,a\n2,3,b\n", encoding="utf-8")
    return path


def names(folder):
    return {file.name for file in folder.iterdir()}


def test_fit_writes_everything_and_nothing_else(stand_in, data, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert cli.main(["fit", str(data), "y ~ x + (1 | g)", "--out", str(out)]) == 0
    assert names(out) == FILES
    assert names(out.parent) == {"out"}
    assert stand_in.formula == "y ~ x + (1 | g)"
    assert stand_in.data.shape == (2, 3)
    table = pd.read_csv(out / "fixef.csv")
    assert table.columns.tolist() == ["coefficient", "mean", "r_hat"]
    assert pd.read_csv(out / "ranef.csv").columns.tolist() == ["group", "effect", "level", "mean"]
    printed = capsys.readouterr()
    for text in ("the model in words", "Intercept", "12,346", "Residual", "[g0]", "Compiling"):
        assert text in printed.out
    assert "the first 40 of 50 rows" in printed.out
    assert printed.err.splitlines() == ["a note of the log", "warning: 2 divergences"]


def test_options_reach_the_model_and_the_sampler(stand_in, data, tmp_path):
    words = "--family poisson --draws 50 --tune 60 --chains 2 --cores 1 --seed 7 --engine pymc"
    arguments = ["fit", str(data), "y ~ x", *words.split(), "--out", str(tmp_path / "out")]
    arguments += ["--prior", "sd_g[x] = HalfNormal(sigma=2)", "--prior", "b=Normal(0, 1)"]
    assert cli.main(arguments) == 0
    priors = {"sd_g[x]": "HalfNormal(sigma=2)", "b": "Normal(0, 1)"}
    assert stand_in.options == {"family": "poisson", "priors": priors, "engine": "pymc"}
    sampling = {"draws": 50, "tune": 60, "chains": 2, "cores": 1, "seed": 7}
    assert stand_in.sampling == sampling | {"progress": False}


def test_a_prior_is_split_outside_brackets():
    text = "C(h, Treatment(reference='a'))[T.b]=Normal(mu=0, sigma=1)"
    assert parse_priors([text]) == {"C(h, Treatment(reference='a'))[T.b]": "Normal(mu=0, sigma=1)"}


def test_without_groups_the_coefficients_alone(stand_in, data, tmp_path):
    stand_in.groups = ()
    assert cli.main(["fit", str(data), "y ~ x", "--out", str(tmp_path / "out")]) == 0
    assert names(tmp_path / "out") == {"report.html", "fit.nc", "fixef.csv"}


def test_an_interrupted_fit_is_saved(stand_in, data, tmp_path, capsys):
    stand_in.interrupted = True
    assert cli.main(["fit", str(data), "y ~ x", "--out", str(tmp_path / "out")]) == 130
    assert names(tmp_path / "out") == FILES
    assert capsys.readouterr().err.splitlines()[-1] == "hiermodels: interrupted"


def test_ctrl_c_before_the_first_draw_leaves_nothing(stand_in, data, tmp_path, capsys):
    stand_in.fit_error = KeyboardInterrupt()
    assert cli.main(["fit", str(data), "y ~ x", "--out", str(tmp_path / "out")]) == 130
    assert names(tmp_path) == {"data.csv"}
    assert capsys.readouterr().err == "hiermodels: interrupted\n"


def test_a_failure_while_writing_leaves_the_old_files(stand_in, data, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "fit.nc").write_text("old", encoding="utf-8")
    stand_in.report_error = OSError(28, "No space left on device", "report.html")
    assert cli.main(["fit", str(data), "y ~ x", "--out", str(out)]) == 1
    assert names(out) == {"fit.nc"}
    assert (out / "fit.nc").read_text(encoding="utf-8") == "old"
    assert "No space left on device" in capsys.readouterr().err


def test_a_programming_error_is_not_hidden(stand_in, data, tmp_path):
    stand_in.fit_error = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError, match="ours"):
        cli.main(["fit", str(data), "y ~ x", "--out", str(tmp_path / "out")])


def error_line(arguments, capsys):
    """Return the single line on stderr of a command that ends with exit code 2."""
    assert cli.main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("value", "column", "text"),
    [
        (0.5, "mean", "0.5000"),
        (-23.0, "mean", "-23.00"),
        (409.6, "mean", "409.6"),
        (409.6, "ess_bulk", "410"),
        (999.99, "mean", "1000"),
        (12345.6, "mean", "12,346"),
        (0.00012345, "sd", "0.0001234"),
        (float("nan"), "r_hat", "–"),
        ("308", "level", "308"),
        (7, "n", "7"),
    ],
)
def test_cells_of_the_printed_tables(value, column, text):
    assert cell(value, column) == text


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--prior", "sd"], "--prior 'sd' is not KEY=VALUE"),
        (["--prior", "=Normal(0, 1)"], "is not KEY=VALUE"),
        (["--prior", "b=A(1)", "--prior", "b=B(1)"], "--prior gives 'b' twice"),
        (["--draws", "many"], "Invalid value for '--draws'"),
        (["--draws", "0"], "Invalid value for '--draws'"),
        (["--nope"], "No such option"),
    ],
)
def test_words_that_cannot_be_read(more, message, data, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in error_line(["fit", str(data), "y ~ x", *more], capsys)
    assert names(tmp_path) == {"data.csv"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "there is no file"),
        ("data.xlsx", b"y\n1\n", "has the suffix '.xlsx'"),
        ("cut.parquet", b"PAR1\x00\x00", "is not a readable Parquet file"),
        ("latin.csv", b"y,g\n1,\xe9\n", "is not UTF-8 text"),
        ("ragged.csv", b"y,x\n1,2\n3,4,5\n", "is not a comma separated table"),
    ],
)
def test_files_that_cannot_be_read(name, content, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert message in error_line(["fit", name, "y ~ x"], capsys)
    assert names(tmp_path) <= {name}


def test_a_folder_that_cannot_be_written_to_is_found_before_the_fit(stand_in, data, capsys):
    line = error_line(["fit", str(data), "y ~ x", "--out", str(data / "out")], capsys)
    assert "cannot be written to (Not a directory)" in line
    assert not hasattr(stand_in, "formula")


def test_the_data_are_not_overwritten(stand_in, tmp_path, capsys):
    path = tmp_path / "coef.csv"
    path.write_text("y\n1\n", encoding="utf-8")
    line = error_line(["fit", str(path), "y ~ 1", "--out", str(tmp_path)], capsys)
    assert "would be overwritten" in line
    assert path.read_text(encoding="utf-8") == "y\n1\n"


def test_an_error_of_the_package_is_one_line_with_the_place_marked(
    stand_in, data, tmp_path, capsys
):
    stand_in.fit_error = hm.FormulaError("Nothing follows '+'.\n    y ~ x +\n          ^\nAdd it.")
    line = error_line(["fit", str(data), "y ~ x +", "--out", str(tmp_path / "out")], capsys)
    assert line == "hiermodels: error: Nothing follows '+'. y ~ x »+« Add it."
    assert not (tmp_path / "out").exists()


def test_demo_writes_the_report(stand_in, tmp_path, capsys):
    assert cli.main(["demo", "--out", str(tmp_path)]) == 0
    assert names(tmp_path) == {"report.html"}
    assert stand_in.formula == "Reaction ~ Days + (Days | Subject)"
    assert stand_in.data.shape == (180, 3)
    printed = capsys.readouterr().out
    assert "Compiling" in printed
    assert f"{tmp_path / 'report.html'}" in printed


def test_no_words_give_the_help_and_success(capsys):
    assert cli.main([]) == 0
    assert "demo" in capsys.readouterr().out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"hiermodels {hm.__version__}\n"


def test_the_messages_of_the_command_leave_logging_as_it_was(stand_in, data, tmp_path):
    logger = logging.getLogger("hiermodels")
    before = (logger.level, list(logger.handlers), warnings.showwarning)
    cli.main(["fit", str(data), "y ~ x", "--out", str(tmp_path / "out")])
    assert (logger.level, list(logger.handlers), warnings.showwarning) == before


def test_the_module_runs_and_its_exit_code_is_the_process_s(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "hiermodels", "fit", "absent.csv", "y ~ x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "hiermodels: error: there is no file 'absent.csv'; check the path.\n"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A real fit by the command line, short; its folder."""
    folder = tmp_path_factory.mktemp("fitted")
    data = hm.load_dataset("sleepstudy").astype({"Subject": str})
    data.to_parquet(folder / "sleep.parquet")
    words = (
        "--draws 300 --tune 300 --chains 2 --cores 1 --seed 1 --prior sd_Subject=Exponential(.1)"
    )
    arguments = ["fit", str(folder / "sleep.parquet"), cli.DEMO_FORMULA, *words.split()]
    assert cli.main([*arguments, "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_the_widest_table_fits_80_characters(fitted, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    print_table("fixef", hm.load(fitted / "fit.nc").fixef())
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80
    for column in ("coefficient", "mean", "ci_high", "ess_tail", "r_hat"):
        assert column in printed


def test_a_long_name_is_folded_and_no_number_cut(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    names = pd.Index(["Intercept", "hours of sleep in the night before"], name="coefficient")
    values = {"mean": -0.314, "sd": 0.2127, "ci_low": -0.009695, "ci_high": 0.7147}
    checks = {"ess_bulk": 348.0, "ess_tail": 362.0, "r_hat": 0.998}
    print_table("fixef", pd.DataFrame(values | checks, index=names))
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert printed.count("-0.009695") == 2
    assert max(map(len, printed.splitlines())) <= 80


def test_a_real_fit_writes_every_file(fitted):
    assert names(fitted) == FILES


def test_the_tables_on_disk_are_those_of_the_saved_fit(fitted):
    fit = hm.load(fitted / "fit.nc")
    table = pd.read_csv(fitted / "fixef.csv", index_col="coefficient")
    # Written with all digits: nothing is lost but the last bit of a sum.
    pd.testing.assert_frame_equal(table, fit.fixef(), rtol=1e-12, check_index_type=False)
    assert len(pd.read_csv(fitted / "ranef.csv")) == 36
    priors = fit.model.priors.set_index("parameter")
    assert "user" in set(priors["source"])


def test_real_bad_input_is_one_line(data, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert "'z'" in error_line(["fit", str(data), "y ~ z", *out], capsys)
    line = error_line(["fit", str(data), "y ~ x + (1 | g", *out], capsys)
    assert "»" in line
    assert "gauss" in error_line(["fit", str(data), "y ~ x", "--family", "gauss", *out], capsys)
    data.write_text("y,x,g\n1,2,a\n2,3,b\n3,5,a\n4,4,b\n", encoding="utf-8")
    prior = ["--prior", "sd_g=Nope(1)"]
    assert "Nope" in error_line(["fit", str(data), "y ~ x + (1 | g)", *prior, *out], capsys)
    assert not (tmp_path / "out").exists()


def test_dropped_rows_are_told_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    frame = hm.load_dataset("Dyestuff").astype({"Yield": float})
    frame.loc[3, "Yield"] = float("nan")
    frame.to_csv("data.csv", index=False)
    words = ["fit", "data.csv", "Yield ~ 1 + (1 | Batch)", "--seed", "1", "--draws", "400"]
    assert cli.main(words) == 0
    said = capsys.readouterr()
    assert (said.out + said.err).count("1 row dropped") == 1


def test_a_study_is_fitted_as_its_file_says(stand_in, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["study", "eight_schools", "--seed", "7", "--out", str(out)]) == 0
    assert names(out) == FILES
    assert stand_in.formula == "y | se(sigma) ~ 1 + (1 | school)"
    assert stand_in.data.shape[0] == 8
    assert stand_in.options["family"] == "gaussian"
    assert stand_in.options["priors"]["sd"] == "HalfCauchy(beta=5)"
    assert stand_in.sampling["seed"] == 7
    printed = capsys.readouterr().out
    for text in ("Rubin, D. B. (1981)", "Variant random_effects, 8 rows", "closed form, reml"):
        assert text in printed


def test_a_variant_of_a_study_uses_its_own_rows_and_formula(stand_in, tmp_path, capsys):
    words = ["study", "sleepstudy", "--out", str(tmp_path)]
    assert cli.main([*words, "--variant", "uncorrelated_days2to9"]) == 0
    assert stand_in.formula == "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)"
    assert stand_in.data["Days"].min() == 2
    assert len(stand_in.data) == 144
    assert "lme4 1.1-31, reml, log-likelihood -702.3128: Intercept 245.1" in capsys.readouterr().out


def test_the_list_of_studies(capsys):
    assert cli.main(["study", "list"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == list(hm.list_studies().index)


def test_a_study_that_cannot_be_fitted_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HIERMODELS_DATA", raising=False)
    out = ["--out", str(tmp_path / "out")]
    assert "'dyestuff'" in error_line(["study", "dyestuf", *out], capsys)
    line = error_line(["study", "sleepstudy", "--variant", "corelated", *out], capsys)
    assert "Did you mean 'correlated'" in line
    line = error_line(["study", "gpa", *out], capsys)
    assert "HIERMODELS_DATA is not set" in line
    assert "m-clark/mixed-models-with-R" in line
    assert not (tmp_path / "out").exists()


@pytest.fixture
def trips(tmp_path, monkeypatch):
    """Work in a folder that has a folder of two files."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"x": rng.normal(size=120), "g": np.arange(120) % 6})
    frame["y"] = frame["x"] + frame["g"] % 3 + rng.normal(size=120)
    (tmp_path / "trips").mkdir()
    frame[:50].to_parquet(tmp_path / "trips" / "a.parquet")
    frame[50:].to_parquet(tmp_path / "trips" / "b.parquet")
    return frame


def test_a_source_beyond_memory(trips, tmp_path, capsys):
    words = "--memory 1KB --draws 250 --tune 300 --chains 2 --cores 1 --seed 1 --out out"
    assert cli.main(["fit", "trips/*.parquet", "y ~ x + (1 | g)", *words.split()]) == 0
    assert names(tmp_path / "out") == FILES
    printed = capsys.readouterr()
    assert "120 rows of 2 Parquet files ('trips/*.parquet') read in 2 passes" in printed.out
    fit = hm.load(tmp_path / "out" / "fit.nc")
    assert "120 rows of 2 Parquet files" in repr(fit.model.design)
    table = pd.read_csv(tmp_path / "out" / "fixef.csv", index_col="coefficient")
    pd.testing.assert_frame_equal(table, fit.fixef(), rtol=1e-12, check_index_type=False)


def test_memory_reaches_the_model_with_the_source(stand_in, data, tmp_path):
    words = ["fit", str(data), "y ~ x", "--memory", "4GB", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    assert stand_in.options["memory"] == "4GB"
    assert stand_in.data == str(data)


def test_a_source_is_looked_over(trips, capsys):
    for more in ([], ["--memory", "1KB"]):
        assert cli.main(["lint", "trips", "y ~ x + (1 | g)", *more]) == 0
        printed = capsys.readouterr()
        assert "120 rows of 2 Parquet files ('trips')" in printed.err
        assert "No findings" in printed.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trips", "y ~ z"], "The data have no column 'z'"),
        (["trips", "y ~ x", "--out", "trips/out"], "lies in the folder of the data"),
        (["trips/c*.parquet", "y ~ x"], "no file matches 'trips/c*.parquet'"),
        (["trips/a.parquet", "trips/b.parquet", "y ~ x"], "belongs in quotes: 'trips/*.parquet'"),
        (["s3://trips/*.parquet", "y ~ x"], "is an address"),
        (["trips", "y ~ x", "--memory", "much"], "memory must be a size"),
        (
            ["trips", "y ~ x", "--memory", "1KB", "--family", "poisson"],
            "or hold the rows: --memory",
        ),
        (["duckdb:///none.db?table=t", "y ~ x"], "there is no file 'none.db'"),
    ],
)
def test_sources_that_cannot_be_fitted(words, message, trips, tmp_path, capsys):
    assert message in error_line(["fit", *words], capsys)
    assert names(tmp_path) == {"trips"}
    assert names(tmp_path / "trips") == {"a.parquet", "b.parquet"}


def test_a_reader_that_goes_away_stops_nothing(tmp_path):
    """What is printed into a closed pipe is lost; what comes after it is done."""
    script = (
        "import sys\n"
        "from hiermodels.cli.console import say\n"
        "for _ in range(5):\n"
        "    say('x' * 100_000)\n"
        "open(sys.argv[1], 'w').close()\n"
    )
    written = tmp_path / "written"
    command = [sys.executable, "-c", script, str(written)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.read(10)
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 0
    assert written.exists()
