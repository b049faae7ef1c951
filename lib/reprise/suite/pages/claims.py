"""The scoreboard as data: `claims.csv` and `claims.json` at the top of the site, one row per claim."""

import csv
import io
import json
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

from reprise.suite import evidence
from reprise.suite.catalogue import Card, Claim
from reprise.suite.pages.page import Catalogue, anchor, docname

_OF_A_RUN = {
    "verdict": "verdict at this run",
    "mean": "mean effect over seeds",
    "low": "lower end of the 95 % interval of the mean",
    "high": "upper end of the interval",
    "seeds": "number of seeds",
    "first_seed": "the first one; they are consecutive",
    "effects": "the effect of each seed, in order (CSV: joined by spaces)",
}
COLUMNS = {
    "part": "part of the book",
    "slug": "the paper's name everywhere in the repository",
    "title": "title of the paper",
    "year": "year of the paper",
    "claim": "name of the claim, unique within a paper",
    "says": "the claim, one sentence that can fail",
    "paper": "the paper's own figure",
    "where": "where it stands in the paper",
    "effect": "the number by which the claim is weighed, in words; positive is as the paper says",
    "unit": "unit of effect, interval and margin",
    "margin": "the interval has to lie above it for “reproduced”",
    "decided_by": "run whose verdict counts, quick or full",
    "verdict": "the verdict that counts",
    "out_of_reach": "why the claim cannot be tested at this size",
    **{f"{run}_{name}": f"{run} run: {meaning}" for run in ("quick", "full") for name, meaning in _OF_A_RUN.items()},
    "link": "permanent address of the claim on the scoreboard",
}


def row(catalogue: Catalogue, card: Card, claim: Claim, site: str = "") -> dict:
    """One claim by the names of COLUMNS; None where there is nothing to say. `site` is the site's public address."""
    records = {profile: catalogue.record(card, profile) for profile in ("quick", "full")}
    found = {
        "part": card.part,
        "slug": card.slug,
        "title": card.title,
        "year": card.year,
        "claim": claim.id,
        "says": claim.says,
        "paper": claim.paper,
        "where": claim.where,
        "effect": claim.effect,
        "unit": claim.unit,
        "margin": claim.margin,
        "decided_by": claim.profile,
        "verdict": evidence.settled(claim, **records),
        "out_of_reach": claim.out_of_reach,
        "link": f"{site}book/scoreboard.html#{anchor(card, claim)}",
    }
    for profile, record in records.items():
        if entry := evidence.finding_of(claim, record):
            counts = {"seeds": len(entry["effects"]), "first_seed": record["first_seed"]}
            found |= {f"{profile}_{name}": (entry | counts)[name] for name in _OF_A_RUN}
    return {name: found.get(name) for name in COLUMNS}


def as_csv(rows: list[dict]) -> str:
    """Rows as CSV with a header; empty where there is nothing to say."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    for found in rows:
        writer.writerow(
            {name: " ".join(map(str, value)) if isinstance(value, list) else value for name, value in found.items()}
        )
    return buffer.getvalue()


def write(app: Sphinx, exception: Exception | None) -> None:
    """Put both files beside the built pages."""
    if exception or app.builder.name != "html":
        return
    catalogue, site = app.reprise_catalogue, app.config.html_baseurl
    cards = [card for card in catalogue.cards.values() if docname(card) in app.env.found_docs]
    rows = [row(catalogue, card, claim, site) for card in cards for claim in card.claims]
    project = tomllib.loads((Path(app.confdir) / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    about = {"title": "Claims of Reprise", "version": project["version"], "license": "CC-BY-4.0", "columns": COLUMNS}
    out = Path(app.outdir)
    (out / "claims.csv").write_text(as_csv(rows), encoding="utf-8")
    (out / "claims.json").write_text(json.dumps(about | {"claims": rows}, ensure_ascii=False, indent=1), "utf-8")
