"""Many jobs, one after another, in processes and on a Dask cluster: one answer."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import CancelledError
from pathlib import Path

import distributed
import numpy as np
import pytest

import hiermodels as hm
from hiermodels.answers.parallel_runs import _gathered, run_all, run_each
from hiermodels.errors import FitError, SamplingWarning


def noisy(base, seed):
    """Return numbers that hang on the seed alone, with a warning for odd ones."""
    if seed % 2:
        warnings.warn(f"seed {seed} is odd", SamplingWarning, stacklevel=2)
    rng = np.random.default_rng([base, seed])
    matrix = rng.normal(size=(300, 300))
    return float((matrix @ matrix).sum())


def lost_once(folder, seed):
    """End the whole worker the first time that seed 1 comes along."""
    mark = Path(folder) / "came"
    if seed == 1 and not mark.exists():
        mark.write_text("")
        os._exit(1)
    return seed


def always_lost(shared, seed):
    os._exit(1)


def failing(shared, seed):
    if seed == 2:
        raise FitError("this one cannot be")
    return seed


@pytest.fixture(scope="module")
def client():
    # the cluster's own threads warn as they like
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
        )
        with cluster, distributed.Client(cluster) as own:
            yield own


@pytest.fixture(scope="module")
def expected():
    with pytest.warns(SamplingWarning):
        return run_all(noisy, 7, range(5))


def test_jobs_run_here_in_order():
    assert list(run_each(pow, 2, [3, 5, 1])) == [(0, 8), (1, 32), (2, 2)]
    assert run_all(pow, 2, []) == []


def test_warnings_of_a_job_come_once_each_with_their_place():
    with pytest.warns(SamplingWarning) as caught:
        run_all(noisy, 7, range(5))
    assert [str(one.message) for one in caught] == ["seed 1 is odd", "seed 3 is odd"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_processes_give_the_same_answer_and_warnings(expected):
    with pytest.warns(SamplingWarning) as caught:
        assert run_all(noisy, 7, range(5), cores=2) == expected
    assert sorted(str(one.message) for one in caught) == ["seed 1 is odd", "seed 3 is odd"]


@pytest.mark.slow
def test_what_a_lost_process_had_is_done_again(tmp_path, caplog):
    assert run_all(lost_once, str(tmp_path), range(4), cores=2) == [0, 1, 2, 3]
    assert "A worker process was lost" in caplog.text
    with pytest.raises(FitError, match="ended 3 times without finishing any of the 3 refits left"):
        run_all(always_lost, None, range(3), cores=2, what="Refits")


@pytest.mark.slow
def test_an_error_in_a_process_is_raised_here():
    with pytest.raises(FitError, match="this one cannot be"):
        run_all(failing, None, range(4), cores=2)


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_answer_and_does_lost_work_again(client, expected, tmp_path):
    with pytest.warns(SamplingWarning) as caught:
        assert run_all(noisy, 7, range(5), client=client) == expected
    assert sorted(str(one.message) for one in caught) == ["seed 1 is odd", "seed 3 is odd"]
    with pytest.raises(FitError, match="this one cannot be"):
        run_all(failing, None, range(4), client=client)
    assert run_all(lost_once, str(tmp_path), range(4), client=client) == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_refits_are_the_same_wherever_they_run(client):
    model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    fit = model.fit(draws=100, tune=100, chains=2, seed=1, progress=False)
    here = hm.kfold(fit, 3).pointwise
    assert hm.kfold(fit, 3, cores=2).pointwise.equals(here)
    assert hm.kfold(fit, 3, client=client).pointwise.equals(here)
    settings = {"draws": 100, "tune": 100, "seed": 2, "progress": False}
    ranks = hm.sbc(model, 4, cores=1, **settings).ranks
    assert hm.sbc(model, 4, client=client, **settings).ranks.equals(ranks)


def kill_a_busy_worker(client, killed):
    """End the process of the first worker that has something to do."""
    processes = client.run(os.getpid)
    while not killed:
        for address, tasks in client.processing().items():
            if tasks and address in processes:
                os.kill(processes[address], signal.SIGKILL)
                killed.append(address)
                break
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::hiermodels.errors.SamplingWarning")
def test_stress_on_a_cluster_that_loses_a_worker_gives_the_same_answer():
    model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    fit = model.fit(draws=100, tune=100, chains=2, seed=1, progress=False)
    sds = ("HalfNormal(0.1)", "LogNormal(9, 0.1)", "LogNormal(-9, 0.1)", "HalfNormal(0.2)")
    alternatives = [{"sd": sd} for sd in sds]
    here = hm.prior_sensitivity(fit, alternatives)
    assert set(here.alternatives["method"]) == {"refitted"}
    killed: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
        )
        with cluster, distributed.Client(cluster) as own:
            there = hm.prior_sensitivity(fit, alternatives, client=own)
            thread = threading.Thread(target=kill_a_busy_worker, args=(own, killed), daemon=True)
            thread.start()
            after = hm.prior_sensitivity(fit, alternatives, client=own)
            thread.join(30)
            settings = {"draws": 50, "tune": 50, "seed": 2, "progress": False}
            ranks = hm.sbc(model, 3, client=own, **settings).ranks
    assert len(killed) == 1
    assert there.table.equals(here.table)
    assert after.table.equals(here.table)
    assert hm.sbc(model, 3, cores=1, **settings).ranks.equals(ranks)


def test_a_model_is_sent_without_what_follows_from_it():
    model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
    assert model.marginal is not None
    other = pickle.loads(pickle.dumps(model))
    assert "marginal" not in vars(other)
    assert np.array_equal(other.design.y, model.design.y)
    assert other.priors.equals(model.priors)


def test_a_client_that_cannot_run_anything_is_refused():
    class Client:
        status = "closed"
        submit = print

    with pytest.raises(FitError, match=r"The Dask client is closed.*Make a new one"):
        run_all(pow, 2, [1], client=Client())
    Client.status, Client.asynchronous = "running", True
    with pytest.raises(FitError, match="asynchronous=False"):
        run_all(pow, 2, [1], client=Client())
    with pytest.raises(FitError, match="must be a Dask client"):
        run_all(pow, 2, [1], client="tcp://localhost:8786")
    for cores in (0, 1.5, True):
        with pytest.raises(FitError, match="cores must be a whole number"):
            run_all(pow, 2, [1], cores=cores)


def test_a_client_closed_half_way_is_an_error_with_what_to_do():
    class Future:
        def result(self):
            raise CancelledError

    closed = type("Client", (), {"status": "closed"})()
    with pytest.raises(FitError, match=r"was closed \(it is closed\) before all fits were done"):
        _gathered(closed, Future(), "Fits")


SCRIPT = """
import hashlib
import hiermodels as hm
model = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("Dyestuff"))
fit = model.fit(draws=100, tune=100, chains=2, seed=5, progress=False)
words = [hm.kfold(fit, 2, cores={cores}).pointwise["elpd"].to_numpy().tobytes()]
words += [fit.posterior[name].values.tobytes() for name in sorted(fit.posterior)]
open("answer", "w").write(hashlib.sha256(b"".join(words)).hexdigest())
"""


@pytest.mark.slow
def test_plain_scripts_are_quiet_and_give_the_same_numbers_in_every_process(tmp_path):
    """No guard in the script, no output, and the same draws, whatever runs where."""
    answers = []
    for cores in (1, 2):
        folder = tmp_path / str(cores)
        folder.mkdir()
        (folder / "study.py").write_text(SCRIPT.format(cores=cores))
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "study.py"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(hm.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == done.stderr == ""
        answers.append((folder / "answer").read_text())
    assert answers[0] == answers[1]
