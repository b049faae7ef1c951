"""What a chapter calls: `begin` a run, `weigh` its claims, show the `evidence`, read the recorded full run."""

import contextlib
import ctypes
import html
import math
import platform
import re
from dataclasses import dataclass, field
from importlib import metadata

import numpy as np
import torch

from reprise.suite import catalogue, evidence
from reprise.suite.errors import RepriseError
from reprise.suite.house import House

PROFILES = catalogue.PROFILES
_THREADS = torch.get_num_threads()  # what this machine gives, before a quick run takes one


def begin(slug: str, profile: str = "quick", device: str = "auto", first_seed: int = 100, num_seeds: int = 5) -> "Run":
    """Begin a chapter's run; display the result for the chapter's header.

    A quick run on a CPU takes one thread, so that its numbers are the same wherever it is started.

    Args:
        profile: "quick" or "full".
        device: "cpu", "cuda" or "auto" (the GPU where there is one).
        first_seed: seed of the first run; run i uses `first_seed + i`.
        num_seeds: how many runs; at least five.
    Raises:
        RepriseError: An argument that cannot be used; the message says which would do.
    """
    card = catalogue.find_card(slug)
    if profile not in PROFILES:
        raise RepriseError(f"There is no profile {profile!r}: use one of {', '.join(PROFILES)}.")
    if not isinstance(first_seed, int) or first_seed < 0:
        raise RepriseError(f"first_seed is a whole number, zero or more, not {first_seed!r}.")
    if num_seeds < evidence.MIN_SEEDS:
        raise RepriseError(f"num_seeds is {num_seeds}: a verdict needs at least {evidence.MIN_SEEDS}.")
    if device not in ("auto", "cpu", "cuda"):
        raise RepriseError(f"There is no device {device!r}: use cpu, cuda or auto.")
    if device == "cuda" and not torch.cuda.is_available():
        raise RepriseError('device = "cuda" finds no GPU here: use "auto" or "cpu", or start a runtime with a GPU.')
    _keep_freed_memory()
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    threads = 1 if profile == "quick" and chosen == "cpu" else _THREADS
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    return Run(card, profile, torch.device(chosen), first_seed, num_seeds, is_auto=device == "auto")


@dataclass
class Run:
    """One execution of a chapter: its profile, device and seeds, and the findings so far."""

    card: catalogue.Card = field(repr=False)
    profile: str
    device: torch.device
    first_seed: int
    num_seeds: int
    is_auto: bool = False  # the device was left to us
    findings: dict[str, evidence.Finding] = field(default_factory=dict, repr=False)
    curves: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def seeds(self) -> list[int]:
        """The seeds of this run, `first_seed` upwards."""
        return [self.first_seed + i for i in range(self.num_seeds)]

    @property
    def is_full(self) -> bool:
        return self.profile == "full"

    def choose(self, quick, full):
        """The settings of this run's profile."""
        return full if self.is_full else quick

    def weigh(self, claim: str, effects, is_timed: bool = False) -> None:
        """Weigh one claim by its effects, one per seed of this run, in the order of `seeds`.

        Args:
            is_timed: the effects are made of wall-clock times, so that `verify` compares verdicts only.

        Raises:
            RepriseError: Unknown claim, weighed twice, not decidable at this profile, wrong number of effects, NaN.
        """
        known = self.card.claim(claim)
        if claim in self.findings:
            raise RepriseError(f"The claim {claim!r} has been weighed already: one effect per seed, one verdict.")
        if known.profile == "full" and not self.is_full:
            raise RepriseError(
                f"The claim {claim!r} is decided by the full profile only: put it under `if run.is_full`."
            )
        try:
            finding = evidence.weigh(known, effects, is_timed)
        except ValueError as error:
            raise RepriseError(f"{claim}: {error}") from error
        if len(finding.effects) != self.num_seeds:
            raise RepriseError(f"The claim {claim!r} got {len(finding.effects)} effects for {self.num_seeds} seeds.")
        self.findings[claim] = finding

    def keep(self, **arrays) -> None:
        """Keep small named arrays (curves) with the record of a full run, so that its page can draw them."""
        for name, array in arrays.items():
            array = array.detach().cpu().numpy() if hasattr(array, "detach") else np.asarray(array)
            if array.dtype == object:
                raise RepriseError(f"keep({name}=…) takes an array of numbers.")
            self.curves[name] = array.astype(np.float32) if array.dtype == np.float64 else array

    def evidence(self) -> "Evidence":
        """The evidence of this run, for display. Raises RepriseError while a claim has not been weighed."""
        missing = [c.id for c in self.card.claims if c.is_decidable_at(self.profile) and c.id not in self.findings]
        if missing:
            raise RepriseError(
                f"Not weighed yet: {', '.join(missing)}. Every claim decidable at this profile needs effects."
            )
        return Evidence(self)

    def full_record(self) -> "FullRecord":
        """The recorded full run of this chapter, for display, with its `.curves`."""
        house = House.here()
        record = evidence.read_record(self.card.slug, "full", house)
        path = house.full_curves(self.card.slug)
        curves = {}
        if record and path.is_file():
            with np.load(path, allow_pickle=False) as kept:
                curves = {name: kept[name] for name in kept.files}
        return FullRecord(self.card, record, curves)

    def record(self) -> dict:
        """What is kept of this run, but for digest, time and memory, which only the runner knows."""
        content = {
            "slug": self.card.slug,
            "profile": self.profile,
            "first_seed": self.first_seed,
            "device": _device_name(self.device),
            "machine": {"processor": processor(), "threads": torch.get_num_threads(), "system": platform.system()},
            "versions": {name: metadata.version(name) for name in ("torch", "numpy", "scipy")}
            | {"python": platform.python_version(), "reprise": metadata.version("reprise")},
            "evidence": evidence.entries(list(self.findings.values())),
        }
        if self.is_full and self.curves:
            content["curves"] = evidence.pack_curves(self.curves)
        return content

    def _repr_html_(self) -> str:
        card = self.card
        links = []
        if card.arxiv:
            links.append(f'<a href="https://arxiv.org/abs/{card.arxiv}">arXiv {card.arxiv}</a>')
        if card.code:
            links.append(f"official code: {_code_link(card.code)}")
        needs = ", ".join(f"<code>{slug}</code>" for slug in card.needs) or "none"
        device = html.escape(_device_name(self.device))
        if self.is_auto:
            device += f" (<code>auto</code> found {'this GPU' if self.device.type == 'cuda' else 'no GPU'})"
        minutes = _reading_minutes(card)
        rows = [
            ("Paper", f"<em>{html.escape(card.title)}</em>, {html.escape(', '.join(card.authors))} "
                      f"({card.year}), {html.escape(card.venue)}"),
            ("Links", " · ".join(links) or "none on record"),
            ("Read first", needs),
            *([("Reading time", f"about {minutes} minutes")] if minutes else []),
            ("Runs on", "one CPU core in about a minute (<code>quick</code>); a GPU in ten minutes or a CPU in half an "
                        "hour (<code>full</code>)"),
            ("This run", f"profile <code>{self.profile}</code>, {device}, "
                         f"seeds {self.seeds[0]} to {self.seeds[-1]}"),
        ]  # fmt: skip
        return (
            '<dl class="reprise-header">'
            + "".join(f"<div><dt>{name}</dt><dd>{text}</dd></div>" for name, text in rows)
            + "</dl>"
        )


