"""Where the built site is, which pages it has, a server and a browser for it, and a few verbs for who visits."""

import functools
import gzip
import http.server
import json
import os
import shutil
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import yaml

ROOT = Path(os.environ.get("REPRISE_ROOT") or Path(__file__).resolve().parents[2])
SITE = ROOT / "_build" / "html"
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
DESKTOP, PHONE = (1280, 900), (390, 844)


def toc_files() -> list[str]:
    """Every page of the table of contents, such as book/intro or notebooks/memory/modern-hopfield."""
    found = []

    def walk(node):
        if isinstance(node, dict):
            found.extend(str(node[key]) for key in ("root", "file") if key in node)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    return found


PAGES = toc_files()
CHAPTERS = [name for name in PAGES if name.startswith("notebooks/")]


def repository() -> tuple[str, str]:
    """Owner and name from the one place where the address stands."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        address = tomllib.load(file)["project"]["urls"]["Repository"]
    owner, name = urlsplit(address).path.strip("/").split("/")
    return owner, name


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves as public hosts of static sites do: text is compressed, pictures and fonts are not."""

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if path.suffix not in (".html", ".css", ".js", ".svg") or not path.is_file():
            return super().do_GET()
        body = _compressed(path, path.stat().st_mtime)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@functools.lru_cache(maxsize=512)
def _compressed(path: Path, changed: float) -> bytes:
    return gzip.compress(path.read_bytes(), 6)


@contextmanager
def served() -> Iterator[str]:
    """Address of the site, served on this machine, such as http://127.0.0.1:40001/."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@contextmanager
def chromium(profile: Path | str):
    """The selenium driver of a headless Chromium that reaches no other machine; None where a part of it is missing."""
    try:
        from selenium import webdriver
    except ImportError:
        yield None
        return
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver_path = shutil.which("chromedriver")
    if not (binary and driver_path):
        yield None
        return
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "no-first-run",
        "hide-scrollbars",
        f"user-data-dir={profile}",
        "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # a request elsewhere fails, and is seen to fail
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    driver.set_script_timeout(180)
    try:
        yield driver
    finally:
        driver.quit()


@dataclass
class Visit:
    """What the browser did while a page was open."""

    requests: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


class Browser:
    """A few verbs over selenium's driver (`driver`)."""

    def __init__(self, driver, site: str):
        self.driver, self.site = driver, site

    def look(self, theme: str = "light", size: tuple[int, int] = DESKTOP, motion: str = "reduce") -> None:
        """Shows pages, the open one among them, to a reader with these wishes and this window."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = {"prefers-color-scheme": theme, "prefers-reduced-motion": motion}
        media = [{"name": name, "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})

    def open(self, page: str, theme: str = "light", size: tuple[int, int] = DESKTOP) -> None:
        """Opens a page (a name, or an address) and waits until its scripts have done their work."""
        self.look(theme, size)
        self.log()
        self.driver.get(page if "://" in page else f"{self.site}{page}.html")
        self.wait(
            """
            return document.readyState === "complete"
              && [...document.querySelectorAll(".math")].every((tex) => tex.querySelector(".katex, .katex-error"))
              && [...document.querySelectorAll("article img:not([loading])")].every((image) => image.complete);
            """,
            f"{page} did not finish loading",
        )

    def js(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: str, complaint: str, seconds: float = 20, *arguments) -> None:
        end = time.monotonic() + seconds
        while not self.js(condition, *arguments):
            assert time.monotonic() < end, complaint
            time.sleep(0.05)

    def log(self) -> Visit:
        """What happened since the last call."""
        visit = Visit()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            method, detail = message["method"], message["params"]
            if method == "Network.requestWillBeSent":
                visit.requests.append(detail["request"]["url"])
            elif method == "Network.responseReceived" and detail["response"]["status"] >= 400:
                visit.failures.append(f"{detail['response']['status']} {detail['response']['url']}")
            elif method == "Network.loadingFailed" and not detail.get("canceled"):
                visit.failures.append(detail.get("errorText", "failed"))
        visit.complaints = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return visit

    def violations(self, rules: list[str] | None = None) -> list[str]:
        """Serious and critical complaints of axe-core about the open page, one line each."""
        self.js("if (!window.axe) (0, eval)(arguments[0])", AXE)
        # thousands of words of code in a dozen colors: one of each is kept; formulas in a line have the color of text
        self.js(
            """
            const seen = new Set();
            for (const word of document.querySelectorAll(".highlight pre span")) {
              if (seen.has(word.className) && !word.children.length) word.replaceWith(word.textContent);
              seen.add(word.className);
            }
            for (const formula of document.querySelectorAll("span.math")) formula.textContent = formula.innerText;
            """
        )
        options = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
        result = self.driver.execute_async_script(
            "const done = arguments[1]; axe.run(arguments[0]).then(done);", options
        )
        return [
            f"{found['id']} ({found['impact']}): {node['target']} {node['html'][:160]}"
            for found in result["violations"]
            if found["impact"] in ("serious", "critical")
            for node in found["nodes"]
        ]


def file_address(page: str) -> str:
    """Where a page of the site lies on this disk."""
    return (SITE / f"{page}.html").as_uri()
