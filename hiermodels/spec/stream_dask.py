"""Streams of Dask DataFrames: partitions are summed where they lie, and the sums as a tree."""

import importlib
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import pyarrow as pa

from hiermodels.errors import DataError, HierModelsError
from hiermodels.spec.column_kinds import FACTOR, NOTHING, NUMBERS, TEXT, WHOLE, kind_of
from hiermodels.spec.dask_files import files_of
from hiermodels.spec.streams import Chunk, Report, Stream, Sums, sliced, summarise_named

_FAN: Final = 8
_SHOWN: Final = 3
_ALIKE: Final = ((NUMBERS, WHOLE), (TEXT, FACTOR))
_CLUSTERS: Final = (None, "distributed", "dask.distributed")


@dataclass(frozen=True, eq=False)
class DaskStream(Stream):
    """The partitions of a Dask DataFrame.

    Attributes
    ----------
    frame : dask.dataframe.DataFrame
    """

    frame: Any

    @property
    def description(self) -> str:  # type: ignore[override]
        """The source in words."""
        return f"a Dask DataFrame of {self.n_parts:,} partitions"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.frame.columns)

    @property
    def schema(self) -> pa.Schema:
        """The columns' types, as the frame declares them."""
        return pa.Schema.from_pandas(self.frame._meta, preserve_index=False)

    @property
    def n_parts(self) -> int:
        """Number of partitions."""
        return int(self.frame.npartitions)

    @property
    def counts(self) -> tuple[str, int | None]:
        """What a report counts, and how many there are."""
        return "partitions", self.n_parts

    def partitions(self, columns: Sequence[str]) -> list[Any]:
        """Return the partitions, each to be computed; Dask may have joined small ones."""
        try:
            return list(self.frame[list(columns)].to_delayed())
        except Exception as error:  # whatever a user's graph raises, named and handed on
            detail = " ".join(str(error).split()).rstrip(".")
            raise DataError(
                f"Dask cannot take the columns {', '.join(map(repr, columns))} of the DataFrame: "
                f"{type(error).__name__}: {detail}. Give frame.persist(), or write it to Parquet."
            ) from error

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Yield the rows in chunks, partition by partition."""
        parts = self.partitions(columns)
        for k, part in enumerate(parts):
            try:
                frame = part.compute()
            except Exception as error:  # whatever a user's graph raises, named and handed on
                raise _failed(parts, k, error) from error
            yield from sliced(as_table(frame, self.schema, _place(k)), _place(k))

    def fold[Summary](
        self,
        summarise: Callable[[Chunk], Summary],
        add: Callable[[Summary, Summary], Summary],
        columns: Sequence[str],
        report: Report | None = None,
    ) -> Summary | None:
        """Return the sum of the partitions' summaries, computed by Dask's scheduler."""
        dask: Any = importlib.import_module("dask")
        partitions = self.partitions(columns)
        # a scheduler that is asked for goes before a cluster
        cluster = dask.config.get("scheduler", None) in _CLUSTERS
        client = _client() if cluster and report is not None else None
        topic = None if client is None else f"hiermodels-{uuid.uuid4().hex}"
        leaves = parts = [
            dask.delayed(partition_sum)(summarise, add, part, self.schema, _place(k), topic)
            for k, part in enumerate(partitions)
        ]
        while len(parts) > 1:
            parts = [
                dask.delayed(add_all)(add, parts[at : at + _FAN])
                for at in range(0, len(parts), _FAN)
            ]
        try:
            with _counted([leaf.key for leaf in leaves], client, topic, report):
                (found,) = dask.compute(parts[0])
        except HierModelsError as error:
            raise _with_file(error, partitions) from error
        except Exception as error:  # whatever a user's graph raises, named and handed on
            raise _find_failed(partitions, error) from error
        total: Summary | None = found
        return total


def partition_sum(
    summarise: Callable[[Chunk], Any],
    add: Callable[[Any, Any], Any],
    frame: Any,
    declared: pa.Schema,
    where: str,
    topic: str | None = None,
) -> Any:
    """Return one partition's summary; where a topic is given, tell it when that is done."""
    sums: Sums[Any] = Sums(add)
    table = as_table(frame, declared, where)
    for chunk in sliced(table, where) if table.num_rows else [Chunk(table, where)]:
        sums.put(summarise_named(summarise, chunk))
    if topic is not None:
        distributed: Any = importlib.import_module("distributed")
        distributed.get_worker().log_event(topic, where)
    return sums.total()


