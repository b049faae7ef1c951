"""Generative flow networks on graphs whose actions add one thing: sampling, balance losses, exact distributions.

A state counts how many of each kind it holds; action i adds one of kind i. Three tasks are this one graph: *sets*
(each kind at most once, exactly k additions), *bags* (repeats allowed, exactly k additions) and *grids* (a point's
coordinates; one further action stops, anywhere). Symbols: E energy, R = exp(-E) reward, F flow, P_F forward and P_B
backward policy, Z total reward. A *trajectory* is s_0, ..., s_T; with a stop action the last step repeats the state as
an outcome.

Every loss below is made of residuals r_t = log F(s_t) + log P_F - log F(s_t+1) - log P_B. What a flow means is
decided by the energy that it is told to have *accrued*: log F(s_t) = f(s_t) - accrued_t, with f the network. If nothing
accrues before the end, this is detailed balance; if E(s_t) accrues, it is the forward-looking form of Pan et al.
(ICML 2023). All tensors have the run axis first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn import functional as F

from reprise.blocks.seeds import ParameterStore, RunRNG, StackedLinear, build, linear

# --- the graph ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Additions:
    """A graph of states that grow by one: use `sets`, `bags` or `grid` to make one.

    Args:
        kinds: how many kinds there are.
        most: how often a state may hold one kind.
        length: number of additions after which a state is an outcome; None: a stop action makes it one, anywhere.
    """

    kinds: int
    most: int
    length: int | None

    def __post_init__(self):
        if min(self.kinds, self.most, 1 if self.length is None else self.length) < 1:
            raise ValueError(f"kinds, most and length are positive; got {self}")
        if self.length is not None and self.length > self.kinds * self.most:
            raise ValueError(f"{self.kinds} kinds, each at most {self.most} times, cannot give {self.length} additions")

    @property
    def can_stop(self) -> bool:
        return self.length is None

    @property
    def actions(self) -> int:
        """Number of actions; the last one stops, where there is one."""
        return self.kinds + self.can_stop

    @property
    def steps(self) -> int:
        """The longest trajectory's number of steps."""
        return self.kinds * self.most + 1 if self.length is None else self.length

    @property
    def inputs(self) -> int:
        """Width of `encode`."""
        return self.kinds if self.most == 1 else self.kinds * (self.most + 1)

    def encode(self, states: Float[Tensor, "*batch kinds"]) -> Float[Tensor, "*batch inputs"]:
        """What a network sees: the indicator vector of a set, one-hot counts of anything else."""
        if self.most == 1:
            return states
        return (states[..., None] == torch.arange(self.most + 1, device=states.device)).to(states.dtype).flatten(-2)

    def allowed(self, states: Float[Tensor, "*batch kinds"]) -> Bool[Tensor, "*batch actions"]:
        """Actions that may be taken, from states that are not outcomes."""
        may_add = states < self.most
        return F.pad(may_add, (0, 1), value=True) if self.can_stop else may_add


def sets(n: int, k: int) -> Additions:
    """Subsets of k out of n items, built item by item."""
    return Additions(n, 1, k)


def bags(kinds: int, k: int) -> Additions:
    """Multisets of k things of so many kinds."""
    return Additions(kinds, k, k)


def grid(dimensions: int, side: int) -> Additions:
    """Points of a grid, reached from a corner by steps along the axes; may stop anywhere ("hypergrid")."""
    return Additions(dimensions, side - 1, None)


