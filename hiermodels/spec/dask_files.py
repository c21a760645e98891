"""The files that a task of a Dask graph reads, as far as the graph names them."""

from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_SUFFIXES: Final = (".parquet", ".parq", ".pq", ".csv", ".tsv", ".txt", ".json", ".orc", ".gz")
_PARTS: Final = ("args", "kwargs", "value", "keywords", "fragment")
_DEPTH: Final = 12


def files_of(graph: Any, key: Hashable) -> tuple[str, ...]:
    """Return the files that a task and those before it read, each once.

    Parameters
    ----------
    graph : mapping
        Of a Dask collection or delayed value.
    key : hashable
        The task's.

    Examples
    --------
    >>> files_of({"a": ("read", "b"), "b": ("rows-1.parquet", [0])}, "a")
    ('rows-1.parquet',)
    """
    tasks = dict(graph)
    found: dict[str, None] = {}
    seen, todo = {key}, [key]
    while todo:
        task = tasks.get(todo.pop())
        for name in _names(task, _DEPTH):
            if name in tasks or name in seen:
                continue
            found[name] = None
        before = set(getattr(task, "dependencies", ())) | set(_keys(task, tasks))
        todo += sorted(before - seen, key=repr)
        seen |= before
    return tuple(found)


def _keys(task: Any, tasks: Mapping[Any, Any]) -> Iterator[Hashable]:
    """Yield the keys of other tasks that a task written as a tuple names."""
    if isinstance(task, str):
        yield from (own for own in (task,) if own in tasks)
    elif isinstance(task, tuple) and all(isinstance(part, str | int) for part in task):
        yield from ((task,) if task in tasks else (part for part in task if part in tasks))
    elif isinstance(task, tuple | list):
        for part in task:
            yield from _keys(part, tasks)


def _names(value: Any, depth: int) -> Iterator[str]:
    """Yield the paths in a task: text that looks like one, open files, fragments of datasets."""
    if depth == 0 or value is None:
        return
    if isinstance(value, str):
        if value.lower().endswith(_SUFFIXES) or ("/" in value and Path(value).is_file()):
            yield value
    elif isinstance(value, Mapping):
        for own in value.values():
            yield from _names(own, depth - 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for own in value:
            yield from _names(own, depth - 1)
    elif isinstance(path := getattr(value, "path", None), str):
        yield path
    elif not hasattr(value, "__array__"):
        for name in _PARTS:
            yield from _names(getattr(value, name, None), depth - 1)
