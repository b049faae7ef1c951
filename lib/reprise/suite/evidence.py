"""Evidence: from effects, one per seed, to an interval and a verdict; and the record that keeps them."""

import base64
import html
import io
import json
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import stats

from reprise.suite.catalogue import Card, Claim
from reprise.suite.errors import RepriseError
from reprise.suite.house import House

VERDICTS = ("reproduced", "weaker", "contradicted", "inconclusive", "out of reach", "not yet run")
SIGNS = dict(zip(VERDICTS, ("✓", "≳", "✗", "?", "–", "…"), strict=True))
MIME = "application/vnd.reprise.evidence+json"
MIN_SEEDS = 5


@dataclass(frozen=True)
class Finding:
    """What one run says of one claim: effects per seed, the 95 % interval of their mean, the verdict.

    `is_timed` marks effects made of wall-clock times, which no second run repeats to the last digit.
    """

    claim: str
    effects: tuple[float, ...]
    mean: float
    low: float
    high: float
    margin: float
    verdict: str
    is_timed: bool = False


def interval(effects, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean, lower and upper end of Student's t interval of the mean of independent effects, shape (seeds,).

    Raises:
        ValueError: Fewer than two effects (one seed gives no interval), or one that is not a finite number.
    """
    values = np.asarray(effects, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"Effects are one number per seed, shape (seeds,), not an array of shape {values.shape}.")
    if len(values) < 2:
        raise ValueError("One seed gives no interval and no verdict: run at least five.")
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values)).tolist()
        raise ValueError(f"Effects {bad} are not finite numbers: find out why before judging.")
    mean = float(values.mean())
    half = _quantile(confidence, len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half


@lru_cache
def _quantile(confidence: float, degrees: int) -> float:
    return float(stats.t.ppf(0.5 + confidence / 2, degrees))


def verdict(low: float, high: float, margin: float) -> str:
    """The verdict that an interval earns (DESIGN §2): positive effects are as the paper says."""
    if low > margin:
        return "reproduced"
    if low > 0:
        return "weaker"
    if high < 0:
        return "contradicted"
    return "inconclusive"


def weigh(claim: Claim, effects, is_timed: bool = False) -> Finding:
    """Judge one claim. Raises ValueError for effects that cannot be judged, or too few of them."""
    values = _flat(effects)
    if claim.margin is None:
        raise ValueError(f"The claim {claim.id!r} is out of reach ({claim.out_of_reach}); it takes no effects.")
    if len(values) < MIN_SEEDS:
        raise ValueError(f"The claim {claim.id!r} got {len(values)} effects: at least {MIN_SEEDS} seeds are needed.")
    mean, low, high = interval(values)
    word = verdict(low, high, claim.margin)
    return Finding(claim.id, tuple(values), mean, low, high, claim.margin, word, is_timed)


def _flat(effects) -> list[float]:
    if hasattr(effects, "detach"):
        effects = effects.detach().cpu().numpy()
    array = np.asarray(effects, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"Effects are one number per seed, shape (seeds,), not an array of shape {array.shape}.")
    return array.tolist()


# --- records ----------------------------------------------------------------------------------------------------------


def read_record(slug: str, profile: str = "quick", house: House | None = None, part: str | None = None) -> dict | None:
    """The record of a chapter's run, or None where none is kept.

    Quick records live in the executed notebook's metadata, full ones in `data/evidence/<slug>.full.json`.

    Raises:
        RepriseError: The file is there but cannot be read as a record.
    """
    house = house or House.here()
    if profile == "full":
        path = house.full_record(slug)
    else:
        found = [house.notebook(part, slug)] if part else sorted(house.root.glob(f"notebooks/*/{slug}.ipynb"))
        path = found[0] if found else Path("/nonexistent")
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RepriseError(
            f"{path} is not valid JSON ({error}): restore it from git or run the chapter again."
        ) from error
    return content if profile == "full" else content["metadata"].get("reprise")


def finding_of(claim: Claim, record: dict | None) -> dict | None:
    """The entry of a claim in a record, or None."""
    for entry in (record or {}).get("evidence", ()):
        if entry["claim"] == claim.id:
            return entry
    return None


def verdict_of(claim: Claim, record: dict | None) -> str:
    """The verdict of a claim as far as one record knows it."""
    if claim.out_of_reach:
        return "out of reach"
    entry = finding_of(claim, record)
    return entry["verdict"] if entry else "not yet run"


def settled(claim: Claim, quick: dict | None, full: dict | None) -> str:
    """The verdict that counts: at the profile that the card registered for the claim."""
    return verdict_of(claim, full if claim.profile == "full" else quick)


def pack_curves(curves: dict[str, np.ndarray], limit: int = 200_000) -> str:
    """Named arrays as a base64 text of a compressed npz. Raises ValueError where they exceed `limit` bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **curves)
    if buffer.tell() > limit:
        raise ValueError(f"The kept curves take {buffer.tell():,} bytes, over {limit:,}: keep fewer points.")
    return base64.b64encode(buffer.getvalue()).decode()