# --- networks -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _LogZ:
    """One number per run, zero at first, beside the layers of a network."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"log_z": (1,)}

    def initialise(self, params: ParameterStore, generators: Sequence[Generator]) -> None:
        """Nothing is drawn."""


class FlowNetwork:
    """One network per run with three heads: forward logits, backward logits, log flow; and a free log Z.

    Args:
        graph: whose states it sees.
        seeds: one per run; runs with the same seed start from the same weights.
        hidden: widths of the hidden layers (leaky ReLU).
        learned_backward: False takes the uniform P_B, which leaves the backward head unused.
        device: where parameters live.
    """

    def __init__(
        self,
        graph: Additions,
        seeds: Sequence[int],
        hidden: Sequence[int] = (64, 64),
        learned_backward: bool = True,
        device: str | torch.device = "cpu",
    ):
        self.graph, self.learned_backward = graph, learned_backward
        sizes = (graph.inputs, *hidden, graph.actions + graph.kinds + 1)
        self.layers = [StackedLinear(str(i), a, b) for i, (a, b) in enumerate(zip(sizes, sizes[1:]))]
        self.params = build([*self.layers, _LogZ()], list(seeds), device)

    @property
    def log_z(self) -> Float[Tensor, " runs"]:
        return self.params["log_z"][:, 0]

    def rates(self, network: Float[Tensor, " runs"], log_z: float = 0.1) -> Float[Tensor, "runs parameters"]:
        """Learning rates for `FlatAdam`: one per run for the network, another for log Z."""
        rates = network.to(self.params.flat).view(-1, 1).repeat(1, self.params.count)
        self.params.views(rates)["log_z"].fill_(log_z)
        return rates

    def hidden(self, states: Float[Tensor, "runs *batch kinds"]) -> Float[Tensor, "runs *batch width"]:
        """The last hidden layer."""
        x = self.graph.encode(states)
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(self.params, x))
        return x

    def policy(self, states: Float[Tensor, "runs *batch kinds"]) -> Float[Tensor, "runs *batch actions"]:
        """log P_F of every action, minus infinity where it is not allowed; states must not be outcomes."""
        name, count = self.layers[-1].name, self.graph.actions
        weight, bias = self.params[f"{name}.weight"], self.params[f"{name}.bias"]
        logits = linear(self.hidden(states), weight[..., :count], bias[..., :count])
        return masked_log_softmax(logits, self.graph.allowed(states))

    def heads(self, states: Float[Tensor, "runs *batch kinds"]) -> tuple[Tensor, ...]:
        """Forward logits (..., actions), backward logits (..., kinds), log flow f (..., 1)."""
        out = self.layers[-1](self.params, self.hidden(states))
        return out.split([self.graph.actions, self.graph.kinds, 1], -1)


def masked_log_softmax(logits: Float[Tensor, "*batch n"], mask: Bool[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Log-probabilities over the entries where the mask is true; minus infinity elsewhere."""
    return logits.masked_fill(~mask, -math.inf).log_softmax(-1)


# --- trajectories ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trajectories:
    """A batch of trajectories per run. Steps from `lengths` on are padding; only complete ones end in an outcome."""

    states: Float[Tensor, "runs batch points kinds"]  # points = steps + 1
    actions: Int[Tensor, "runs batch steps"]
    lengths: Int[Tensor, "runs batch"]
    complete: Bool[Tensor, "runs batch"]

    @property
    def real(self) -> Bool[Tensor, "runs batch steps"]:
        """Which steps are no padding."""
        return torch.arange(self.actions.shape[-1], device=self.lengths.device) < self.lengths[..., None]

    @property
    def is_outcome(self) -> Bool[Tensor, "runs batch points"]:
        """Which points are outcomes."""
        points = torch.arange(self.states.shape[2], device=self.lengths.device)
        return (points == self.lengths[..., None]) & self.complete[..., None]

    @property
    def ends(self) -> Float[Tensor, "runs batch kinds"]:
        """Last states."""
        return self.states[:, :, -1]

    def cut(self, lengths: Int[Tensor, "runs batch"]) -> "Trajectories":
        """Prefixes of at most these lengths; what is cut off is padding, and lost with it is the outcome."""
        kept = torch.minimum(lengths, self.lengths)
        return replace(self, lengths=kept, complete=self.complete & (kept == self.lengths))

    def part(self, batch: slice) -> "Trajectories":
        """Some of the trajectories of every run."""
        return Trajectories(*(x[:, batch] for x in (self.states, self.actions, self.lengths, self.complete)))


