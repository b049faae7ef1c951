"""Populations as a batch axis: members that train side by side, copy one another and change their hyper-parameters.

A *group* is one population (one seed under one condition), a *member* one network of it. Networks are stacked as
rows, group after group: row = group * members + member, so that all populations of an experiment train in one
loop of the stacked blocks. What belongs to members has shape (groups, members, ...); what belongs to rows has
(groups * members, ...).

- `Prior`, `sample`, `perturb`, `resample`: hyper-parameters (groups, members, k), drawn and explored;
- `truncation`, `tournament`, `t_test`: exploit rules; each returns *donors* (groups, members), the member whose
  place everyone continues from, the own number meaning "keep going";
- `Population`: hyper-parameters, copying of weights with optimiser state, and the `Lineage` of every member.

Nothing here draws numbers: uniforms come in as arguments, from `RunRNG` and the run's seeds. All members of a
group decide at the same time, from the same scores, and copy what the donor had before anybody copied.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import t as student
from torch import Tensor

from reprise.blocks.seeds import FlatAdam, FlatSGD

Switch = bool | Tensor  # for all groups alike, or (groups,)


# --- hyper-parameters -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Prior:
    """Where a hyper-parameter starts, and the range that it never leaves: uniform, or uniform in its logarithm."""

    name: str
    low: float
    high: float
    log: bool = False

    def __post_init__(self):
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"{self.name}: a prior needs low < high, and low > 0 if it is logarithmic; got {self}")


def sample(priors: Sequence[Prior], uniforms: Float[Tensor, "groups members k"]) -> Float[Tensor, "groups members k"]:
    """Values whose distribution is the prior, from uniforms in [0, 1): column j belongs to priors[j]."""
    _same_columns(priors, uniforms)
    columns = []
    for prior, u in zip(priors, uniforms.unbind(-1)):
        low, high = (math.log(prior.low), math.log(prior.high)) if prior.log else (prior.low, prior.high)
        value = low + (high - low) * u
        columns.append(value.exp() if prior.log else value)
    return clip(priors, torch.stack(columns, -1))


def clip(priors: Sequence[Prior], values: Float[Tensor, "groups members k"]) -> Float[Tensor, "groups members k"]:
    """Values moved to the nearest end of their prior's range where they left it."""
    _same_columns(priors, values)
    low, high = (torch.tensor([getattr(p, end) for p in priors]).to(values) for end in ("low", "high"))
    return values.clamp(low, high)


def perturb(
    priors: Sequence[Prior],
    values: Float[Tensor, "groups members k"],
    uniforms: Float[Tensor, "groups members k"],
    factors: tuple[float, float] | Float[Tensor, "groups 2"] = (0.8, 1.2),
) -> Float[Tensor, "groups members k"]:
    """Every value times one of two factors with equal odds, then clipped to its prior's range.

    With (0.8, 1.2) the logarithm drifts down by 0.0204 per perturbation, since 0.8 * 1.2 < 1.

    Args:
        factors: the two, or one pair per group.
    """
    pair = torch.as_tensor(factors, dtype=values.dtype, device=values.device)
    pair = pair.expand(len(values), 2)[:, None, None]  # (groups, 1, 1, 2)
    return clip(priors, values * torch.where(uniforms < 0.5, pair[..., 0], pair[..., 1]))


def resample(
    priors: Sequence[Prior],
    values: Float[Tensor, "groups members k"],
    uniforms: Float[Tensor, "groups members k"],
    fresh: Float[Tensor, "groups members k"],
    probability: float = 0.25,
) -> Float[Tensor, "groups members k"]:
    """Each value drawn anew from its prior with some probability (decided by `uniforms`, drawn by `fresh`)."""
    return torch.where(uniforms < probability, sample(priors, fresh), values)


def _same_columns(priors: Sequence[Prior], values: Tensor) -> None:
    if values.shape[-1] != len(priors):
        raise ValueError(f"{values.shape[-1]} columns for {len(priors)} priors; give one column per prior")


# --- exploit: whose place does everyone continue from? --------------------------------------------


def ranks(scores: Float[Tensor, "groups members"]) -> Int[Tensor, "groups members"]:
    """0 for the best member of each group; on ties the lower number is better, a score that is NaN is worst."""
    kept = scores.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    order = kept.argsort(dim=1, descending=True, stable=True)
    return order.argsort(1)


def best_member(scores: Float[Tensor, "groups members"]) -> Int[Tensor, " groups"]:
    """The member of rank 0."""
    return (ranks(scores) == 0).long().argmax(1)