@dataclass(frozen=True)
class Evidence:
    """The evidence table of a run; beside it a JSON bundle that the runner lifts into the notebook's metadata."""

    run: Run

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        record = self.run.record()
        return {
            "text/html": evidence.table(self.run.card, {self.run.profile: record}),
            "text/plain": evidence.as_text(self.run.card, record),
            evidence.MIME: record,
        }


@dataclass(frozen=True, repr=False)
class FullRecord:
    """A recorded full run, or the plain statement that there is none; `curves` are the arrays it kept."""

    card: catalogue.Card
    record: dict | None
    curves: dict[str, np.ndarray]

    def __bool__(self) -> bool:
        return self.record is not None

    def __repr__(self) -> str:  # which an executed notebook keeps: no card, no curves
        return evidence.as_text(self.card, self.record) if self else "no full run on record"

    def _repr_html_(self) -> str:
        if self.record is None:
            return (
                "<p>No full run of this chapter is on record yet. Make one with "
                f"<code>reprise run {self.card.slug} --profile full</code>.</p>"
            )
        versions = ", ".join(f"{name} {version}" for name, version in self.record["versions"].items())
        return (
            f"<p>Recorded on {html.escape(self.record['device'])}, {self.record['seconds'] / 60:.1f} minutes, "
            f"seeds from {self.record['first_seed']}; {html.escape(versions)}.</p>"
            + evidence.table(self.card, {"full": self.record}).replace('id="claim-', 'id="full-claim-')
        )


def say(markdown: str):
    """A Markdown sentence whose numbers come from variables."""
    from IPython.display import Markdown

    return Markdown(markdown)


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensor instead of giving it back to the system page by page.

    Stacked runs allocate megabytes at every step; without this a third of a chapter's time went into page faults.
    """
    with contextlib.suppress(OSError, AttributeError):  # another system, another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-1, 2**30)  # M_TRIM_THRESHOLD, bytes
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, bytes; the largest that glibc takes


def processor() -> str:
    """The processor's model, the part of a machine that decides how floating-point sums are ordered."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            fields = dict(re.findall(r"^(model name|model)\s*:\s*(.+)$", file.read(), flags=re.M))
        return f"{fields['model name']} (model {fields['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def _code_link(code: str) -> str:
    name = html.escape(code)
    return f'<a href="https://github.com/{name}">{name}</a>' if re.fullmatch(r"[\w.-]+/[\w.-]+", code) else name


def _reading_minutes(card: catalogue.Card) -> int | None:
    """Minutes at 180 words a minute, rounded to five; None where the source is not at hand."""
    source = House.here().source(card.part, card.slug)
    if not source.is_file():
        return None
    words = len(re.findall(r"\w+", source.read_text(encoding="utf-8")))
    return 5 * math.ceil(words / 180 / 5)