@torch.no_grad()
def rollout(network: FlowNetwork, rng: RunRNG, explore: Float[Tensor, "runs batch"]) -> Trajectories:
    """Sample complete trajectories from (1 - explore) P_F + explore * uniform over allowed actions.

    Args:
        network: with one row of parameters per run.
        rng: one uniform number is drawn per step.
        explore: ε of each trajectory, 0 to 1; its shape decides the batch.
    """
    graph, (runs, batch) = network.graph, explore.shape
    luck = rng.uniform(batch, graph.steps)
    kinds = torch.arange(graph.kinds, device=explore.device)
    states = [torch.zeros(runs, batch, graph.kinds, device=explore.device)]
    running = torch.ones(runs, batch, dtype=torch.bool, device=explore.device)
    actions, lengths, share = [], torch.zeros(runs, batch, dtype=torch.long, device=explore.device), explore[..., None]
    for t in range(graph.steps):
        allowed = graph.allowed(states[-1]).to(share.dtype)
        odds = (1 - share) * network.policy(states[-1]).exp() + share * allowed / allowed.sum(-1, keepdim=True)
        below = odds.cumsum(-1)
        # the first entry whose cumulative probability exceeds the draw has a probability above zero
        action = (below <= luck[..., t : t + 1] * below[..., -1:]).sum(-1)
        if graph.can_stop:
            action = torch.where(running, action, graph.kinds)
        lengths += running
        running = running & (action < graph.kinds)
        actions.append(action)
        states.append(states[-1] + (kinds == action[..., None]))
        if graph.can_stop and not running.any():
            break
    return Trajectories(torch.stack(states, 2), torch.stack(actions, 2), lengths, torch.ones_like(running))


@dataclass(frozen=True)
class Logs:
    """What a network says about trajectories."""

    forward: Float[Tensor, "runs batch steps"]  # log P_F of the steps taken
    backward: Float[Tensor, "runs batch steps"]  # log P_B; 0 for a stop
    flow: Float[Tensor, "runs batch points"]  # f


def logs(network: FlowNetwork, taken: Trajectories) -> Logs:
    """Log-probabilities and flows along trajectories, from one pass of the network over all states."""
    graph = network.graph
    forward, backward, flow = network.heads(taken.states)
    allowed = graph.allowed(taken.states[:, :, :-1])
    forward = masked_log_softmax(forward[:, :, :-1], allowed).gather(-1, taken.actions[..., None])[..., 0]
    after = taken.states[:, :, 1:]
    adds = taken.actions < graph.kinds
    if network.learned_backward:
        # a stop at the origin has nothing to take away: let it see a full mask, it counts as 0 in any case
        mask = (after > 0) | ~adds[..., None]
        undone = taken.actions.clamp(max=graph.kinds - 1)
        backward = masked_log_softmax(backward[:, :, 1:], mask).gather(-1, undone[..., None])[..., 0]
    else:
        backward = -(after > 0).sum(-1).clamp(min=1).to(flow.dtype).log()
    return Logs(forward, backward.where(adds, 0.0), flow[..., 0])


# --- credit and losses ----------------------------------------------------------------------------


def accrued(
    credit: str,
    energies: Float[Tensor, "runs batch points"],
    taken: Trajectories,
    luck: Float[Tensor, "runs batch steps"] | None = None,
) -> Float[Tensor, "runs batch points"]:
    """The energy that a flow is told to have accrued at each point; always E(x) at an outcome x.

    Args:
        credit: "end" (nothing before the outcome: the plain losses), "local" (E(s): forward-looking), "opposite"
            (-E(s) before the outcome: a potential that misleads) or "shuffled" (the increments of E in random
            order along each trajectory; complete trajectories of one length only).
        energies: E of every state, 0 at the first.
        taken: the trajectories.
        luck: uniform numbers that decide the order of "shuffled".
    """
    if credit == "local":
        return energies
    if credit == "shuffled":
        if luck is None or not bool(taken.real.all()):
            raise ValueError("shuffled credit needs `luck` and complete trajectories of one length")
        mixed = energies.diff(dim=-1).gather(-1, luck.argsort(-1))
        return F.pad(mixed.cumsum(-1), (1, 0))
    if credit not in ("end", "opposite"):
        raise ValueError(f"unknown credit {credit!r}; choose end, local, opposite or shuffled")
    before = torch.zeros_like(energies) if credit == "end" else -energies
    return torch.where(taken.is_outcome, energies, before)


