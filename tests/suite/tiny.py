"""A small repository with tiny chapters, on which the machinery is tried."""

import textwrap
from pathlib import Path

from reprise.suite.house import House

HEAD = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---
"""


def fence(code: str, tags: str = "") -> str:
    tag_line = f":tags: [{tags}]\n\n" if tags else ""
    return f"```{{code-cell}} ipython3\n{tag_line}{textwrap.dedent(code).strip()}\n```\n"


PARAMETERS = fence('profile = "quick"\ndevice = "auto"\nfirst_seed = 100', "parameters")


def card(slug: str, claim: str = "", margin: float = 0.5) -> str:
    return (
        f"slug: {slug}\npart: memory\ntitle: Tiny\nauthors: [A]\nyear: 2020\nvenue: V\narxiv: ''\ncode: ''\nneeds: []\n"
        "claims:\n"
        "  - id: it-holds\n    says: It holds.\n    paper: not known\n    where: abstract\n"
        f"    effect: a number\n    unit: points\n    margin: {margin}\n    profile: quick\n{claim}"
    )


def chapter(slug: str, middle: str = "", effects: str = "[1.0 + 0.01 * (s % 7) for s in run.seeds]") -> str:
    """A chapter whose effects are `effects`; `middle` is code that runs before the evidence."""
    return (
        HEAD
        + "\n# Tiny\n\nSome prose.\n\n"
        + PARAMETERS
        + "\n"
        + fence(f"""
            from reprise.suite.chapter import begin
            run = begin("{slug}", profile=profile, device=device, first_seed=first_seed)
            """)
        + "\n"
        + (fence(middle) + "\n" if middle else "")
        + fence(f'run.weigh("it-holds", {effects})\nrun.evidence()')
    )


def make_house(root: Path, chapters: dict[str, str], cards: dict[str, str] | None = None) -> House:
    """A repository at `root` with the given chapter sources by slug."""
    (root / "_toc.yml").parent.mkdir(parents=True, exist_ok=True)
    (root / "_toc.yml").write_text("")
    house = House(root)
    for slug, text in chapters.items():
        for path, content in (
            (root / "lib/reprise/memory" / f"{slug.replace('-', '_')}.yml", (cards or {}).get(slug, card(slug))),
            (root / "book/memory" / f"{slug}.md", text),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return house
