"""Graphs, sampling, balance losses and exact distributions against brute force, closed forms and plain loops."""

import math
from collections import Counter
from itertools import combinations, combinations_with_replacement, permutations
from itertools import product as tuples

import pytest
import torch

from reprise.blocks import gflow
from reprise.blocks.seeds import RunRNG

GRAPHS = [gflow.sets(6, 3), gflow.bags(3, 4), gflow.grid(2, 4)]
OUTCOMES = {  # each graph's outcomes as itertools lists them
    GRAPHS[0]: [tuple(int(i in c) for i in range(6)) for c in combinations(range(6), 3)],
    GRAPHS[1]: [tuple(c.count(i) for i in range(3)) for c in combinations_with_replacement(range(3), 4)],
    GRAPHS[2]: list(tuples(range(4), repeat=2)),
}
each_graph = pytest.mark.parametrize("graph", GRAPHS, ids=["set", "bag", "grid"])


def network(graph, seeds=(0, 1), **kwargs):
    return gflow.FlowNetwork(graph, list(seeds), (16, 16), **kwargs)


def sampled(graph, batch=8, explore=0.5, net=None):
    net = net or network(graph)
    return net, gflow.rollout(
        net, RunRNG(range(net.params.runs), "walk"), torch.full((net.params.runs, batch), explore)
    )