def add_all(add: Callable[[Any, Any], Any], parts: Sequence[Any]) -> Any:
    """Return the sum of some summaries."""
    return reduce(add, parts)


def as_table(frame: Any, declared: pa.Schema, where: str) -> pa.Table:
    """Return a pandas partition as an Arrow table.

    Raises
    ------
    DataError
        A column is of another kind than the frame declares.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for own in table.schema:
        kinds = {kind_of(own.type), kind_of(declared.field(own.name).type)} - {NOTHING}
        if len(kinds) > 1 and not any(kinds <= set(like) for like in _ALIKE):
            raise DataError(
                f"In {where}: the column {own.name!r} holds {kind_of(own.type)}, and the Dask "
                f"DataFrame declares {kind_of(declared.field(own.name).type)}. Give it with "
                "frame.astype, or mend its meta."
            )
    return table


# --- progress -------------------------------------------------------------------------------


def _client() -> Any:
    """Return the client of the cluster that computes, None where this process does."""
    # without it nobody can have made a client
    distributed: Any = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


@contextmanager
def _counted(
    leaves: Sequence[str], client: Any, topic: str | None, report: Report | None
) -> Iterator[None]:
    """Report each partition when it is done, once, though a lost one may be computed twice."""
    if report is None:
        yield
        return
    done: set[str] = set()

    def finish(name: str) -> None:
        if name not in done:
            done.add(name)
            report(1)

    if topic is None:
        known = set(leaves)
        callbacks: Any = importlib.import_module("dask.callbacks")
        with callbacks.Callback(posttask=lambda key, *_: finish(key) if key in known else None):
            yield
    else:
        client.subscribe_topic(topic, lambda event: finish(event[1]))
        try:
            yield
        finally:
            client.unsubscribe_topic(topic)
        # what was told may come after the sums
        for k in range(len(leaves)):
            finish(_place(k))


# --- errors ---------------------------------------------------------------------------------


def _place(k: int) -> str:
    """Return how messages call a partition where its files are not known."""
    return f"partition {k}"


def _shown(part: Any) -> str:
    """Return the files that a partition is read from, in brackets; empty where none is known."""
    files = files_of(part.__dask_graph__(), part.key)
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return f" ({', '.join(map(repr, files[:_SHOWN]))}{more})" if files else ""


def _with_file(error: HierModelsError, parts: Sequence[Any]) -> HierModelsError:
    """Return an error about a partition's rows that names the partition's file."""
    for k, part in enumerate(parts):
        start = f"In {_place(k)}: "
        if str(error).startswith(start):
            return type(error)(f"In {_place(k)}{_shown(part)}: {str(error)[len(start) :]}")
    return error


def _find_failed(parts: Sequence[Any], error: Exception) -> DataError:
    """Return the error with the partition that fails, found by asking each."""
    for k, part in enumerate(parts):
        try:
            part.compute()
        except Exception as found:  # the same error again, now with its partition
            return _failed(parts, k, found)
    detail = " ".join(str(error).split())
    return DataError(f"Dask could not compute the sums ({type(error).__name__}: {detail}).")


def _failed(parts: Sequence[Any], k: int, error: Exception) -> DataError:
    """Return the error for a partition that cannot be computed."""
    detail = " ".join(str(error).split()).rstrip(".")
    return DataError(
        f"Partition {k} of {len(parts)} of the Dask DataFrame{_shown(parts[k])} cannot be "
        f"computed: {type(error).__name__}: {detail}. No result was kept; mend or drop that "
        "partition."
    )