def truncation(
    scores: Float[Tensor, "groups members"], uniforms: Float[Tensor, "groups members"], fraction: float = 0.2
) -> Int[Tensor, "groups members"]:
    """Truncation selection: the worst ⌊fraction·n⌋ members each take a uniformly chosen one of the best ⌊fraction·n⌋.

    Args:
        scores: larger is better; NaN counts as worst.
        uniforms: in [0, 1), choose the donors.
        fraction: q in (0, 0.5].
    """
    if not 0 < fraction <= 0.5:
        raise ValueError(f"the fraction must lie in (0, 0.5], so that nobody is both best and worst; got {fraction}")
    members = scores.shape[1]
    count = int(fraction * members + 1e-9)  # 0.2 * 15 is 3, whatever its float says
    own, rank = itself(scores), ranks(scores)
    if count == 0:
        return own
    by_rank = rank.argsort(1)
    picks = (uniforms * count).long().clamp(max=count - 1)
    return torch.where(rank >= members - count, by_rank.gather(1, picks), own)


def tournament(
    scores: Float[Tensor, "groups members"], uniforms: Float[Tensor, "groups members"], strict: bool = False
) -> Int[Tensor, "groups members"]:
    """Binary tournament: everyone meets a uniformly chosen other member and takes its place if that one is better.

    Args:
        strict: equal scores change nothing. By default, ties are broken by number: the higher one copies.
    """
    opponent = _another(uniforms)
    theirs, own = scores.gather(1, opponent), itself(scores)
    rank = ranks(scores)
    better = theirs > scores if strict else rank.gather(1, opponent) < rank
    return torch.where(better, opponent, own)


def t_test(
    recent: Float[Tensor, "groups members k"], uniforms: Float[Tensor, "groups members"], level: float = 0.05
) -> Int[Tensor, "groups members"]:
    """t-test selection: take another's place if its mean of recent scores is higher and Welch's test says it differs.

    Args:
        recent: the last k scores of every member, e.g. episode returns; k at least 2. A member with a score that is
            NaN neither copies nor is copied.
        uniforms: choose the other member.
        level: two-sided error rate at which means count as different; members that are equal copy with half of it.
    """
    k = recent.shape[-1]
    if k < 2:
        raise ValueError(f"a t-test needs at least two recent scores per member; got {k}")
    opponent, own = _another(uniforms), itself(uniforms)
    mean, part = recent.mean(-1), recent.var(-1) / k  # part: squared standard error
    gap = mean.gather(1, opponent) - mean
    theirs = part.gather(1, opponent)
    both = part + theirs
    freedom = both.square() * (k - 1) / (part.square() + theirs.square())  # Welch & Satterthwaite
    p = 2 * student.sf((gap.abs() / both.sqrt()).double().cpu().numpy(), freedom.double().cpu().numpy())
    differs = torch.as_tensor(p, device=recent.device) < level
    differs |= (both == 0) & (gap != 0)  # no spread at all: any difference is one
    return torch.where((gap > 0) & differs, opponent, own)


def itself(like: Float[Tensor, "groups members"]) -> Int[Tensor, "groups members"]:
    """Donors that change nothing: everyone its own."""
    return torch.arange(like.shape[1], device=like.device).expand(like.shape[0], -1).clone()


def where_ready(
    donors: Int[Tensor, "groups members"], ready: Bool[Tensor, "groups members"]
) -> Int[Tensor, "groups members"]:
    """The same donors for members that are ready, no change for the others (asynchronous populations)."""
    return torch.where(ready, donors, itself(donors.float()))


def _another(uniforms: Tensor) -> Tensor:
    """A uniformly chosen member other than oneself; in a population of one there is only oneself."""
    members, own = uniforms.shape[1], itself(uniforms)
    if members == 1:
        return own
    shift = 1 + (uniforms * (members - 1)).long().clamp(max=members - 2)
    return (own + shift) % members


