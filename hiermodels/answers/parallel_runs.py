"""Many fits of one kind, one after another, in processes, or on a Dask client: the same answer.

What runs is a function of two arguments: what all jobs share, sent to each worker once, and the
job, which carries its own seed. Which worker does a job, and after which, changes nothing.
"""

import functools
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cloudpickle
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits

from hiermodels.errors import EstimationWarning, FitError, SamplingWarning

logger = logging.getLogger("hiermodels")

_BREAKS: Final = 3
# warnings are recorded through state of the whole process, which a worker's threads share
_one_at_a_time: Final = threading.RLock()


@dataclass(frozen=True)
class Outcome[R]:
    """What a job returned, and the warnings that it gave: (text, category, file, line)."""

    value: R
    caught: tuple[tuple[str, type[Warning], str, int], ...]


def run_each[S, J, R](
    work: Callable[[S, J], R],
    shared: S,
    jobs: Sequence[J],
    *,
    cores: int | None = 1,
    client: Any = None,
    progress: bool = False,
    what: str = "Fits",
) -> Iterator[tuple[int, R]]:
    """Yield the position and the result of every job, as each is done.

    Parameters
    ----------
    work : callable
        ``work(shared, job)``. What is random in it must come from the job's own seed.
    shared : object
        What all jobs need, such as a model; sent to each worker once.
    jobs : sequence
    cores : int, optional
        1: in this process, in order. More: that many processes. None: one for each processor.
    client : distributed.Client, optional
        A Dask client that runs the jobs in place of processes of this machine.
    progress : bool
        Whether to show a progress bar, on standard error.
    what : str
        What the jobs are, for the bar and for messages: a plural.

    Yields
    ------
    tuple of int and object
        Warnings that a job gave are given again here, wherever it ran.

    Raises
    ------
    FitError
        The client is closed, runs asynchronously or is no Dask client; cores is not a number of
        processes; workers die again and again.

    Notes
    -----
    A job whose worker is lost is done again, by another. Linear algebra runs on one thread
    everywhere, so that sums do not depend on where they are taken.

    Examples
    --------
    >>> sorted(run_each(pow, 2, [3, 5]))
    [(0, 8), (1, 32)]
    """
    size = check_workers(cores, client)
    left = {k: job for k, job in enumerate(jobs)}
    if client is not None:
        outcomes = _on_client(client, work, shared, left, what)
    elif min(size, len(left)) < 2:
        outcomes = ((k, _guarded(work, shared, job)) for k, job in left.items())
    else:
        outcomes = _in_processes(work, shared, left, min(size, len(left)), what)
    with _bar(progress and bool(left), what, len(left)) as advance:
        for k, outcome in outcomes:
            advance()
            for text, category, file, line in outcome.caught:
                warnings.warn_explicit(text, category, file, line)
            yield k, outcome.value


def run_all[S, J, R](
    work: Callable[[S, J], R], shared: S, jobs: Sequence[J], **where: Any
) -> list[R]:
    """Return the results of all jobs, in the order of the jobs; see :func:`run_each`.

    Examples
    --------
    >>> run_all(pow, 2, [3, 5])
    [8, 32]
    """
    found = dict(run_each(work, shared, jobs, **where))
    return [found[k] for k in range(len(jobs))]


def check_workers(cores: int | None, client: Any) -> int:
    """Return how many jobs run at a time on this machine.

    Raises
    ------
    FitError
        The client is closed, runs asynchronously or is no Dask client; or ``cores`` is no whole
        number of at least 1.
    """
    if client is not None:
        _check_client(client)
    if cores is None:
        return getattr(os, "process_cpu_count", os.cpu_count)() or 1
    if isinstance(cores, bool) or not isinstance(cores, int | np.integer) or cores < 1:
        raise FitError(
            f"cores must be a whole number of at least 1, or None for every processor; got "
            f"{cores!r}."
        )
    return int(cores)


def _check_client(client: Any) -> None:
    """Raise FitError where a client cannot run anything."""
    status = getattr(client, "status", None)
    if status is None or not callable(getattr(client, "submit", None)):
        raise FitError(
            "client must be a Dask client, as distributed.Client() returns it; got "
            f"{type(client).__name__}."
        )
    if status != "running":
        raise FitError(
            f"The Dask client is {status}, and can run nothing. Make a new one, "
            "distributed.Client(...), and close it after this call; or leave client out, and the "
            "fits run on this machine."
        )
    if getattr(client, "asynchronous", False):
        raise FitError(
            "The Dask client runs asynchronously. Make it with distributed.Client(..., "
            "asynchronous=False)."
        )


# --- one job ------------------------------------------------------------------------------------


