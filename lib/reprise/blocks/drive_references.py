"""References for electric drives: random walks, waves and steps, switched at random, for thousands of tracks at once.

By the rules of the toolbox of Traue, Book, Kirchgässner & Wallscheid (arXiv 1910.09434) as its package
`gym-electric-motor` 3.0.3 has them, but for "step", whose levels are not yet distributed as there. A reference is a
share of the limit of the state that is to follow it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from reprise.blocks.seeds import RunRNG

WALKS, WAVES = ("wiener", "laplace"), ("sinusoid", "triangle", "sawtooth", "step")


@dataclass(frozen=True)
class Reference:
    """A generator of references for one state, by the toolbox's rules.

    A reference is cut into sub-episodes of random length; each draws its own σ (log-uniformly), or amplitude,
    frequency, offset and phase (uniformly). Values stay within the margin `low` to `high`, clipped at every step.

    Args:
        kind: "wiener", "laplace", "sinusoid", "triangle", "sawtooth", "step" or "constant" (then `value`).
        low, high: the margin; the toolbox takes the nominal value divided by the limit.
        sigma: range of the increments' scale.
        frequency_hz: range of the waves' frequency.
        lengths: range of a sub-episode's length, in steps.
    Raises:
        ValueError: an unknown kind, or a margin that is empty.
    """

    kind: str = "wiener"
    low: float = 0.0
    high: float = 0.75
    sigma: tuple[float, float] = (1e-3, 2e-2)
    frequency_hz: tuple[float, float] = (1.0, 10.0)
    lengths: tuple[int, int] = (500, 2000)
    value: float = 0.5

    def __post_init__(self):
        if self.kind not in (*WALKS, *WAVES, "constant") or self.low > self.high:
            kinds = ", ".join((*WALKS, *WAVES, "constant"))
            raise ValueError(f"a reference is one of {kinds}, with low <= high; got {self}")


def tracks(
    references: Reference | Sequence[Reference],
    rng: RunRNG,
    count: int,
    steps: int,
    tau_s: float = 1e-4,
    super_lengths: tuple[int, int] = (100, 10_000),
) -> Float[Tensor, "runs count steps"]:
    """Independent references for every run; several generators are switched at random ("switched" in the toolbox).

    Args:
        references: one generator, or several with equal chances at every switch.
        rng: one stream of randomness per run.
        count: tracks per run.
        steps: length of a track.
        super_lengths: range of the number of steps for which a generator is kept, if there are several.
    """
    if isinstance(references, Reference):
        references, super_lengths = (references,), (steps, steps + 1)
    shape, dtype = (rng.runs, count), torch.float64
    current, left = torch.zeros(shape, dtype=dtype), torch.full(shape, -1, dtype=dtype)  # value; steps to a switch
    chosen, begin = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=dtype)
    pieces = []  # one dictionary of draws (runs, count) for every sub-episode
    while bool((begin < steps).any()):
        u = rng.uniform(10, count).to(dtype).unbind(1)  # (runs, count) each
        switches = left <= 0
        chosen = torch.where(switches, (u[0] * len(references)).long(), chosen)
        left = torch.where(switches, _between(super_lengths, u[1]).floor(), left)
        drawn = [_draw(reference, u) for reference in references]
        piece = {name: torch.stack([d[name] for d in drawn]).gather(0, chosen[None])[0] for name in drawn[0]}
        length = torch.minimum(piece["length"], left)
        pieces.append(piece | {"begin": begin, "chosen": chosen})
        begin, left = begin + length, left - length
    first = _between((references[0].low, references[0].high), rng.uniform(count).to(dtype))
    current = torch.where(pieces[0]["is_wiener"] > 0, first, 0.0)
    return _play(references, pieces, current, rng, steps, tau_s)


def _between(ends: tuple, u: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * u


def _draw(reference: Reference, u: Sequence[Tensor]) -> dict[str, Tensor]:
    """What a sub-episode of this generator draws, from ten uniform numbers per track (the first two are taken)."""
    low, high, kind = reference.low, reference.high, reference.kind
    amplitude = _between((0.0, (high - low) / 2), u[4])
    # the toolbox keeps the mirrored margin free on the lower side, except for steps; clipping does the rest
    lowest = low + amplitude if kind == "step" else (amplitude - high).clamp_min(low)
    rise, mode = u[8], 0.5  # share of a period spent rising, or in the low state (triangular density for steps)
    low_share = torch.where(rise < mode, (rise * mode).sqrt(), 1 - ((1 - rise) * (1 - mode)).sqrt())
    shares = {"triangle": rise, "sawtooth": torch.ones_like(rise), "step": low_share}
    constant = torch.full_like(rise, reference.value)
    return {
        "length": _between(reference.lengths, u[2]).floor(),
        "sigma": 10 ** _between((math.log10(reference.sigma[0]), math.log10(reference.sigma[1])), u[3]),
        "amplitude": amplitude,
        "frequency": _between(reference.frequency_hz, u[5]),
        "offset": constant if kind == "constant" else _between((lowest, high - amplitude), u[6]),
        "phase": u[7],
        "share": shares.get(kind, rise),
        "low": torch.full_like(rise, low),
        "high": torch.full_like(rise, high),
        "is_wiener": torch.full_like(rise, kind == "wiener"),
        "is_laplace": torch.full_like(rise, kind == "laplace"),
    }


def _play(references, pieces: list[dict], current: Tensor, rng: RunRNG, steps: int, tau_s: float) -> Tensor:
    """The tracks of given sub-episodes: waves in closed form, walks step by step because they are clipped."""
    time = torch.arange(steps, dtype=torch.float64).expand(*current.shape, steps).contiguous()
    begins = torch.stack([piece["begin"] for piece in pieces], -1)
    place = torch.searchsorted(begins, time, right=True) - 1
    at = {name: torch.stack([p[name] for p in pieces], -1).gather(-1, place) for name in pieces[0]}
    cycles = at["frequency"] * (time - at["begin"]) * tau_s + at["phase"]
    turn = cycles.frac()
    ramp = torch.where(turn < at["share"], 2 * turn / at["share"] - 1, 1 - 2 * (turn - at["share"]) / (1 - at["share"]))
    shapes = {
        "sinusoid": lambda: (2 * math.pi * cycles).sin(),
        "triangle": lambda: ramp,
        "sawtooth": lambda: ramp,
        "step": lambda: (turn - at["share"]).sign(),
    }
    wave = at["offset"]
    for number, reference in enumerate(references):
        if reference.kind in WAVES:
            own = (at["offset"] + at["amplitude"] * shapes[reference.kind]()).clamp(reference.low, reference.high)
            wave = torch.where(at["chosen"] == number, own, wave)
    walks = {reference.kind for reference in references} & set(WALKS)
    if not walks:
        return wave
    scatter = torch.zeros_like(wave)
    if "wiener" in walks:
        scatter += at["is_wiener"] * rng.normal(*wave.shape[1:])
    if "laplace" in walks:
        u = rng.uniform(*wave.shape[1:]).to(wave) - 0.5
        scatter -= at["is_laplace"] * u.sign() * torch.log1p(-2 * u.abs() + 1e-12)
    is_walk = at["is_wiener"] + at["is_laplace"] > 0
    columns = [x.movedim(-1, 0).contiguous() for x in (at["sigma"] * scatter, at["low"], at["high"], is_walk, wave)]
    values = torch.empty_like(columns[0])
    for now, (increment, low, high, walking, other) in enumerate(zip(*columns)):
        current = torch.minimum(torch.maximum(current + increment, low), high)
        if len(references) > 1:
            current = torch.where(walking, current, other)
        values[now] = current
    return values.movedim(0, -1)
