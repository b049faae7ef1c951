"""`reprise new SLUG`: lay out the files of a chapter, with a TODO wherever a person has to write."""

from pathlib import Path

from reprise.suite.catalogue import PARTS, Card, find_card
from reprise.suite.errors import RepriseError
from reprise.suite.house import House, module_name, write_atomically
from reprise.suite.structure import SECTIONS

CARD = """\
slug: {slug}
part: {part}
title: "TODO the paper's title"
authors: ["TODO"]
year: 2000
venue: "TODO"
arxiv: ""
code: ""
needs: []
claims:
  - id: main-claim
    says: "TODO one sentence of the paper that can fail."
    paper: "not known"
    where: "TODO section, table or figure"
    effect: "TODO the number, one per seed, by which the claim is weighed; positive means as the paper says"
    unit: "TODO"
    margin: 0
    profile: quick
"""

MODULE = '''\
"""TODO: what the method is, in one paragraph.

{title} ({year}{arxiv}); equation numbers are the paper's.
Symbols: TODO map the paper's letters to the names used here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Sizes of a run; QUICK takes at most 60 s on one core, FULL ten minutes on a GPU."""

    steps: int


QUICK = Settings(steps=100)  # TODO
FULL = Settings(steps=1000)  # TODO
'''

TEST = '''\
"""Oracles of `reprise.{part}.{module}`: what is true of the method apart from the experiment."""

# TODO at least three tests named by what must be true, each with an oracle independent of the module.
'''

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

# {title}

```{{code-cell}} ipython3
:tags: [parameters]

profile = "quick"  # "full" runs bigger: minutes on a GPU, up to half an hour on a CPU
device = "auto"  # "cpu", "cuda" or "auto"
first_seed = 100  # evidence starts here; seeds 0 to 99 were for tuning
```

```{{code-cell}} ipython3
:tags: [hide-input]

from reprise.{part} import {module}
from reprise.suite import begin, explore, plots, say, show

run = begin("{slug}", profile=profile, device=device, first_seed=first_seed)
run
```
"""

BODIES = {
    "The picture": "TODO the one figure or explorer that makes the idea click.\n\n"
    "```{code-cell} ipython3\n:tags: [hide-input]\n\n"
    "# TODO explore(draw, alt=..., name=[...]) or plots.picture(fig, alt=..., caption=...)\n```\n",
    "The question": "TODO the question, and a prediction to make before the answer.\n",
    "The idea": "TODO the mathematics, every symbol with its shape where it first appears.\n",
    "The method in code": "```{code-cell} ipython3\n# TODO show({module}.…)\n```\n",
    "The experiment": "TODO what is compared with what: a strong baseline, an ablation, how both were tuned.\n",
    "The evidence": "```{code-cell} ipython3\n{weigh}\nrun.evidence()\n```\n",
    "The full run": "```{code-cell} ipython3\nrun.full_record()\n```\n",
    "Where it breaks": "TODO one demonstrated failure or limit.\n",
    "Exercises": "{exercises}",
    "Next": "TODO chapters that build on this one, and the paper: {cite:t}`TODO-key-in-references.bib`.\n",
}

EXERCISE = """\
```{{exercise-start}}
:label: {slug}-{number}
```
TODO exercise {number}.
```{{exercise-end}}
```

```{{solution-start}} {slug}-{number}
:class: dropdown
```
TODO solution.

```{{code-cell}} ipython3
answer = ...  # TODO the code that finds it
say(f"TODO a sentence with {{answer}}, the last line: an exported assignment asks the student for these numbers.")
```
```{{solution-end}}
```
"""


def lay_out(house: House, slug: str, part: str | None = None) -> list[Path]:
    """Create the files that a paper still lacks and return them; files that exist are left as they are.

    The other files are made from the card, so a paper without one gets its card alone, to be filled in first.

    Raises:
        RepriseError: The paper has no card and no part was named for one, or a TODO is left in its card.
    """
    made = []
    try:
        card = find_card(slug, house)
    except RepriseError as error:
        if part is None:
            raise RepriseError(
                f"{error} For a paper that is new to the catalogue add --part, one of {', '.join(PARTS)}."
            ) from error
        if part not in PARTS:
            raise RepriseError(f"There is no part {part!r}: choose one of {', '.join(PARTS)}.") from error
        path = house.card(part, slug)
        write_atomically(path, CARD.format(slug=slug, part=part))
        return [path]
    if "TODO" in (path := house.card(card.part, slug)).read_text(encoding="utf-8"):
        raise RepriseError(f"A TODO is left in the card: fill in {path} first; the other files are made from it.")
    for path, text in _files(house, card).items():
        if not path.exists():
            write_atomically(path, text)
            made.append(path)
    return made


def _files(house: House, card: Card) -> dict[Path, str]:
    module = module_name(card.slug)
    arxiv = f", arXiv {card.arxiv}" if card.arxiv else ""
    weigh = "\n".join(f'# TODO run.weigh("{claim.id}", …)' for claim in card.claims if claim.profile)
    exercises = "\n".join(EXERCISE.format(slug=card.slug, number=number) for number in (1, 2, 3))
    chapter = HEAD.format(title=card.title, part=card.part, module=module, slug=card.slug)
    for section in SECTIONS:
        body = BODIES[section].replace("{module}", module).replace("{weigh}", weigh).replace("{exercises}", exercises)
        chapter += f"\n## {section}\n\n{body}"
    return {
        house.module(card.part, card.slug): MODULE.format(title=card.title, year=card.year, arxiv=arxiv),
        house.test(card.part, card.slug): TEST.format(part=card.part, module=module),
        house.source(card.part, card.slug): chapter,
    }
