"""How long does a GFlowNet train until it samples a grid well enough, against torchgfn?

The 8 x 8 grid with the standard reward of the GFlowNet papers (R0 = 0.1, R1 = 0.5, R2 = 2), trajectory balance on
policy, 16 trajectories per update, two hidden layers of 64, learned P_B, Adam at 3e-3 (log Z: 0.1). Training stops at
the first look (every 25 updates) at which the L1 distance between the exact distribution of the policy and R/Z is at
most 0.3. Ten networks: ours train as one stack until the slowest has arrived, theirs one after the other, each until it
has arrived; and one network alone (mean of five seeds). Both start from the same weights; looks are not timed. Their
trajectories keep the log-probabilities of sampling, their fast path on policy; ours are evaluated once more after
sampling. Reported are CPU time and wall time until all have arrived, their ratios, and the mean number of updates,
which differ because random numbers do.

torchgfn lives in the environment of tests/peers: run this with that environment's Python.
"""

import time

import torch
from common import report
from gfn.estimators import DiscretePolicyEstimator
from gfn.gflownet import TBGFlowNet
from gfn.gym import HyperGrid
from gfn.preprocessors import Preprocessor
from gfn.samplers import Sampler
from torch import nn

from reprise.blocks import gflow
from reprise.blocks.seeds import FlatAdam, RunRNG

SIDE, BATCH, HIDDEN, RATE, LOG_Z_RATE = 8, 16, 64, 3e-3, 0.1
DISTANCE, EVERY, MOST = 0.3, 25, 10_000
GRAPH = gflow.grid(2, SIDE)
KNOWN = gflow.lattice(GRAPH)
ENV = HyperGrid(ndim=2, height=SIDE)
LOG_REWARD = ENV.log_reward(ENV.states_from_tensor(KNOWN.states.long()))
TABLE = torch.empty(SIDE, SIDE)
TABLE[KNOWN.states[:, 0].long(), KNOWN.states[:, 1].long()] = -LOG_REWARD


def energy(states: torch.Tensor) -> torch.Tensor:
    """-log R of states (..., 2)."""
    places = states.long()
    return TABLE[places[..., 0], places[..., 1]]


def distance(log_policy: torch.Tensor) -> torch.Tensor:
    """L1 distance to R/Z of each run, from log P_F at all states (runs, n, actions)."""
    return 2 * gflow.total_variation(
        gflow.outcome_probabilities(GRAPH, log_policy), LOG_REWARD.softmax(-1).expand(len(log_policy), -1)
    )


class Clock:
    """CPU and wall seconds of the marked stretches."""

    def __init__(self):
        self.cpu = self.wall = 0.0

    def __enter__(self):
        self.start = time.process_time(), time.perf_counter()

    def __exit__(self, *_):
        self.cpu += time.process_time() - self.start[0]
        self.wall += time.perf_counter() - self.start[1]


def ours(seeds: list[int]) -> tuple[Clock, float]:
    """Clock until all runs have arrived, and the mean number of updates until each had."""
    clock, arrived = Clock(), torch.full((len(seeds),), MOST)
    with clock:
        net = gflow.FlowNetwork(GRAPH, seeds, (HIDDEN, HIDDEN))
        optimizer = FlatAdam(net.params, net.rates(torch.full((len(seeds),), RATE), LOG_Z_RATE))
        rng, on_policy = RunRNG(seeds, "rollout"), torch.zeros(len(seeds), BATCH)
    for update in range(0, MOST, EVERY):
        with torch.no_grad():
            reached = distance(net.policy(KNOWN.states.expand(len(seeds), -1, -1))) <= DISTANCE
        arrived = torch.where(reached, arrived.clamp(max=update), arrived)
        if bool((arrived < MOST).all()):
            break
        with clock:
            for _ in range(EVERY):
                taken = gflow.rollout(net, rng, on_policy)
                net.params.zero_grad()
                said = gflow.logs(net, taken)
                gflow.trajectory_balance(net.log_z, said, energy(taken.states), taken).sum().backward()
                optimizer.step()
    return clock, float(arrived.float().mean())


class OneHot(Preprocessor):
    """Their preprocessor with our encoding, so that both networks see the same."""

    def __init__(self):
        super().__init__(GRAPH.inputs)

    def preprocess(self, states):
        return GRAPH.encode(states.tensor.float())