def random_log_reward(graph, runs=2, seed=0):
    n = len(OUTCOMES[graph])
    return torch.randn(runs, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact_logs(graph, log_reward, taken):
    """What a perfect network would say about trajectories; and E of their states, 0 where no outcome can be."""
    known = gflow.lattice(graph)
    log_flow, log_policy = gflow.exact_flows(graph, log_reward)
    place = {tuple(s): i for i, s in enumerate(known.states.long().tolist())}
    at = torch.tensor([[[place[tuple(s)] for s in t] for t in run] for run in taken.states.long().tolist()])
    rows = torch.arange(len(at))[:, None, None]
    forward = log_policy[rows, at[..., :-1]].gather(-1, taken.actions[..., None])[..., 0]
    uniform = -(taken.states[:, :, 1:] > 0).sum(-1).clamp(min=1).double().log()
    backward = torch.where(taken.actions < graph.kinds, uniform, 0.0)
    full = torch.zeros(len(at), len(known.states), dtype=torch.float64)
    full[:, known.outcomes] = -log_reward
    return gflow.Logs(forward, backward, log_flow[rows, at]), full[rows, at]


# --- the graph and its walks


@each_graph
def test_the_lattice_holds_every_state_once_and_ends_in_the_outcomes(graph):
    known = gflow.lattice(graph)
    states = [tuple(s) for s in known.states.long().tolist()]
    assert len(set(states)) == len(states)
    assert sorted(states[known.outcomes]) == sorted(OUTCOMES[graph])
    for i, kind in tuples(range(len(states)), range(graph.kinds)):
        more = tuple(c + (j == kind) for j, c in enumerate(states[i]))
        assert (known.children[i, kind] > 0) == (more in states)
        if more in states:
            assert states[known.children[i, kind]] == more
            assert known.parents[states.index(more), kind] == i


def test_the_lattices_of_the_tasks_have_the_known_sizes():
    assert len(gflow.lattice(gflow.bags(4, 16)).states) == 4845
    known = gflow.lattice(gflow.sets(15, 7))
    assert len(known.states[known.outcomes]) == 6435
    with pytest.raises(ValueError, match="too many states"):
        gflow.lattice(gflow.sets(100, 80))


@each_graph
@pytest.mark.parametrize("explore", [0.0, 1.0])
def test_walks_follow_the_rules_of_their_graph(graph, explore):
    _, taken = sampled(graph, 50, explore)
    steps = taken.states.diff(dim=2)
    assert bool((taken.states <= graph.most).all())
    adds = taken.actions < graph.kinds
    assert torch.equal(steps.sum(-1), adds.float())  # one thing per addition, nothing for a stop
    assert torch.equal(steps.argmax(-1)[adds], taken.actions[adds])
    if graph.can_stop:
        stops = (taken.actions == graph.kinds).float()
        assert torch.equal(stops.argmax(-1) + 1, taken.lengths)  # the first stop is the last real step
    else:
        assert bool((taken.ends.sum(-1) == graph.length).all())
        assert bool((taken.lengths == graph.length).all())


def test_sampled_outcomes_have_the_exact_distribution_of_the_policy():
    for graph in GRAPHS:
        net, taken = sampled(graph, 20_000, 0.0)
        probabilities = gflow.sampled_distribution(net)
        known = gflow.lattice(graph)
        outcomes = [tuple(s) for s in known.states[known.outcomes].long().tolist()]
        for run in range(2):
            counts = Counter(tuple(s) for s in taken.ends[run].long().tolist())
            found = torch.tensor([counts[s] / 20_000 for s in outcomes])
            error = (probabilities[run] * (1 - probabilities[run]) / 20_000).sqrt()
            assert bool(((found - probabilities[run]).abs() < 4.5 * error + 1e-4).all())


def test_exact_distribution_is_the_sum_over_all_orders():
    graph = gflow.sets(5, 3)
    net = network(graph, [3])
    known = gflow.lattice(graph)
    with torch.no_grad():
        found = gflow.sampled_distribution(net)[0]
        for state, probability in zip(known.states[known.outcomes], found):
            total = 0.0
            for order in permutations(state.nonzero()[:, 0].tolist()):
                s, path = torch.zeros(1, 1, 5), 1.0
                for item in order:
                    path *= float(net.policy(s)[0, 0, item].exp())
                    s = s.clone()
                    s[..., item] = 1
                total += path
            assert float(probability) == pytest.approx(total, rel=1e-5)


def test_runs_are_the_same_alone_and_in_a_stack():
    graph = gflow.bags(3, 4)
    _, both = sampled(graph)
    alone = gflow.rollout(network(graph, [1]), RunRNG([1], "walk"), torch.full((1, 8), 0.5))
    assert torch.equal(both.actions[1:], alone.actions)


def test_a_cut_walk_has_lost_its_outcome_unless_the_cut_is_behind_it():
    _, taken = sampled(gflow.sets(6, 3))
    lengths = torch.tensor([[1, 2, 3, 3, 2, 1, 3, 2]] * 2)
    short = taken.cut(lengths)
    assert torch.equal(short.complete, lengths == 3)
    assert torch.equal(short.real.sum(-1), lengths)
    assert torch.equal(short.is_outcome.sum(-1).bool(), short.complete)


# --- exact solutions


@each_graph
def test_every_loss_vanishes_at_the_exact_flows(graph):
    log_reward = random_log_reward(graph)
    _, taken = sampled(graph)
    said, energies = exact_logs(graph, log_reward, taken)
    log_z = log_reward.logsumexp(-1)
    assert torch.allclose(said.flow[:, :, 0], log_z[:, None].expand(-1, 8))
    r = gflow.residuals(said, gflow.accrued("end", energies, taken), taken, pinned=True)
    # a pinned outcome has f = 0, so its flow must be the reward alone
    assert float(r.abs().max()) < 1e-10
    for loss in (gflow.detailed_balance(r, taken), gflow.subtrajectory_balance(r, taken)):
        assert float(loss.max()) < 1e-10
    assert float(gflow.trajectory_balance(log_z, said, energies, taken).max()) < 1e-10


@each_graph
def test_exact_policy_samples_in_proportion_to_the_reward(graph):
    log_reward = random_log_reward(graph)
    _, log_policy = gflow.exact_flows(graph, log_reward)
    found = gflow.outcome_probabilities(graph, log_policy)
    assert float(gflow.total_variation(found, log_reward.softmax(-1)).max()) < 1e-12


def test_exact_flow_of_a_set_has_the_closed_form():
    # a uniform backward walk from x visits each of its subsets of one size equally often
    graph = gflow.sets(6, 3)
    log_reward = random_log_reward(graph)
    log_flow, _ = gflow.exact_flows(graph, log_reward)
    known = gflow.lattice(graph)
    outcomes = known.states[known.outcomes]
    for state, flow in zip(known.states, log_flow[0]):
        above = (outcomes >= state).all(-1)
        size = int(state.sum())
        assert float(flow.exp()) == pytest.approx(float(log_reward[0, above].exp().sum()) / math.comb(3, size))


def test_total_variation_of_disjoint_and_equal_distributions():
    p, q = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    assert gflow.total_variation(p, q).item() == 1
    assert gflow.total_variation(p, p).item() == 0


# --- losses


def additive(taken):
    """Energies of states, additive over what they hold."""
    items = torch.linspace(-0.7, 0.9, taken.states.shape[-1])
    return taken.states @ items


@each_graph
def test_losses_equal_plain_loops(graph):
    net, taken = sampled(graph)
    taken = taken.cut(torch.tensor([[1, 2, 3, 9, 9, 9, 9, 9]] * 2))
    with torch.no_grad():
        said, energies = gflow.logs(net, taken), additive(taken)
    r = gflow.residuals(said, gflow.accrued("local", energies, taken), taken)
    db, sub, tb = gflow.detailed_balance(r, taken), gflow.subtrajectory_balance(r, taken, 0.9), []
    log_z = torch.tensor([0.3, -0.4])
    for run in range(2):
        squares, pieces, whole = [], [], []
        for b in range(8):
            length, done = int(taken.lengths[run, b]), bool(taken.complete[run, b])
            pf, pb = said.forward[run, b], said.backward[run, b]
            flow = [float(said.flow[run, b, t] - energies[run, b, t]) for t in range(length + 1)]
            if done:
                flow[length] = -float(energies[run, b, length])
            total = weights = 0.0
            for i in range(length):
                for j in range(i + 1, length + 1):
                    gap = flow[i] - flow[j] + float((pf[i:j] - pb[i:j]).sum())
                    total, weights = total + 0.9 ** (j - i) * gap**2, weights + 0.9 ** (j - i)
                    if j == i + 1:
                        squares.append(gap**2)
            pieces.append(total / weights)
            if done:
                whole.append(
                    (float(log_z[run]) + float((pf - pb)[:length].sum()) + float(energies[run, b, length])) ** 2
                )
        tb.append(sum(whole) / len(whole))
        assert float(db[run]) == pytest.approx(sum(squares) / len(squares), rel=1e-4)
        assert float(sub[run]) == pytest.approx(sum(pieces) / 8, rel=1e-4)
    found = gflow.trajectory_balance(log_z, said, energies, taken)
    assert found.tolist() == pytest.approx(tb, rel=1e-4)


def test_forward_looking_loss_is_detailed_balance_of_the_network_minus_energy():
    # log F = log F~ - E: the same losses and the same gradients
    graph = gflow.bags(3, 4)
    net, taken = sampled(graph)
    energies, gradients, losses = additive(taken), [], []
    for way in ("forward-looking", "plain"):
        said = gflow.logs(net, taken)
        if way == "plain":
            said = gflow.Logs(said.forward, said.backward, said.flow - energies)
        r = gflow.residuals(said, gflow.accrued("local" if way == "forward-looking" else "end", energies, taken), taken)
        loss = gflow.detailed_balance(r, taken)
        net.params.zero_grad()
        loss.sum().backward()
        losses.append(loss.detach())
        gradients.append(net.params.grad.clone())
    torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)
    assert float(gradients[0].abs().max()) > 0.01