def _guarded[S, J, R](work: Callable[[S, J], R], shared: S, job: J) -> Outcome[R]:
    """Return what a job returns, with its warnings held back for the caller's process."""
    with _one_at_a_time, warnings.catch_warnings(record=True) as caught, threadpool_limits(1):
        for category in (SamplingWarning, EstimationWarning):
            warnings.simplefilter("always", category)
        value = work(shared, job)
    kept = ((str(one.message), one.category, one.filename, one.lineno) for one in caught)
    return Outcome(value, tuple(kept))


@contextmanager
def _bar(wanted: bool, what: str, total: int) -> Iterator[Callable[[], None]]:
    """Yield a function to call after each job, with a bar on standard error where wanted."""
    if not wanted:
        yield lambda: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


# --- processes of this machine ------------------------------------------------------------------


def _in_processes[S, J, R](
    work: Callable[[S, J], R], shared: S, left: dict[int, J], size: int, what: str
) -> Iterator[tuple[int, Outcome[R]]]:
    """Yield outcomes of jobs from a pool of processes; a new pool does what a broken one left."""
    left, breaks = dict(left), 0
    with tempfile.TemporaryDirectory(prefix="hiermodels-") as folder:
        path = Path(folder) / "shared"
        path.write_bytes(cloudpickle.dumps((work, shared)))
        while left:
            try:
                for k, outcome in _one_pool(path, left, size):
                    del left[k]
                    breaks = 0
                    yield k, outcome
            except BrokenProcessPool as error:
                breaks += 1
                if breaks == _BREAKS:
                    raise FitError(
                        f"Worker processes ended {_BREAKS} times without finishing any of the "
                        f"{len(left)} {what.lower()} left: most often memory ran out. Take "
                        "cores=1, or fewer than now."
                    ) from error
                logger.warning("A worker process was lost; what it did is done again.")


def _one_pool[J](path: Path, left: dict[int, J], size: int) -> Iterator[tuple[int, Outcome[Any]]]:
    """Yield outcomes from one pool of processes until all is done or the pool breaks."""
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(size, mp_context=context, initializer=_deaf)
    clean = False
    try:
        with _main_left_out():
            futures = {pool.submit(_from_file, str(path), job): k for k, job in left.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()
        clean = True
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if not clean:
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()


def _deaf() -> None:
    """Leave Ctrl-C to the process that started this one: half a chain is no result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _from_file(path: str, job: Any) -> Outcome[Any]:
    """Return a job's outcome by the function and the shared object that a file holds."""
    return _guarded(*_read(path), job)


@functools.lru_cache(maxsize=1)
def _read(path: str) -> tuple[Callable[[Any, Any], Any], Any]:
    work, shared = _restored(Path(path).read_bytes())
    return work, shared


def _restored(packed: bytes) -> Any:
    return cloudpickle.loads(packed)


@contextmanager
def _main_left_out() -> Iterator[None]:
    """Start processes that do not run the calling script again, which then needs no guard.

    Nothing that workers need is looked up there: cloudpickle sends what a script defines whole.
    """
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    if "__file__" in kept:
        del main.__file__
    main.__spec__ = None
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)


# --- a Dask client ------------------------------------------------------------------------------


def _on_client[S, J, R](
    client: Any, work: Callable[[S, J], R], shared: S, left: dict[int, J], what: str
) -> Iterator[tuple[int, Outcome[R]]]:
    """Yield outcomes of jobs from a Dask client, which does again what a lost worker had."""
    # only with a client at hand is Dask known to be installed, and it takes a second to import
    import distributed

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        # a task, not scattered data: the scheduler can make it again where its worker is lost
        both = client.submit(_restored, cloudpickle.dumps((work, shared)), pure=False)
        futures = {client.submit(_by_client, both, job, pure=False): k for k, job in left.items()}
    try:
        for future in distributed.as_completed(list(futures)):
            yield futures[future], _gathered(client, future, what)
    finally:
        if client.status == "running":
            client.cancel([future for future in futures if not future.done()])


def _by_client(both: tuple[Callable[[Any, Any], Any], Any], job: Any) -> Outcome[Any]:
    """Return a job's outcome by the function and the shared object."""
    return _guarded(*both, job)


def _gathered(client: Any, future: Any, what: str) -> Any:
    """Return a future's result; raise FitError where Dask could not make it."""
    import distributed

    try:
        return future.result()
    except distributed.KilledWorker as error:
        raise FitError(
            f"Dask gave up on one of the {what.lower()} after several workers were lost with it: "
            "most often memory ran out. Give workers more memory, or fewer threads each."
        ) from error
    except CancelledError as error:
        raise FitError(
            f"The Dask client was closed (it is {client.status}) before all {what.lower()} were "
            "done. Keep it open until this call returns."
        ) from error
