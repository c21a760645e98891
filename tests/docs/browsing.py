"""A headless browser, spoken to through its own protocol over two pipes."""

import fcntl
import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--remote-debugging-pipe",
    # Whatever asks for a host gets none.
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
PATIENCE_S = 90
"""Many times what a page takes, on a machine that does other work."""


class Browser:
    """One browser process with one page; what it asks for and complains of is kept."""

    def __init__(self, program: str, folder: Path) -> None:
        to_child, from_us = os.pipe()
        to_us, from_child = os.pipe()
        # The child reads its third descriptor and writes its fourth; neither is to be in use.
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (to_child, from_child)]

        def arrange() -> None:
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)

        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=arrange,
            close_fds=False,
        )
        for end in (to_child, from_child, *theirs):
            os.close(end)
        self._write, self._read = from_us, to_us
        self._rest = b""
        self._last = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the browser's answer to a command."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda said: said.get("id") == self._last)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, path: Path, width: int) -> None:
        """Open a file in a window of this width; events begin anew."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 700,
        )
        self.events.clear()
        self.ask("Page.navigate", url=path.as_uri())
        self._wait(lambda said: said.get("method") == "Page.loadEventFired", among_events=True)

    def value(self, expression: str) -> Any:
        """Return what an expression is in the page, a promise being waited for."""
        said = self.ask(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the console since the page was opened."""
        found = []
        for event in self.events:
            method, about = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                thrown = about["exceptionDetails"]
                found.append(thrown.get("exception", {}).get("description") or thrown["text"])
            elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
                found.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
            elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
                found.append(json.dumps(about["args"])[:300])
        return found

    @property
    def requests(self) -> list[str]:
        """Addresses that were asked for since the page was opened."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        """End the browser."""
        os.close(self._write)
        os.close(self._read)
        self.process.terminate()
        self.process.wait(timeout=30)

    def _wait(
        self, wanted: Callable[[dict[str, Any]], bool], among_events: bool = False
    ) -> dict[str, Any]:
        """Return the message that is wanted; events on the way are kept."""
        if among_events:
            for event in self.events:
                if wanted(event):
                    return event
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            while b"\0" in self._rest:
                first, self._rest = self._rest.split(b"\0", 1)
                said: dict[str, Any] = json.loads(first)
                if "method" in said:
                    self.events.append(said)
                if wanted(said):
                    return said
            if select.select([self._read], [], [], 1.0)[0]:
                got = os.read(self._read, 1 << 20)
                if not got:
                    raise AssertionError("the browser has ended")
                self._rest += got
        raise AssertionError(f"no answer from the browser in {PATIENCE_S} s")
