"""The built site, served on this machine alone, and a browser that can reach nothing else."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # `from visit import …` under importlib mode

from visit import SITE, Browser, chromium, served  # noqa: E402


@pytest.fixture(scope="session")
def site() -> str:
    """Address of the served site, such as http://127.0.0.1:40001/."""
    if not (SITE / "index.html").is_file():
        pytest.skip("the site is not built: run `make book` first")
    with served() as address:
        yield address


@pytest.fixture(scope="session")
def browser(site, tmp_path_factory) -> Browser:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        if driver is None:
            pytest.skip("chromium, chromedriver or selenium is missing: `make test-browser` installs them")
        yield Browser(driver, site)