# --- lineage --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lineage:
    """Who descends from whom, and which hyper-parameters held when.

    Segment s begins after `steps[s]` training steps (segment 0 at the start). During it, member i of group g had the
    hyper-parameters values[s][g, i] and weights that came, at its beginning, from member donors[s][g, i].
    """

    steps: tuple[int, ...]
    donors: Int[Tensor, "segments groups members"]
    values: Float[Tensor, "segments groups members k"]

    def ancestors(self, member: Int[Tensor, " groups"]) -> Int[Tensor, "segments groups"]:
        """In which place the weights that end as this member were during each segment."""
        place, path = member, []
        for donors in self.donors.flip(0):
            path.append(place)
            place = donors.gather(1, place[:, None])[:, 0]
        return torch.stack(path[::-1])

    def schedule(self, member: Int[Tensor, " groups"]) -> Float[Tensor, "segments groups k"]:
        """The hyper-parameters under which this member's weights were trained, segment by segment."""
        path = self.ancestors(member)[..., None, None].expand(-1, -1, 1, self.values.shape[-1])
        return self.values.gather(2, path)[:, :, 0]

    def survivors(self) -> Int[Tensor, "segments groups"]:
        """How many different members of each segment still have descendants at the end."""
        groups, members = self.donors.shape[1:]
        every = torch.arange(members, device=self.donors.device)
        paths = torch.stack([self.ancestors(every[i].expand(groups)) for i in range(members)], -1)
        return torch.stack([torch.tensor([len(set(g.tolist())) for g in segment]) for segment in paths])


# --- the population -------------------------------------------------------------------------------


def training_state(optimizer: FlatSGD | FlatAdam) -> list[Tensor]:
    """All that a member's training consists of, rows first: weights and the optimiser's momentum, moments, counts."""
    if isinstance(optimizer, FlatAdam):
        return [optimizer.params.flat, optimizer.first, optimizer.second, optimizer.steps]
    return [optimizer.params.flat, optimizer.velocity]


class Population:
    """Hyper-parameters, state and history of stacked populations.

    Args:
        priors: names and ranges of the k hyper-parameters.
        values: where they start.
        state: tensors with rows first that a copy takes along; `training_state(optimizer)` and anything else that
            belongs to a member (normalisation statistics, recent scores). Copied in place.
    """

    def __init__(
        self, priors: Sequence[Prior], values: Float[Tensor, "groups members k"], state: Sequence[Tensor] = ()
    ):
        _same_columns(priors, values)
        self.priors, self.values, self.state = tuple(priors), values.clone(), list(state)
        self.groups, self.members = values.shape[:2]
        for tensor in self.state:
            if len(tensor) != self.groups * self.members:
                raise ValueError(
                    f"state of {len(tensor)} rows for {self.groups} groups of {self.members}; "
                    "give one row per member, group after group"
                )
        self._steps, self._donors, self._values = [0], [itself(values[..., 0])], [self.values.clone()]

    def __getitem__(self, name: str) -> Float[Tensor, " rows"]:
        """One hyper-parameter of every row, as the optimisers take it."""
        names = [prior.name for prior in self.priors]
        if name not in names:
            raise ValueError(f"there is no hyper-parameter {name!r}; choose one of {', '.join(names)}")
        return self.values[..., names.index(name)].reshape(-1)

    @torch.no_grad()
    def evolve(
        self,
        step: int,
        donors: Int[Tensor, "groups members"],
        explore: Callable[[Tensor], Tensor] | None = None,
        *,
        weights: Switch = True,
        hyper: Switch = True,
        explores: Switch = True,
    ) -> Bool[Tensor, "groups members"]:
        """One round: members with a donor other than themselves copy it, and only then explore.

        Args:
            step: training steps done so far.
            donors: from `truncation`, `tournament` or `t_test`.
            explore: copied hyper-parameters (groups, members, k) -> changed ones; used for members that copied.
            weights, hyper, explores: switch copying of state, copying of hyper-parameters, and exploration off, for
                all groups or per group: the ablations. A member that would copy but copies nothing still explores.
        Returns:
            Which members had a donor.
        """
        own, chosen = itself(self.values[..., 0]), donors != itself(self.values[..., 0])
        weights, hyper, explores = (self._per_group(switch) for switch in (weights, hyper, explores))
        state_from, values_from = torch.where(weights, donors, own), torch.where(hyper, donors, own)
        rows = (state_from + torch.arange(self.groups, device=donors.device)[:, None] * self.members).flatten()
        moved = (state_from != own).flatten()
        for tensor in self.state:
            tensor[moved] = tensor[rows[moved]]  # the right side is a copy, so order does not matter
        copied = self.values.gather(1, values_from[..., None].expand_as(self.values))
        if explore is not None:
            copied = torch.where((chosen & explores)[..., None], explore(copied), copied)
        self.values = copied
        self._steps.append(step)
        self._donors.append(state_from)
        self._values.append(copied.clone())
        return chosen

    def lineage(self) -> Lineage:
        """The history so far."""
        return Lineage(tuple(self._steps), torch.stack(self._donors), torch.stack(self._values))

    def _per_group(self, switch: Switch) -> Tensor:
        if isinstance(switch, Tensor):
            return switch.to(self.values.device).view(-1, 1)
        return torch.full((self.groups, 1), switch, device=self.values.device)
