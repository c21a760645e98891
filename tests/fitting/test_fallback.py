"""Whole fits where nutpie's internals have changed: the same posterior, and the reason."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hiermodels.engines import native
from hiermodels.fitting.model import Model

ROOT = Path(native.__file__).parents[2]


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"g": np.repeat(np.arange(10), 8), "time": np.tile(np.arange(8), 10)})
    frame["x"] = rng.normal(size=80)
    frame["y"] = 1 + rng.normal(size=10)[frame.g] + frame.x + rng.normal(size=80)
    frame["count"] = rng.poisson(3, 80)
    return frame


@pytest.fixture
def changed_nutpie(monkeypatch):
    def change():
        monkeypatch.setattr(native, "_SIGNATURES", {"LogpFunc": ("ptr", "data")})
        native.native_unavailable.cache_clear()

    yield change
    monkeypatch.undo()
    native.native_unavailable.cache_clear()


@pytest.mark.parametrize(
    ("formula", "family", "engine"),
    [
        ("y ~ x + (x | g)", "gaussian", "marginal"),
        ("y ~ x + (1 | g) + ar(time, g)", "gaussian", "marginal"),
        ("y ~ x + (x | g)", "gaussian", "conditional"),
        ("count ~ x + (1 | g)", "poisson", "conditional"),
    ],
)
def test_a_changed_nutpie_gives_the_same_posterior(
    data, formula, family, engine, quick_fit, changed_nutpie, caplog
):
    model = Model(formula, data, family, engine=engine)
    fit = quick_fit(model)
    assert "Python interface" not in fit.idata.attrs["how"]
    caplog.clear()
    changed_nutpie()
    again = quick_fit(model)
    reason = "nutpie's LogpFunc takes (ptr, user_data_ptr, keep_alive), not (ptr, data)"
    assert f"nutpie's Python interface ({reason})" in again.idata.attrs["how"]
    said = [r for r in caplog.records if reason in r.message]
    assert [r.levelname for r in said] == ["WARNING"]
    # the same density from the same seed: draw by draw the same numbers
    for name, values in fit.posterior.data_vars.items():
        np.testing.assert_array_equal(values.values, again.posterior[name].values)
    pd.testing.assert_frame_equal(fit.summary(), again.summary())


_GRAPH = """
import numpy as np, pandas as pd, warnings
import hiermodels as hm
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
data = pd.DataFrame({"hit": rng.poisson(1.0, 60), "g": np.repeat(np.arange(6), 10)})
model = hm.Model("hit ~ 1 + (1 | g)", data, "poisson", link="sqrt")
fit = model.fit(draws=200, tune=200, chains=2, seed=1, progress=False)
print(float(fit.fixef()["mean"].iloc[0]), fit.idata.attrs["how"])
"""


@pytest.mark.slow
def test_a_machine_without_a_c_compiler(tmp_path):
    """No compiler on the path, and no folder of earlier compilations."""
    empty = tmp_path / "bin"
    empty.mkdir()
    own = os.environ | {"PATH": str(empty), "HOME": str(tmp_path)}
    own["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", _GRAPH], env=own, text=True, capture_output=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    mean, how = done.stdout.split(maxsplit=1)
    assert 0.0 < abs(float(mean)) < 2.0
    assert "PyMC graph (there is no kernel for the family poisson with link sqrt)" in how
    assert "Compiling the model's PyMC graph" in done.stderr
    assert "PyTensor finds no C++ compiler" in done.stderr
