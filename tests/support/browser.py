"""A headless Chromium, driven by the W3C WebDriver protocol, which is a few requests of JSON over HTTP."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference to an element


def why_no_browser() -> str | None:
    """What is missing on this machine, or None."""
    if not any(map(shutil.which, BROWSERS)):
        return "no Chromium or Chrome is installed"
    return None if shutil.which("chromedriver") else "no chromedriver is installed"


class Browser:
    """One window of a browser.

    >>> with opened(tmp_path) as browser:
    ...     browser.open(page)
    ...     browser.click("th button")
    """

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """One request to the driver; raises with what it answers if that is an error."""
        data = json.dumps(content or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with without_proxy.open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def start(self, data_dir: Path) -> None:
        """Start the browser, with a fresh profile."""
        program = next(filter(None, map(shutil.which, BROWSERS)))
        options = {"binary": program, "args": [*FLAGS, f"--user-data-dir={data_dir}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        session = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.address += f"/session/{session['sessionId']}"

    def resize(self, width: int, height: int) -> None:
        """Give the page this many pixels, on a screen of that size; narrower than a window of a desktop can be, too."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def command(self, name: str, **params: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.ask("POST", "/goog/cdp/execute", {"cmd": name, "params": params})

    def open(self, page: Path, address: str = "") -> None:
        """Open a file, `address` behind its name, and forget what was logged before."""
        self.ask("POST", "/url", {"url": "about:blank"})
        self.log("browser")
        self.log("performance")
        self.ask("POST", "/url", {"url": page.resolve().as_uri() + address})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script in the page returns, or what the promise that it returns comes to."""
        return self.ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, condition: str, seconds: float = 20) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < end, f"still not true after {seconds} s: {condition}"
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """Click the first element that a CSS selector finds, as a mouse would."""
        self.ask("POST", f"/element/{self._element(selector)}/click")

    def type(self, selector: str, text: str) -> None:
        """Type into a field, in place of what stands there."""
        element = self._element(selector)
        self.run("arguments[0].value = ''", {ELEMENT: element})
        self.ask("POST", f"/element/{element}/value", {"text": text})

    def _element(self, selector: str) -> str:
        return self.ask("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def texts(self, selector: str) -> list[str]:
        """The visible text of all elements that a CSS selector finds."""
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].map(one => one.innerText ?? one.textContent)", selector
        )

    def log(self, kind: str) -> list[dict[str, Any]]:
        """What was logged since the last call: `browser` for the console, `performance` for the network."""
        return self.ask("POST", "/se/log", {"type": kind})

    def requests(self) -> list[str]:
        """The addresses that were asked for since the page was opened, but for those inside the page itself."""
        events = (json.loads(line["message"])["message"] for line in self.log("performance"))
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("data:", "blob:"))]

    def screenshot(self, path: Path) -> None:
        """Keep what is in view as a PNG."""
        path.write_bytes(base64.b64decode(self.ask("GET", "/screenshot")))


@contextmanager
def opened(folder: Path) -> Iterator[Browser]:
    """A browser with its profile in an empty folder, closed at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    browser = Browser(port)
    try:
        _wait_for(port)
        browser.start(folder)
        try:
            yield browser
        finally:
            browser.ask("DELETE", "")
    finally:
        driver.terminate()
        driver.wait()


def _wait_for(port: int, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
