"""Parity with torchgfn: the same networks and trajectories give the same losses, one run at a time on their side."""

import pytest
import torch
from gfn.containers import Trajectories
from gfn.estimators import DiscretePolicyEstimator, ScalarEstimator
from gfn.gflownet import DBGFlowNet, SubTBGFlowNet, TBGFlowNet
from gfn.gym import HyperGrid, SetAddition
from gfn.preprocessors import IdentityPreprocessor
from torch import nn

from reprise.blocks import gflow
from reprise.blocks.seeds import RunRNG

RUNS, BATCH = 2, 12


class Head(nn.Module):
    """Some columns of one run's output, on their states (any integer type), as a module that torchgfn can call."""

    def __init__(self, network, run, columns):
        super().__init__()
        self.network, self.run, self.columns = network, run, columns
        self.input_dim = network.graph.kinds

    def forward(self, states):
        x = states.float().expand(RUNS, *states.shape)
        flat = x.reshape(RUNS, -1, self.input_dim)
        out = torch.cat(self.network.heads(flat), -1)[self.run, :, self.columns]
        return out.reshape(*states.shape[:-1], -1)


def estimators(network, run):
    """Their forward policy, backward policy and log flow with our heads."""
    graph = network.graph
    a, k = graph.actions, graph.kinds
    same = IdentityPreprocessor(k)
    # their sets have an action to end even where the length is fixed; it is the only one then, so any logit will do
    forward = Head(network, run, [*range(k), a - 1 if graph.can_stop else 0])
    return (
        DiscretePolicyEstimator(forward, n_actions=k + 1, preprocessor=same),
        DiscretePolicyEstimator(
            Head(network, run, list(range(a, a + k))), n_actions=k + 1, preprocessor=same, is_backward=True
        ),
        ScalarEstimator(Head(network, run, [a + k]), preprocessor=same),
    )


def ours_in_theirs(env, taken, run):
    """One run's complete trajectories as theirs: padding is their sink state and their dummy action."""
    lengths, fixed = taken.lengths[run].clone(), not bool((taken.actions == env.n_actions - 1).any())
    states, actions = taken.states[run].transpose(0, 1).clone(), taken.actions[run].T.clone()
    if fixed:  # they end a set by one more action
        lengths += 1
        states = torch.cat([states, states[-1:]])
        actions = torch.cat([actions, torch.full_like(actions[:1], env.n_actions - 1)])
    time = torch.arange(len(states))[:, None]
    states = torch.where((time >= lengths)[..., None], env.sf.float(), states)
    actions = torch.where(time[:-1] >= lengths, -1, actions)
    ends = taken.ends[run]
    return Trajectories(
        env, env.states_from_tensor(states.to(env.s0.dtype)), actions=env.actions_from_tensor(actions[..., None]),
        terminating_idx=lengths, log_rewards=env.log_reward(env.states_from_tensor(ends.to(env.s0.dtype))),
    )  # fmt: skip


def grid_problem():
    """Grid of 8 x 8 with their standard reward, our networks and walks, E of every state."""
    env, graph = HyperGrid(ndim=2, height=8), gflow.grid(2, 8)
    return env, *walk(graph), lambda s: -env.log_reward(env.states_from_tensor(s.long()))


def set_problem(fixed):
    """Sets of up to 5 items (exactly 3 if fixed) with additive energy."""
    items = torch.tensor([0.5, -0.8, 0.3, -0.1, 0.9])
    reward = lambda s: (-(s.float() @ items)).exp()  # noqa: E731
    env = SetAddition(5, 3 if fixed else 5, reward, fixed_length=fixed)
    graph = gflow.sets(5, 3) if fixed else gflow.Additions(5, 1, None)
    return env, *walk(graph), lambda s: s @ items


def walk(graph):
    network = gflow.FlowNetwork(graph, list(range(RUNS)), (16, 16))
    with torch.no_grad():
        network.params["log_z"].copy_(torch.tensor([[0.4], [-0.7]]))
    return network, gflow.rollout(network, RunRNG(range(RUNS), "walk"), torch.full((RUNS, BATCH), 0.3))


