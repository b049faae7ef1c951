"""Where the built site is, which pages it has, and a few verbs for a browser that visits them."""

import json
import os
import time
import tomllib
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

    def open(self, page: str, theme: str = "light", size: tuple[int, int] = DESKTOP) -> None:
        """Opens a page and waits until scripts, widgets and mathematics have done their work."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}
        media = [{"name": name, "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        self.log()
        self.driver.get(page if "://" in page else f"{self.site}{page}.html")
        self.wait(
            """
            const views = document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]').length;
            return document.readyState === "complete"
              && document.querySelectorAll(".reprise-explorer .noUi-handle").length >= views
              && (!document.querySelector(".math") || document.querySelectorAll("mjx-container").length > 0)
              && [...document.querySelectorAll(".reprise-explorer img")].every((image) => image.complete);
            """,
            f"{page} did not finish loading",
        )
        found = self.js("return document.documentElement.dataset.theme")
        assert found == theme, f"{page} is {found}, not {theme}"

    def js(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: str, complaint: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not self.js(condition):
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

    def violations(self) -> list[str]:
        """Serious and critical complaints of axe-core about the open page, one line each."""
        self.js(AXE)
        result = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run({resultTypes: ['violations']}).then(done);"
        )
        return [
            f"{found['id']} ({found['impact']}): {node['target']} {node['html'][:160]}"
            for found in result["violations"]
            if found["impact"] in ("serious", "critical")
            for node in found["nodes"]
        ]