def residuals(
    said: Logs, credited: Float[Tensor, "runs batch points"], taken: Trajectories, pinned: bool = True
) -> Float[Tensor, "runs batch steps"]:
    """r_t = log F(s_t) + log P_F - log F(s_t+1) - log P_B with log F = f - credited; 0 for padding.

    Args:
        said: the network's view of the trajectories.
        credited: what `accrued` returns.
        taken: the trajectories.
        pinned: f is 0 at outcomes, so that F(x) = R(x); False leaves it to the network.
    """
    log_flow = (said.flow.masked_fill(taken.is_outcome, 0.0) if pinned else said.flow) - credited
    r = log_flow[..., :-1] + said.forward - log_flow[..., 1:] - said.backward
    return r.where(taken.real, 0.0)


def detailed_balance(r: Float[Tensor, "runs batch steps"], taken: Trajectories) -> Float[Tensor, " runs"]:
    """Mean squared residual over steps (Bengio et al., 2023, GFlowNet Foundations, section 3.2)."""
    return r.square().sum((1, 2)) / taken.lengths.sum(1)


def subtrajectory_balance(
    r: Float[Tensor, "runs batch steps"], taken: Trajectories, decay: float = 0.9
) -> Float[Tensor, " runs"]:
    """SubTB(λ) of Madan et al. (ICML 2023): squared sums of residuals over all pieces i < j, weights λ^(j - i).

    Weights sum to one within each trajectory; the mean over trajectories is taken.
    """
    up_to = F.pad(r.cumsum(-1), (1, 0))  # the sum over a piece is a difference of two entries
    points = torch.arange(up_to.shape[-1], device=r.device)
    gap = points - points[:, None]
    weight = torch.where(gap > 0, decay ** gap.to(r.dtype), 0.0) * (points <= taken.lengths[..., None])[..., None, :]
    pieces = (up_to[..., None, :] - up_to[..., None]).square()
    return ((weight * pieces).sum((-1, -2)) / weight.sum((-1, -2))).mean(1)


def trajectory_balance(
    log_z: Float[Tensor, " runs"], said: Logs, energies: Float[Tensor, "runs batch points"], taken: Trajectories
) -> Float[Tensor, " runs"]:
    """Mean of [log Z + Σ log P_F - log R(x) - Σ log P_B]² over complete trajectories (Malkin et al., 2022); else 0."""
    walked = (said.forward - said.backward).where(taken.real, 0.0).sum(-1)
    reached = (energies * taken.is_outcome).sum(-1)
    r = (log_z[:, None] + walked + reached).where(taken.complete, 0.0)
    return r.square().sum(1) / taken.complete.sum(1).clamp(min=1)


# --- exact quantities -----------------------------------------------------------------------------

LARGEST = 1_000_000


@dataclass(frozen=True, eq=False)
class Lattice:
    """All states of a small graph, level by level (number of additions), with their neighbours."""

    states: Float[Tensor, "n kinds"]
    levels: tuple[slice, ...]
    parents: Int[Tensor, "n kinds"]  # the state with one of this kind less; 0 where there is none
    children: Int[Tensor, "n kinds"]  # the state with one more; 0 where there is none
    outcomes: slice  # which states are outcomes

    @property
    def has_parent(self) -> Bool[Tensor, "n kinds"]:
        return self.states > 0


