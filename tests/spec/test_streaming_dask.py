"""Dask: the same sums from workers, one of which dies in the middle."""

import os
import signal
import threading
import time

import numpy as np
import pandas as pd
import pytest

from hiermodels.engines.marginal_packing import MarginalDensity
from hiermodels.fitting.model import Model
from hiermodels.spec.families import as_family
from hiermodels.spec.formula import parse_formula
from hiermodels.spec.opening import open_stream
from hiermodels.spec.streaming import stream_design

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
frames = pytest.importorskip("dask.dataframe")


def make_frame(n=4000):
    """Rows in 30 groups."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"x": rng.normal(5.0, 1.0, n), "g": rng.integers(0, 30, n)})
    frame["y"] = frame["x"] + frame["g"] % 5 + rng.normal(size=n)
    return frame


def slowly(part, marks):
    """Return a partition after a moment, leaving a mark of the process that read it."""
    time.sleep(0.2)
    (marks / f"{os.getpid()}-{time.time_ns()}").touch()
    return part


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what a cluster says when a worker dies
def test_a_worker_is_killed_in_the_second_pass(tmp_path):
    """The sums are those of all partitions, whoever computed them."""
    frame = make_frame()
    source = frames.from_pandas(frame, npartitions=12)
    source = source.map_partitions(slowly, tmp_path, meta=frame.iloc[:0])
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    killed = []

    def kill():
        # the frame is tried once (12 reads at most), then read in two passes
        while len(list(tmp_path.iterdir())) < 12 + 12 // 2 + 1:
            time.sleep(0.02)
        pid = int(max(tmp_path.iterdir(), key=lambda p: p.stat().st_mtime_ns).name.split("-")[0])
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)

    with cluster, distributed.Client(cluster):
        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        model = Model("y ~ x + (1 | g)", source, memory="1 KB")
        thread.join(timeout=30)
    assert killed
    held = Model("y ~ x + (1 | g)", frame)
    point = np.full(MarginalDensity(held.marginal).ndim, 0.1)
    assert model.design.n == len(frame)
    assert MarginalDensity(model.marginal)(point)[0] == pytest.approx(
        MarginalDensity(held.marginal)(point)[0], rel=1e-10
    )


def read(source, told):
    """Read a source in passes, noting what is reported."""
    return stream_design(
        parse_formula("y ~ x + (1 | g)"),
        open_stream(source),
        as_family("gaussian", None),
        lambda name, count: told.append((name, count)),
    )


WANTED = [("levels and spreads", 1)] * 6 + [("cross-products", 1)] * 6


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_progress_counts_partitions(scheduler):
    """Each partition is told of when it is done, in both passes."""
    source = frames.from_pandas(make_frame(600), npartitions=6)
    told = []
    with dask.config.set(scheduler=scheduler):
        assert open_stream(source).counts == ("partitions", 6)
        assert read(source, told).n == 600
    assert told == WANTED


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what a cluster says when it ends
def test_progress_on_a_cluster():
    """Workers tell the client; a scheduler that is asked for goes before the cluster."""
    source = frames.from_pandas(make_frame(600), npartitions=6)
    cluster = distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None)
    with cluster, distributed.Client(cluster):
        told = []
        assert read(source, told).n == 600
        assert told == WANTED
        told = []
        with dask.config.set(scheduler="threads"):
            assert read(source, told).n == 600
        assert told == WANTED
