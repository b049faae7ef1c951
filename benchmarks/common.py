"""What every benchmark shares: where it ran, a table, a file."""

import argparse
import json
import platform
from importlib import metadata
from pathlib import Path

from reprise.suite.chapter import processor

RESULTS = Path(__file__).parent / "results"


def report(name: str, rows: list[dict], versions: tuple[str, ...] = ("torch",)) -> None:
    """Print rows as a Markdown table; with --save on the command line, keep them in results/<name>.json."""
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(_cell(row[c]) for c in columns) + " |")
    if _is_kept():
        RESULTS.mkdir(exist_ok=True)
        content = {
            "processor": processor(),
            "python": platform.python_version(),
            "versions": {package: metadata.version(package) for package in versions},
            "rows": rows,
        }
        (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def _is_kept() -> bool:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save", action="store_true", help="keep the result in benchmarks/results/")
    return parser.parse_known_args()[0].save


def _cell(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
