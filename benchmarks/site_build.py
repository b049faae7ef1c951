"""Time to build the site: the chapters there are, twice, and 85 synthetic ones made of copies of them."""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

import yaml
from common import report

from reprise.suite.catalogue import load_cards
from reprise.suite.execution import written
from reprise.suite.house import House

BIN = Path(sys.executable).parent


def build(root: Path) -> float:
    """Seconds of one `jupyter-book build` of a checkout."""
    started = time.perf_counter()
    subprocess.run([BIN / "jupyter-book", "build", "-q", str(root)], check=True, env={"REPRISE_ROOT": str(root)})
    return time.perf_counter() - started


def copy_of(house: House, folder: Path) -> Path:
    root = folder / "copy"
    shutil.copytree(house.root, root, ignore=shutil.ignore_patterns(".venv*", "_build", ".git"))
    return root


def add_synthetic(house: House, root: Path, total: int) -> None:
    """Give every paper that has no chapter a copy of one, until there are `total`."""
    cards, models = load_cards(house), cycle(written(house).values())
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    parts = {section["file"].split("/")[1]: section for part in toc["parts"] for section in part["chapters"]
             if section["file"].endswith("/index")}  # fmt: skip
    for card in cards.values():
        if house.source(card.part, card.slug).is_file():
            continue
        model = next(models)
        text = house.notebook(model.part, model.slug).read_text()
        # labels are unique in a book
        text = re.sub(r"(:label: |\{solution-start\} )([\w-]+)", rf"\g<1>\g<2>-{card.slug}", text)
        target = root / f"notebooks/{card.part}/{card.slug}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        section = parts.get(card.part)
        if section is not None:
            section.setdefault("sections", []).append({"file": f"notebooks/{card.part}/{card.slug}"})
    (root / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
    assert len(list((root / "notebooks").glob("*/*.ipynb"))) >= total


if __name__ == "__main__":
    house = House.here()
    number = len(written(house))
    with tempfile.TemporaryDirectory() as folder:
        root = copy_of(house, Path(folder))
        rows = [
            {"chapters": number, "build": "first", "seconds": build(root)},
            {"chapters": number, "build": "second", "seconds": build(root)},
        ]
        add_synthetic(house, root, 85)
        rows.append({"chapters": 85, "build": "first", "seconds": build(root)})
    report("site_build", rows, versions=("jupyter-book", "sphinx", "myst-nb"))