def test_forward_looking_residual_holds_the_energy_increment():
    # the paper's form: log F~(s) + log P_F - log F~(s') - log P_B + E(s -> s'), with F~(x) = 1
    net, taken = sampled(gflow.sets(6, 3))
    said, energies = gflow.logs(net, taken), additive(taken)
    flow = said.flow.clone()
    flow[:, :, -1] = 0
    expected = flow[..., :-1] + said.forward - flow[..., 1:] - said.backward + energies.diff(dim=-1)
    found = gflow.residuals(said, gflow.accrued("local", energies, taken), taken)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("credit", ["end", "local", "opposite", "shuffled"])
def test_every_credit_adds_up_to_the_outcomes_energy(credit):
    _, taken = sampled(gflow.sets(6, 3))
    energies = additive(taken)
    found = gflow.accrued(credit, energies, taken, torch.rand(2, 8, 3))
    torch.testing.assert_close(found[..., -1], energies[..., -1])
    assert not found[..., 0].any()
    if credit == "shuffled":
        assert not torch.allclose(found, energies)
        torch.testing.assert_close(found.diff(dim=-1).sort(-1).values, energies.diff(dim=-1).sort(-1).values)


def test_without_a_pinned_outcome_any_policy_has_zero_loss():
    # the flow of a policy's own visits and the matching P_B satisfy the free condition whatever the reward is
    graph = gflow.sets(6, 3)
    net, taken = sampled(graph)
    known = gflow.lattice(graph)
    with torch.no_grad():
        policy = net.policy(known.states[: known.outcomes.start].expand(2, -1, -1))
    visits = torch.zeros(2, len(known.states))
    visits[:, 0] = 1
    for level, own in enumerate(known.levels[:-1]):
        for s in range(own.start, own.stop):
            for kind in range(6):
                if known.children[s, kind] > 0:
                    visits[:, known.children[s, kind]] += visits[:, s] * policy[:, s, kind].exp()
        assert visits[:, known.levels[level + 1]].sum(-1).tolist() == pytest.approx([1, 1], rel=1e-5)
    place = {tuple(s): i for i, s in enumerate(known.states.long().tolist())}
    at = torch.tensor([[[place[tuple(s)] for s in t] for t in run] for run in taken.states.long().tolist()])
    rows = torch.arange(2)[:, None, None]
    flow, energies = visits.log()[rows, at], additive(taken)
    forward = policy[rows, at[..., :-1]].gather(-1, taken.actions[..., None])[..., 0]
    said = gflow.Logs(forward, flow[..., :-1] + forward - flow[..., 1:], flow + energies)
    credited = gflow.accrued("local", energies, taken)
    free = gflow.detailed_balance(gflow.residuals(said, credited, taken, pinned=False), taken)
    pinned = gflow.detailed_balance(gflow.residuals(said, credited, taken), taken)
    assert float(free.max()) < 1e-9
    assert float(pinned.min()) > 0.1