class Shared(nn.Module):
    """A head of its own on a trunk that forward and backward policy share, as in our network."""

    def __init__(self, trunk: nn.Module, outputs: int):
        super().__init__()
        self.trunk, self.head, self.input_dim = trunk, nn.Linear(HIDDEN, outputs), GRAPH.inputs

    def forward(self, x):
        return self.head(self.trunk(x))


def their_policies(seed: int) -> tuple[DiscretePolicyEstimator, DiscretePolicyEstimator]:
    """Forward and backward policy with the weights from which our run of this seed starts."""
    own = gflow.FlowNetwork(GRAPH, [seed], (HIDDEN, HIDDEN)).params.run(0)
    trunk = nn.Sequential(nn.Linear(GRAPH.inputs, HIDDEN), nn.LeakyReLU(), nn.Linear(HIDDEN, HIDDEN), nn.LeakyReLU())
    forward, backward = Shared(trunk, GRAPH.actions), Shared(trunk, GRAPH.kinds)
    parts = [(trunk[0], "0", slice(None)), (trunk[2], "1", slice(None)),
             (forward.head, "2", slice(0, 3)), (backward.head, "2", slice(3, 5))]  # fmt: skip
    for layer, name, columns in parts:
        layer.weight.data.copy_(own[f"{name}.weight"][:, columns].T)
        layer.bias.data.copy_(own[f"{name}.bias"][0, columns])
    return (
        DiscretePolicyEstimator(forward, n_actions=ENV.n_actions, preprocessor=OneHot()),
        DiscretePolicyEstimator(backward, n_actions=ENV.n_actions, preprocessor=OneHot(), is_backward=True),
    )


def theirs(seeds: list[int]) -> tuple[Clock, float]:
    """The same with torchgfn, one seed after the other."""
    clock, arrived = Clock(), []
    states = ENV.states_from_tensor(KNOWN.states.long())
    for seed in seeds:
        torch.manual_seed(seed)
        with clock:
            forward, backward = their_policies(seed)
            model, sampler = TBGFlowNet(forward, backward, init_logZ=0.0), Sampler(forward)
            weights = list({id(p): p for p in model.pf_pb_parameters()}.values())
            groups = [{"params": weights, "lr": RATE}, {"params": model.logz_parameters(), "lr": LOG_Z_RATE}]
            optimizer = torch.optim.Adam(groups)
        updates = 0
        while updates < MOST:
            with torch.no_grad():
                logits = forward(states).masked_fill(~GRAPH.allowed(KNOWN.states), -torch.inf)
                if bool(distance(logits.log_softmax(-1)[None]) <= DISTANCE):
                    break
            with clock:
                for _ in range(EVERY):
                    taken = sampler.sample_trajectories(ENV, n=BATCH, save_logprobs=True)
                    optimizer.zero_grad()
                    model.loss(ENV, taken, recalculate_all_logprobs=False).backward()
                    optimizer.step()
            updates += EVERY
        arrived.append(updates)
    return clock, sum(arrived) / len(arrived)


def measure(runs: int, repeats: int) -> dict:
    """One row of the table: the mean over a few repeats with other seeds."""
    total = {"ours": Clock(), "theirs": Clock()}
    updates = {"ours": 0.0, "theirs": 0.0}
    for repeat in range(repeats):  # interleaved, so that both see the same machine
        seeds = list(range(repeat * runs, (repeat + 1) * runs))
        for name, train in (("ours", ours), ("theirs", theirs)):
            clock, mean = train(seeds)
            total[name].cpu += clock.cpu / repeats
            total[name].wall += clock.wall / repeats
            updates[name] += mean / repeats
    return {
        "networks": runs,
        "stacked, CPU (s)": total["ours"].cpu,
        "torchgfn, CPU (s)": total["theirs"].cpu,
        "stacked, wall (s)": total["ours"].wall,
        "torchgfn, wall (s)": total["theirs"].wall,
        "stacked, mean updates": updates["ours"],
        "torchgfn, mean updates": updates["theirs"],
        "CPU ratio": total["theirs"].cpu / total["ours"].cpu,
        "wall ratio": total["theirs"].wall / total["ours"].wall,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    report("hypergrid", [measure(10, 1), measure(1, 5)], versions=("torch", "torchgfn"))
