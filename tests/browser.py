"""A headless Chromium that a test drives, by the protocol of its developer tools over a pipe."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Options of every browser of the tests: without a network of its own, drawn without a GPU.
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"),
)
PATIENCE_S = 120.0


class Page:
    """One page of a browser.

    Parameters
    ----------
    commands, answers : int
        Descriptors of the pipes: what the browser reads, and what it writes.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._buffer, self._number, self._session = b"", 0, ""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def open(self, url: str) -> None:
        self._ask("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """Run JavaScript, wait for its promise, give its value."""
        answer = self._ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, json.dumps(answer["exceptionDetails"])[:2000]
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """Run JavaScript again and again until it gives something true."""
        deadline = time.monotonic() + PATIENCE_S
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, f"never came: {script}"
            # Without a screen, a page is drawn when somebody looks.
            self._ask("Page.captureScreenshot")
            time.sleep(0.2)
        return value

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 8) -> None:
        """Press the left button at one place, let go at another [CSS pixels]."""
        places = [
            (start[0] + (end[0] - start[0]) * i / steps, start[1] + (end[1] - start[1]) * i / steps)
            for i in range(steps + 1)
        ]
        self._mouse("mouseMoved", places[0], buttons=0)
        self._mouse("mousePressed", places[0], buttons=1)
        for place in places[1:]:
            self._mouse("mouseMoved", place, buttons=1)
        self._mouse("mouseReleased", places[-1], buttons=0)

    def _mouse(self, kind: str, place: tuple[float, float], *, buttons: int) -> None:
        self._ask(
            "Input.dispatchMouseEvent",
            type=kind,
            x=place[0],
            y=place[1],
            button="left" if buttons or kind == "mouseReleased" else "none",
            buttons=buttons,
            clickCount=1,
        )

    def _ask(self, method: str, **parameters: object) -> Any:
        self._number += 1
        sent: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            sent["sessionId"] = self._session
        os.write(self._commands, json.dumps(sent).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._answers, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


@contextmanager
def open_page(chromium: str, folder: Path, *, width: int, height: int) -> Iterator[Page]:
    """Start a browser and give its one page; both end with the block."""
    (read_end, commands), (answers, write_end) = os.pipe(), os.pipe()
    options = (
        *OPTIONS,
        *(f"--window-size={width},{height}", f"--user-data-dir={folder / 'profile'}"),
        "--remote-debugging-pipe",
    )
    # The browser reads commands from descriptor 3, and writes answers to 4.
    moved = f'exec "$@" 3<&{read_end} 4>&{write_end}'
    process = subprocess.Popen(
        ["bash", "-c", moved, "bash", chromium, *options],
        pass_fds=(read_end, write_end),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_end)
    os.close(write_end)
    try:
        yield Page(commands, answers)
    finally:
        process.terminate()
        process.wait(30)
        os.close(commands)
        os.close(answers)