def test_uniform_backward_policy_is_one_over_the_number_of_parents():
    graph = gflow.bags(3, 4)
    net = network(graph, learned_backward=False)
    _, taken = sampled(graph, net=net)
    parents = (taken.states[:, :, 1:] > 0).sum(-1)
    torch.testing.assert_close(gflow.logs(net, taken).backward.exp(), 1 / parents.float())


def test_learned_backward_policy_sums_to_one_over_the_parents():
    graph = gflow.bags(3, 4)
    net = network(graph, [0])
    state = torch.tensor([2.0, 0.0, 1.0])
    before = [state - torch.eye(3)[kind] for kind in (0, 2)]
    points = torch.stack([torch.stack([torch.zeros(3), b, state]) for b in before])[None]
    taken = gflow.Trajectories(
        points, torch.tensor([[[0, 0], [0, 2]]]), torch.full((1, 2), 2), torch.zeros(1, 2).bool()
    )
    assert float(gflow.logs(net, taken).backward[0, :, 1].exp().sum()) == pytest.approx(1, rel=1e-5)


def test_gradients_match_finite_differences():
    graph = gflow.bags(2, 3)
    net, taken = sampled(graph, 4)
    energies = additive(taken)

    def value():
        said = gflow.logs(net, taken)
        r = gflow.residuals(said, gflow.accrued("local", energies, taken), taken)
        return (gflow.detailed_balance(r, taken) + gflow.trajectory_balance(net.log_z, said, energies, taken)).sum()

    net.params.zero_grad()
    value().backward()
    gradient = net.params.grad.clone()
    largest = gradient.abs().argmax(1)
    for run in range(2):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                net.params.flat[run, largest[run]] += sign * 1e-3
                ends.append(float(value()))
                net.params.flat[run, largest[run]] -= sign * 1e-3
        assert float(gradient[run, largest[run]]) == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-2)


def test_learning_rates_single_out_log_z():
    net = network(gflow.sets(6, 3))
    rates = net.params.views(net.rates(torch.tensor([1e-3, 3e-3])))
    assert rates["log_z"].flatten().tolist() == pytest.approx([0.1, 0.1])
    assert rates["0.weight"][1].unique().tolist() == pytest.approx([3e-3])


# --- bad input


def test_rejects_graphs_and_credits_that_cannot_be():
    with pytest.raises(ValueError, match="cannot give 7"):
        gflow.sets(6, 7)
    with pytest.raises(ValueError, match="positive"):
        gflow.bags(0, 3)
    _, taken = sampled(gflow.sets(6, 3))
    with pytest.raises(ValueError, match="choose end, local"):
        gflow.accrued("late", additive(taken), taken)
    with pytest.raises(ValueError, match="needs `luck`"):
        gflow.accrued("shuffled", additive(taken), taken)