PROBLEMS = {"grid": grid_problem, "set": lambda: set_problem(False)}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("forward_looking", [False, True])
def test_detailed_balance_agrees(problem, forward_looking):
    env, network, taken, energy = PROBLEMS[problem]()
    energies = energy(taken.states)
    credited = gflow.accrued("local" if forward_looking else "end", energies, taken)
    r = gflow.residuals(gflow.logs(network, taken), credited, taken)
    ours = gflow.detailed_balance(r, taken)
    for run in range(RUNS):
        peer = DBGFlowNet(*estimators(network, run), forward_looking=forward_looking)
        theirs = peer.loss(env, ours_in_theirs(env, taken, run).to_transitions())
        torch.testing.assert_close(ours[run], theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("forward_looking", [False, True])
def test_subtrajectory_balance_agrees(problem, forward_looking):
    env, network, taken, energy = PROBLEMS[problem]()
    credited = gflow.accrued("local" if forward_looking else "end", energy(taken.states), taken)
    ours = gflow.subtrajectory_balance(gflow.residuals(gflow.logs(network, taken), credited, taken), taken, 0.9)
    for run in range(RUNS):
        peer = SubTBGFlowNet(
            *estimators(network, run), weighting="geometric_within", lamda=0.9, forward_looking=forward_looking
        )
        theirs = peer.loss(env, ours_in_theirs(env, taken, run), reduction="sum")
        torch.testing.assert_close(ours[run], theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_trajectory_balance_agrees(problem):
    env, network, taken, energy = PROBLEMS[problem]()
    ours = gflow.trajectory_balance(network.log_z, gflow.logs(network, taken), energy(taken.states), taken)
    for run in range(RUNS):
        forward, backward, _ = estimators(network, run)
        peer = TBGFlowNet(forward, backward, logZ=nn.Parameter(network.log_z[run].detach()))
        theirs = peer.loss(env, ours_in_theirs(env, taken, run))
        torch.testing.assert_close(ours[run], theirs, rtol=1e-5, atol=1e-5)


def test_their_forward_looking_sets_are_our_free_variant_with_one_more_step():
    # they end a set of fixed length by one more action, whose residual is f(x): it is what the free variant lacks
    env, network, taken, energy = set_problem(True)
    said = gflow.logs(network, taken)
    r = gflow.residuals(said, gflow.accrued("local", energy(taken.states), taken), taken, pinned=False)
    ours = torch.cat([r, said.flow[:, :, -1:]], -1).square().mean((1, 2))
    for run in range(RUNS):
        peer = DBGFlowNet(*estimators(network, run), forward_looking=True)
        theirs = peer.loss(env, ours_in_theirs(env, taken, run).to_transitions())
        torch.testing.assert_close(ours[run], theirs, rtol=1e-5, atol=1e-5)


def test_gradients_agree():
    env, network, taken, energy = grid_problem()
    r = gflow.residuals(gflow.logs(network, taken), gflow.accrued("local", energy(taken.states), taken), taken)
    network.params.zero_grad()
    gflow.detailed_balance(r, taken).sum().backward()
    ours = network.params.grad.clone()
    network.params.zero_grad()
    for run in range(RUNS):
        peer = DBGFlowNet(*estimators(network, run), forward_looking=True)
        peer.loss(env, ours_in_theirs(env, taken, run).to_transitions()).backward()
    torch.testing.assert_close(network.params.grad, ours, rtol=1e-4, atol=1e-5)


def test_exact_distribution_of_rewards_is_theirs():
    env = HyperGrid(ndim=2, height=8, store_all_states=True)
    known = gflow.lattice(gflow.grid(2, 8))
    ours = env.log_reward(env.states_from_tensor(known.states.long())).softmax(-1)
    place = env.get_states_indices(env.states_from_tensor(known.states.long()))
    torch.testing.assert_close(ours, env.true_dist()[place].float(), rtol=1e-5, atol=1e-7)
