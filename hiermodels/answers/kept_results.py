"""Results of single jobs in a folder: each file whole or not there, and read back only where whole.

A run that was stopped goes on where it was. A file says what it is the result of; one that is of
something else, or was damaged, is as good as none.
"""

import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hiermodels.errors import FitError


def digest(*parts: Any) -> str:
    """Return a name for what a result hangs on: the same for the same values.

    Parameters
    ----------
    *parts : object
        Bytes, or whatever JSON holds.

    Examples
    --------
    >>> digest("a", 1) == digest("a", 1), digest("a", 1) == digest("a", 2)
    (True, False)
    """
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        own = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        found.update(len(own).to_bytes(8, "little") + own)
    return found.hexdigest()


@dataclass(frozen=True)
class ResultFolder:
    """A folder of results.

    Attributes
    ----------
    path : Path
    """

    path: Path

    def prepare(self) -> None:
        """Make the folder, and see that it can be written to.

        Raises
        ------
        FitError
            It cannot.
        """
        probe = self.path / f".{uuid.uuid4().hex}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise FitError(
                f"The folder {str(self.path)!r} cannot be written to ({error.strerror}); give "
                "another one."
            ) from error

    def read(self, key: str) -> Any:
        """Return the result of a key; None where there is none that is whole."""
        try:
            content = json.loads((self.path / f"{key}.json").read_bytes())
        except (OSError, ValueError):
            return None
        if not isinstance(content, dict) or set(content) != {"key", "check", "result"}:
            return None
        whole = content["key"] == key and content["check"] == digest(content["result"])
        return content["result"] if whole else None

    def write(self, key: str, result: Any) -> None:
        """Write a result, in one step.

        Raises
        ------
        FitError
            The file cannot be written.
        """
        text = json.dumps({"key": key, "check": digest(result), "result": result})
        temporary = self.path / f".{key}-{uuid.uuid4().hex}"
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path / f"{key}.json")
        except OSError as error:
            raise FitError(
                f"A result cannot be written to {str(self.path)!r} ({error.strerror}). Results "
                "written before are kept: free some room and run the same again."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
