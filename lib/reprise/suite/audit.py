"""Doubt, made a command: the same numbers again (`verify`), and other numbers for the same verdict (`audit`)."""

from dataclasses import dataclass

from reprise.suite.catalogue import Card
from reprise.suite.evidence import finding_of, read_record, verdict_of

TOLERANCE = 1e-6
SHARE_ALLOWED = 1 / 20
_SUPPORTIVE, _OPPOSED = ("reproduced", "weaker"), ("contradicted",)


@dataclass(frozen=True)
class Change:
    """One claim whose verdict or effects differ between two records."""

    slug: str
    claim: str
    before: str
    after: str
    gap: float
    is_timed: bool = False  # made of wall-clock times, which other load on the machine moves

    @property
    def is_flip(self) -> bool:
        """True where the verdict turned into its opposite."""
        pair = (self.before, self.after)
        return any(pair[i] in _SUPPORTIVE and pair[1 - i] in _OPPOSED for i in (0, 1))

    @property
    def is_other_verdict(self) -> bool:
        return self.before != self.after

    def __str__(self) -> str:
        if self.is_other_verdict:
            return f"{self.slug}: {self.claim}: {self.before} -> {self.after}"
        return f"{self.slug}: {self.claim}: effects differ by up to {self.gap:.2g}, verdict {self.after} stands"


def is_same_machine(first: dict, second: dict) -> bool:
    """True where two runs should agree to 1e-6: same processor type, threads, device and torch version."""
    return (
        first["machine"] == second["machine"]
        and first["device"] == second["device"]
        and first["versions"]["torch"] == second["versions"]["torch"]
    )


def compare(card: Card, before: dict, after: dict) -> list[Change]:
    """Claims whose verdict or effects (relative to their size, beyond TOLERANCE) differ between two records."""
    changes = []
    for claim in card.claims:
        old, new = finding_of(claim, before), finding_of(claim, after)
        gap = float("inf")
        if old and new and len(old["effects"]) == len(new["effects"]):
            gap = max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(old["effects"], new["effects"], strict=True))
        elif not old and not new:
            gap = 0.0
        words = verdict_of(claim, before), verdict_of(claim, after)
        is_timed = bool(old and old.get("is_timed"))
        if words[0] != words[1] or (gap > TOLERANCE and not is_timed):
            changes.append(Change(card.slug, claim.id, *words, gap, is_timed))
    return changes


def verify(cards: list[Card], house, folder) -> tuple[list[str], bool]:
    """Compare fresh runs in `folder` with the committed records.

    On the machine of the record effects must agree, but for those made of wall-clock times; elsewhere only verdicts are
    compared, and the check fails when one turns into its opposite or more than one in twenty change.

    Returns:
        Lines for people, and whether the check passes.
    """
    lines, is_good, total, others = [], True, 0, 0
    for card in cards:
        before, after = read_record(card.slug, "quick", house, card.part), _record_in(folder, card.slug)
        if before is None or after is None:
            continue
        total += sum(finding_of(claim, before) is not None for claim in card.claims)
        changes = compare(card, before, after)
        same = is_same_machine(before, after)
        changed = changes if same else [c for c in changes if c.is_other_verdict]
        others += sum(c.is_other_verdict and not c.is_timed for c in changes)
        lines += [str(change) for change in changed]
        if same and any(not change.is_timed for change in changed):
            is_good = False
            lines.append(f"{card.slug}: this is the machine of the record, so effects should be equal to 1e-6.")
        if any(change.is_flip for change in changes):
            is_good = False
        if not changed:
            how = "effects equal" if same else "verdicts equal (another machine than the record's)"
            lines.append(f"{card.slug}: {how}")
    if total and others / total > SHARE_ALLOWED:
        is_good = False
        lines.append(f"{others} of {total} verdicts changed: more than one in twenty.")
    return lines, is_good


def audit(cards: list[Card], house, folder) -> tuple[list[str], bool]:
    """Compare runs with other seeds with the committed records; good where every *reproduced* stands."""
    lines, is_good = [], True
    for card in cards:
        before, after = read_record(card.slug, "quick", house, card.part), _record_in(folder, card.slug)
        if before is None or after is None:
            continue
        changed = [c for c in compare(card, before, after) if c.is_other_verdict]
        lines += [str(change) for change in changed] or [f"{card.slug}: every verdict stands"]
        is_good &= not any(change.before == "reproduced" for change in changed)
    return lines, is_good


def _record_in(folder, slug: str) -> dict | None:
    import nbformat

    path = folder / f"{slug}.ipynb"
    return nbformat.read(path, as_version=4).metadata.get("reprise") if path.is_file() else None