@cache
def lattice(graph: Additions) -> Lattice:
    """Enumerate a graph of at most a million states."""
    place = (graph.most + 1) ** torch.arange(graph.kinds)
    if graph.kinds * math.log2(graph.most + 1) > 62:
        raise ValueError(f"{graph} has too many states to enumerate; use a smaller one for exact distributions")
    codes, everything = torch.zeros(1, dtype=torch.long), [torch.zeros(1, dtype=torch.long)]
    while codes.numel() and (graph.length is None or len(everything) <= graph.length):
        counts = codes[:, None] // place % (graph.most + 1)
        codes = (codes[:, None] + place)[counts < graph.most].unique()
        if codes.numel():
            everything.append(codes)
        if sum(map(len, everything)) > LARGEST:
            raise ValueError(f"{graph} has more than {LARGEST} states; use a smaller one for exact distributions")
    starts = [0]
    for level in everything:
        starts.append(starts[-1] + len(level))
    states = torch.cat(everything)[:, None] // place % (graph.most + 1)
    parents, children = torch.zeros_like(states), torch.zeros_like(states)
    for level in range(1, len(everything)):
        own = slice(starts[level], starts[level + 1])
        found = torch.searchsorted(everything[level - 1], everything[level][:, None] - place) + starts[level - 1]
        parents[own] = torch.where(states[own] > 0, found, 0)
    rows, kinds = states.nonzero(as_tuple=True)
    children[parents[rows, kinds], kinds] = rows
    levels = tuple(slice(a, b) for a, b in zip(starts, starts[1:]))
    outcomes = slice(0, starts[-1]) if graph.can_stop else levels[-1]
    return Lattice(states.float(), levels, parents, children, outcomes)


def outcome_probabilities(
    graph: Additions, log_forward: Float[Tensor, "runs inner actions"]
) -> Float[Tensor, "runs outcomes"]:
    """The exact distribution of a policy over outcomes, by one pass over the levels.

    Args:
        graph: whose `lattice` gives the order of states and outcomes.
        log_forward: log P_F at all states, or at least at all that are not outcomes of a fixed length.
    """
    known, odds = lattice(graph), log_forward.exp()
    actions = graph.actions
    reach = torch.zeros(len(odds), len(known.states), dtype=odds.dtype, device=odds.device)
    reach[:, 0] = 1
    kinds = torch.arange(graph.kinds)
    for before, own in zip(known.levels, known.levels[1:]):
        flow = (reach[:, before, None] * odds[:, before]).flatten(1)
        came = (known.parents[own] - before.start).clamp(min=0) * actions + kinds
        reach[:, own] = (flow[:, came.to(odds.device)] * known.has_parent[own].to(odds)).sum(-1)
    return reach * odds[..., -1] if graph.can_stop else reach[:, known.outcomes]


@torch.no_grad()
def sampled_distribution(network: FlowNetwork) -> Float[Tensor, "runs outcomes"]:
    """The exact distribution over outcomes of a network's policy."""
    graph, known = network.graph, lattice(network.graph)
    inner = known.states if graph.can_stop else known.states[: known.outcomes.start]
    states = inner.to(network.params.device)
    return outcome_probabilities(graph, network.policy(states.expand(network.params.runs, -1, -1)))


def exact_flows(
    graph: Additions, log_reward: Float[Tensor, "runs outcomes"]
) -> tuple[Float[Tensor, "runs n"], Float[Tensor, "runs n actions"]]:
    """log F and log P_F at all states for the uniform backward policy: the solution of every balance condition.

    Args:
        graph: small enough for `lattice`.
        log_reward: log R of the outcomes, in the lattice's order.
    """
    known = lattice(graph)
    runs, n = len(log_reward), len(known.states)
    share = known.has_parent.sum(1).clamp(min=1).to(log_reward).log()  # -log P_B
    has_child = known.children > 0
    log_flow = torch.full((runs, n), -math.inf, dtype=log_reward.dtype, device=log_reward.device)
    log_flow[:, known.outcomes] = log_reward
    log_edge = torch.full((runs, n, graph.actions), -math.inf).to(log_reward)
    if graph.can_stop:
        log_edge[..., -1] = log_reward
    last = len(known.levels) if graph.can_stop else len(known.levels) - 1
    for own in reversed(known.levels[:last]):
        child = known.children[own]
        onward = (log_flow - share)[:, child].masked_fill(~has_child[own], -math.inf)
        log_edge[:, own, : graph.kinds] = onward
        log_flow[:, own] = log_edge[:, own].logsumexp(-1)
    return log_flow, log_edge - log_flow[..., None]


def total_variation(p: Float[Tensor, "runs n"], q: Float[Tensor, "runs n"]) -> Float[Tensor, " runs"]:
    """Half the sum of absolute differences of two distributions, 0 to 1."""
    return 0.5 * (p - q).abs().sum(-1)
