"""numba's cache: what is said, what is kept, and that processes do each other no harm.

Tried with functions that compile in a moment; the whole kernels are marked slow.
"""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numba
import numpy as np
import pytest
from numba import types
from numba.core.caching import IndexDataCacheFile

from hiermodels.spec import compiling
from hiermodels.spec.compiling import cached_callback, cached_kernel

ROOT = Path(compiling.__file__).parents[2]


def scaled(factor):
    def kernel(x):
        return factor * x

    return kernel


def kernel_of(factor):
    """Return a kernel, and what it gives for 2."""
    compiled = cached_kernel(scaled(factor))
    return compiled, compiled(2.0)


def hits(compiled):
    return sum(compiled.stats.cache_hits.values())


@pytest.fixture(autouse=True)
def fresh():
    compiling._announce.cache_clear()
    yield
    compiling._announce.cache_clear()


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def no_folder(monkeypatch, tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(in_the_way / "cache"))
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")


# --- what is said ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_the_first_compilation_is_said_where_users_see_it(caplog):
    assert kernel_of(3.0)[1] == 6.0
    kernel_of(4.0)
    (said,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    # unhandled warnings of a logger go to stderr
    assert said.name == "hiermodels"
    for part in ("Compiling", "cross-products, log densities, exact draws", "up to a minute"):
        assert part in said.message
    assert "later fits start at once" in said.message


@pytest.mark.usefixtures("folder")
def test_what_comes_from_the_cache_says_nothing(caplog):
    kernel_of(3.0)
    compiling._announce.cache_clear()
    caplog.clear()
    compiled, value = kernel_of(3.0)
    assert (value, hits(compiled)) == (6.0, 1)
    assert not caplog.records


@pytest.mark.usefixtures("no_folder")
def test_without_a_folder_it_compiles_and_says_why_each_time(caplog):
    compiled, value = kernel_of(3.0)
    assert (value, hits(compiled)) == (6.0, 0)
    (said,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "no folder that can be written to" in said.message
    assert "NUMBA_CACHE_DIR" in said.message


def test_a_folder_that_fills_up_does_not_stop_a_fit(monkeypatch, folder, caplog):
    def full(self, name, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "_save_data", full)
    assert kernel_of(3.0)[1] == 6.0
    assert "could not be kept" in caplog.text
    assert "No space left" in caplog.text
    monkeypatch.undo()
    # the index does not speak of code that was never written
    assert not list(folder.rglob("*.nbi"))


def test_a_lock_that_is_held_for_long_does_not_stop_a_fit(monkeypatch, folder, caplog):
    kernel_of(3.0)
    (index,) = folder.rglob("*.nbi")
    monkeypatch.setattr(compiling, "_LOCK_SECONDS", 0.1)
    with compiling.filelock.FileLock(index.parent / compiling._LOCK):
        assert kernel_of(4.0)[1] == 8.0
    assert "could not be kept" in caplog.text
    assert hits(kernel_of(3.0)[0]) == 1


# --- broken caches --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("left", [0, 30, 200])
def test_a_broken_cache_is_replaced(folder, kind, left):
    kernel_of(3.0)
    (file,) = folder.rglob(f"*.{kind}")
    file.write_bytes(file.read_bytes()[:left])
    compiled, value = kernel_of(3.0)
    assert (value, hits(compiled)) == (6.0, 0)
    compiled, value = kernel_of(3.0)
    assert (value, hits(compiled)) == (6.0, 1)


def twice(x):
    return 2.0 * x


def test_callbacks_are_kept_too(folder):
    signature = types.float64(types.float64)
    first, second = (cached_callback(twice, signature) for _ in range(2))
    assert (first.cache_hits, second.cache_hits) == (0, 1)
    assert first.ctypes(3.0) == second.ctypes(3.0) == 6.0


# --- several processes ----------------------------------------------------------------------------


def test_two_that_write_at_once_get_two_files(tmp_path):
    """The second begins to write while the first is in the middle of it."""
    files = [
        compiling._KernelFile(IndexDataCacheFile(str(tmp_path), "kernel", "stamp"))
        for _ in range(2)
    ]
    halfway, tried = threading.Event(), threading.Event()
    write = files[0]._save_data

    def slowly(name, data):
        halfway.set()
        assert tried.wait(10)
        # the other one would be done by now, had it not to wait
        other.join(0.3)
        write(name, data)

    files[0]._save_data = slowly
    other = threading.Thread(target=files[1].save, args=("B", "code of B"))

    def start_other():
        assert halfway.wait(10)
        other.start()
        tried.set()

    starter = threading.Thread(target=start_other)
    starter.start()
    files[0].save("A", "code of A")
    starter.join()
    other.join(10)
    found = compiling._KernelFile(IndexDataCacheFile(str(tmp_path), "kernel", "stamp"))
    assert found.load("A") == "code of A"
    assert found.load("B") == "code of B"


_MANY = """
import sys
import importlib.util
import numpy as np
spec = importlib.util.spec_from_file_location("kernels", sys.argv[1])
kernels = sys.modules["kernels"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kernels)
hits = 0
for factor in map(float, sys.argv[2:]):
    compiled, value = kernels.kernel_of(factor)
    assert value == 2 * factor, (factor, value)
    hits += kernels.hits(compiled)
print(hits)
"""


def environment(folder):
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": path}


def started(folder, script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=environment(folder), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finished(process):
    out, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err
    return out, err


def test_two_processes_compile_forms_of_one_kernel_at_once(tmp_path):
    factors = [["1", "2", "3", "4"], ["4", "3", "5", "6"]]
    own = str(Path(__file__))
    with started(tmp_path, _MANY, own, *factors[0]) as first:
        with started(tmp_path, _MANY, own, *factors[1]) as second:
            finished(second)
        finished(first)
    with started(tmp_path, _MANY, own, "1", "2", "3", "4", "5", "6") as process:
        out, _ = finished(process)
    assert out.split() == ["6"]


_FIT = """
import sys
import numpy as np, pandas as pd
import hiermodels as hm
rng = np.random.default_rng(0)
g, c = np.repeat(np.arange(8), 10), rng.integers(0, 5, 80)
data = pd.DataFrame({"y": rng.normal(size=80) + rng.normal(size=8)[g], "g": g, "c": c})
for case in sys.argv[1:]:
    formula, engine = case.split("/")
    fit = hm.Model(formula, data, engine=engine).fit(draws=500, tune=300, seed=1, progress=False)
    print(fit.fixef()["mean"].iloc[0], fit.posterior["sigma"].values.std())
"""
_CASES = ("y ~ 1 + (1 | g)/marginal", "y ~ 1 + (1 | g)/conditional")


def lines(out):
    return np.array([line.split() for line in out.splitlines()], dtype=float)


@pytest.mark.slow
def test_two_first_fits_at_once_on_an_empty_cache(tmp_path):
    with (
        started(tmp_path, _FIT, *_CASES) as one,
        started(tmp_path, _FIT, *_CASES[::-1]) as other,
    ):
        outputs = [finished(process) for process in (one, other)]
    first, second = (lines(out) for out, _ in outputs)
    np.testing.assert_array_equal(first, second[::-1])
    for _, said in outputs:
        assert said.count("Compiling the numerical kernels") == 1
    with started(tmp_path, _FIT, *_CASES) as again:
        out, said = finished(again)
    np.testing.assert_array_equal(lines(out), first)
    # everything came from the cache
    assert "Compiling" not in said


@pytest.mark.slow
def test_a_first_fit_where_nothing_can_be_written(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    own = environment(in_the_way / "cache")
    own["NUMBA_CACHE_LOCATOR_CLASSES"] = "UserProvidedCacheLocator"
    for case in _CASES:
        command = [sys.executable, "-c", _FIT, case]
        done = subprocess.run(command, env=own, text=True, capture_output=True, timeout=1800)
        assert done.returncode == 0, done.stderr
        assert np.isfinite(lines(done.stdout)).all()
        assert done.stderr.count("no folder that can be written to") == 1
