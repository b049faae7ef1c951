"""The built site in headless Chromium: largest contentful paint, bytes and time until an explorer answers, per page.

Served with gzip, as public hosts do, to an empty cache: at full speed, and on a line of 1.6 Mbit/s with 150 ms
per round trip ("slow 4G", as page-speed tools throttle). `answers` is the time from navigation to the first slider move
that changes the picture: a script in the page tries until one does. `plain` are the bytes without compression, which is
what a page opened from disk reads. Both count what an opened page fetches; figures far down and the frames of explorers
are fetched when a reader comes near them. Medians of the visits.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from common import report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/browser"))

from visit import DESKTOP, PAGES, SITE, chromium, served  # noqa: E402

VISITS = 3
SLOW_4G = {"latency": 150, "downloadThroughput": 1.6e6 / 8, "uploadThroughput": 0.75e6 / 8, "offline": False}
FULL_SPEED = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1, "offline": False}

WATCH = """
window.lcp = null; window.answered = null;
new PerformanceObserver((list) => { for (const entry of list.getEntries()) window.lcp = entry.startTime; })
  .observe({ type: "largest-contentful-paint", buffered: true });
const shown = (root) => [...root.querySelectorAll("img")].find((image) => image.offsetParent);
const trying = () => {
  const explorer = document.querySelector(".reprise-explorer"), slider = explorer?.querySelector(SLIDER);
  const image = explorer && shown(explorer);
  if (slider && image?.complete) {
    const before = image.src;
    MOVE
    const watching = () => {
      const now = shown(explorer);
      if (now && now.src !== before && now.complete && now.naturalWidth) window.answered = performance.now();
      else if (performance.now() - started > 3000) requestAnimationFrame(trying);
      else requestAnimationFrame(watching);
    };
    const started = performance.now();
    watching();
  } else setTimeout(trying, 20);
};
document.addEventListener("DOMContentLoaded", trying);
""".replace("SLIDER", "'input[type=range]'").replace(
    "MOVE",
    "slider.value = Number(slider.value) + (slider.value === slider.max ? -1 : 1);"
    "slider.dispatchEvent(new Event('input', { bubbles: true }));",
)


def visit(driver, address: str, line: dict) -> dict:
    """One visit with an empty cache: seconds and kilobytes."""
    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", line)
    driver.get(address)
    explorer = driver.execute_script("return document.querySelector('.reprise-explorer') !== null")
    end = time.monotonic() + 60
    while explorer and driver.execute_script("return window.answered === null"):
        if time.monotonic() > end:
            raise SystemExit(f"{address}: the explorer does not answer within a minute")
        time.sleep(0.05)
    time.sleep(0.5)  # a later paint may be larger
    lcp, answered, files = driver.execute_script(
        "return [window.lcp, window.answered, [...performance.getEntriesByType('navigation'),"
        " ...performance.getEntriesByType('resource')].map((e) => [e.name, e.encodedBodySize, e.decodedBodySize])]"
    )
    pictures = [entry for entry in files if "/_images/explorer-" in entry[0]]
    total = [sum(entry[i] for entry in files) for i in (1, 2)]
    frames = sum(entry[1] for entry in pictures)
    return {
        "lcp_s": lcp / 1000,
        "answers_s": answered and answered / 1000,
        "sent_kb": (total[0] - frames) / 1000,
        "plain_kb": (total[1] - frames) / 1000,
        "frames_kb": frames / 1000,
        "largest": max(files, key=lambda entry: entry[1])[0].rsplit("/", 1)[-1].split("?")[0],
    }


def measured(driver, site: str, page: str) -> dict:
    fast = [visit(driver, f"{site}{page}.html", FULL_SPEED) for _ in range(VISITS)]
    slow = [visit(driver, f"{site}{page}.html", SLOW_4G) for _ in range(1)]
    row = {"page": page}
    for name, visits in (("", fast), ("slow_", slow)):
        for key in ("lcp_s", "answers_s"):
            found = [v[key] for v in visits if v[key] is not None]
            row[name + key] = round(statistics.median(found), 2) if found else None
    return (
        row
        | {key: round(fast[0][key]) for key in ("sent_kb", "plain_kb", "frames_kb")}
        | {"largest": fast[0]["largest"]}
    )


if __name__ == "__main__":
    if not (SITE / "index.html").is_file():
        raise SystemExit("the site is not built: run make book first")
    only = [word for word in sys.argv[1:] if not word.startswith("-")]
    with served() as site, tempfile.TemporaryDirectory() as profile, chromium(profile) as driver:
        if driver is None:
            raise SystemExit("chromium, chromedriver or selenium is missing: make test-browser installs them")
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        size = {"width": DESKTOP[0], "height": DESKTOP[1], "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        rows = [measured(driver, site, page) for page in (only or PAGES)]
    report("site_speed", rows, versions=("jupyter-book", "sphinx", "sphinx-book-theme"))
