"""The npm client of Socket.IO, led from here."""

import json
import os
import queue
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from tests.node import installed

SCRIPT = Path(__file__).with_name("client.js")
PACKAGE = ("socket.io-client", "4.8.4")
PATIENCE_S = 15.0


class SocketIoClient:
    """One client in a node process of its own."""

    def __init__(self, url: str, **options: Any) -> None:
        """`options` are those of the npm client, such as `auth` and `transports`."""
        node = shutil.which("node")
        assert node is not None, "npm is there and node is not"
        folder = installed(*PACKAGE)
        self._process = subprocess.Popen(
            [node, SCRIPT],
            env={**os.environ, "NODE_PATH": str(folder / "node_modules")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.seen: list[dict[str, Any]] = []
        """Everything that happened, in order."""
        threading.Thread(target=self._read, daemon=True).start()
        self._do("connect", url=url, options=options)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.put(json.loads(line))

    def _do(self, command: str, **more: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": command, **more}) + "\n")
        self._process.stdin.flush()

    def emit(self, name: str, *args: Any) -> None:
        self._do("emit", name=name, args=args)

    def ask(self, name: str, *args: Any) -> Any:
        """Emits with an acknowledgement, and returns that."""
        self._do("ask", name=name, args=args)
        return self.wait("answer")

    def send_binary(self, name: str, size: int) -> None:
        self._do("binary", name=name, size=size)

    def close(self) -> None:
        self._do("close")

    def lose_connection(self) -> None:
        """As a network does that goes away; the client connects again by itself."""
        self._do("lose")

    def wait(self, name: str, **expected: Any) -> Any:
        """The data of the next such event whose data has these members."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            left = deadline - time.monotonic()
            try:
                event = self._events.get(timeout=max(0.0, left))
            except queue.Empty:
                raise AssertionError(f"no {name} {expected}; seen: {self.seen}") from None
            self.seen.append(event)
            data = event.get("data")
            if event["event"] != name:
                continue
            if all(isinstance(data, dict) and data.get(k) == v for k, v in expected.items()):
                return event.get("message") if name == "connect_error" else data

    def last(self, name: str) -> Any:
        """The data of the last such event that was waited for or passed over."""
        return next(event["data"] for event in reversed(self.seen) if event["event"] == name)

    def names(self) -> list[str]:
        """The names of all that happened so far."""
        while not self._events.empty():
            self.seen.append(self._events.get())
        return [event["event"] for event in self.seen]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        if self._process.poll() is not None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
