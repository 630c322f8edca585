"""A headless browser, driven over a pipe (the DevTools protocol) without driver, port or package."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def open_page(page: Path, profile: Path, width: int, *, dark: bool = False) -> Iterator["Page"]:
    """Load the page in a window of ``width`` × 844 CSS pixels; skip the test if there is no browser."""
    binary = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if binary is None:
        pytest.skip(f"not opened: none of {', '.join(_NAMES)} is on PATH (Debian: apt-get install chromium)")
    to_browser, from_browser = os.pipe(), os.pipe()
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={profile}",
        "--remote-debugging-pipe",
    ]
    pipes = f'exec "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}'
    process = subprocess.Popen(
        ["bash", "-c", pipes, "browser", binary, *options, "about:blank"],
        pass_fds=(to_browser[0], from_browser[1]),
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser[0])
    os.close(from_browser[1])
    with os.fdopen(to_browser[1], "wb", buffering=0) as requests, os.fdopen(from_browser[0], "rb") as answers:
        try:
            tab = Page(requests, answers)
            tab.load(page, width, dark)
            yield tab
        finally:
            process.kill()
            process.wait()


class Page:
    """One tab."""

    def __init__(self, request_pipe: Any, answers: Any) -> None:
        self._request_pipe, self._answers, self._number, self._session = request_pipe, answers, 0, None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        targets = self.ask("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def load(self, page: Path, width: int, dark: bool) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 600)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[theme])
        self.ask("Page.navigate", url=page.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters}
        request |= {"sessionId": self._session} if self._session else {}
        self._request_pipe.write(json.dumps(request).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        text = bytearray()
        while (letter := self._answers.read(1)) != b"\0":
            assert letter, "the browser has ended"
            text += letter
        message = json.loads(text)
        if message.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(message["params"])[:500])
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        return message