# --- what the reader sees ---------------------------------------------------------------------------------------------


def chip(word: str) -> str:
    """A verdict as HTML: a word and a sign, never a colour alone."""
    return f'<span class="reprise-verdict reprise-{word.replace(" ", "-")}">{SIGNS[word]} {word}</span>'


def amount(value: float) -> str:
    """A number with three significant digits, with the typographic minus."""
    return f"{value:.3g}".replace("-", "−")


def table(card: Card, records: dict[str, dict | None]) -> str:
    """HTML table of every claim of a card against one or more records, by profile name."""
    names = list(records)
    head = "".join(f"<th scope='col'>Effect, {name} run</th><th scope='col'>Verdict</th>" for name in names)
    rows = []
    for claim in card.claims:
        cells = "".join(_cells(claim, records[name]) for name in names)
        rule = html.escape(claim.effect or claim.out_of_reach)
        note = "" if claim.changed is None else (
            f"<p>Registered first as: {html.escape(claim.registered)} Changed because: {html.escape(claim.changed)}</p>"
        )  # fmt: skip
        rows.append(
            f'<tr id="claim-{claim.id}"><th scope="row">{html.escape(claim.says)}'
            f"<details><summary>{'why not' if claim.out_of_reach else 'rule'}</summary><p>{rule}</p>{note}</details>"
            f"</th><td>{html.escape(claim.paper)}</td>{cells}</tr>"
        )
    return (
        '<div class="reprise-scroll" tabindex="0" role="region" aria-label="Evidence"><table class="reprise-evidence">'
        f"<thead><tr><th scope='col'>Claim</th><th scope='col'>The paper's figure</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cells(claim: Claim, record: dict | None) -> str:
    entry, word = finding_of(claim, record), verdict_of(claim, record)
    if entry is None:
        return f"<td>{'' if claim.out_of_reach else f'decided by the {claim.profile} run'}</td><td>{chip(word)}</td>"
    return (
        f"<td><strong>{amount(entry['mean'])}</strong> [{amount(entry['low'])}, {amount(entry['high'])}]<br>"
        f"<small>{html.escape(claim.unit)}; margin {amount(entry['margin'])}; "
        f"{len(entry['effects'])} seeds</small></td>"
        f"<td>{chip(word)}</td>"
    )


def as_text(card: Card, record: dict) -> str:
    """The same table for a terminal."""
    lines = []
    for claim in card.claims:
        entry, word = finding_of(claim, record), verdict_of(claim, record)
        numbers = f"{amount(entry['mean'])} [{amount(entry['low'])}, {amount(entry['high'])}]" if entry else ""
        lines.append(f"{SIGNS[word]} {word:13} {claim.id:34} {numbers}")
    return "\n".join(lines)


def entries(findings: list[Finding]) -> list[dict]:
    """Findings as plain JSON objects; `is_timed` stands only where it is true."""
    plain = [asdict(finding) | {"effects": list(finding.effects)} for finding in findings]
    return [{name: value for name, value in entry.items() if name != "is_timed" or value} for entry in plain]
