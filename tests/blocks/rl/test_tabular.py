"""Explicit processes: values against linear systems and enumeration, successors against simulation, the four rooms."""

import itertools

import pytest
import torch

from reprise.blocks.rl import tabular
from reprise.blocks.rl.envs import Tabular

DISCOUNT = 0.9


def _random_process(states=4, actions=2, seed=0):
    draw = torch.Generator().manual_seed(seed)
    transition = torch.rand(states, actions, states, generator=draw, dtype=torch.float64).softmax(-1)
    return transition, torch.randn(states, actions, generator=draw, dtype=torch.float64)


def _one_hot(successors):
    return torch.nn.functional.one_hot(successors, successors.shape[-2]).double()


def test_optimal_values_are_the_best_of_all_deterministic_policies():
    transition, reward = _random_process()
    values = []
    for choice in itertools.product(range(2), repeat=4):
        policy = torch.eye(2, dtype=torch.float64)[list(choice)]
        values.append(tabular.policy_evaluation(transition, reward, policy, DISCOUNT))
    best = torch.stack(values).amax(0)  # one policy is best everywhere
    q = tabular.value_iteration(transition, reward, DISCOUNT, tolerance=1e-10)
    torch.testing.assert_close(q.amax(-1), best, atol=1e-8, rtol=0)
    assert any(torch.allclose(v, best, atol=1e-12) for v in values)


def test_values_of_a_policy_solve_its_equation():
    transition, reward = _random_process()
    policy = tabular.uniform_policy(transition)
    value = tabular.policy_evaluation(transition, reward, policy, DISCOUNT)
    backup = (policy * (reward + DISCOUNT * tabular.expected(transition, value))).sum(-1)
    torch.testing.assert_close(value, backup, atol=1e-10, rtol=0)
    psi = tabular.successor_matrix(transition, policy, DISCOUNT)
    torch.testing.assert_close(psi @ (policy * reward).sum(-1), value, atol=1e-10, rtol=0)
    torch.testing.assert_close(psi.sum(-1), torch.full((4,), 10.0, dtype=torch.float64))


def test_next_states_and_probabilities_are_two_ways_to_say_the_same():
    successors = torch.tensor([[1, 1], [3, 0], [2, 2], [0, 2]])  # two actions of state 0 lead to the same one
    reward = _random_process()[1]
    policy = torch.rand(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(-1)
    dense = _one_hot(successors)
    for function in (
        lambda t: tabular.value_iteration(t, reward, DISCOUNT),
        lambda t: tabular.policy_evaluation(t, reward, policy, DISCOUNT),
        lambda t: tabular.successor_matrix(t, policy, DISCOUNT),
        lambda t: tabular.under_policy(t, policy),
        lambda t: tabular.uniform_policy(t),
    ):
        torch.testing.assert_close(function(successors), function(dense))


def test_many_processes_at_once_are_each_its_own():
    many = torch.tensor([[[1, 0], [0, 1]], [[1, 1], [0, 0]], [[0, 1], [1, 0]]])
    reward = torch.tensor([[0.0, 1.0], [2.0, 0.0]], dtype=torch.float64)
    together = tabular.value_iteration(many, reward, DISCOUNT)
    for successors, q in zip(many, together):
        torch.testing.assert_close(q, tabular.value_iteration(successors, reward, DISCOUNT), atol=1e-7, rtol=0)
    policy = tabular.uniform_policy(many[0])
    psi = tabular.successor_matrix(many, policy, DISCOUNT)
    value = tabular.policy_evaluation(many, reward, policy, DISCOUNT)
    for successors, matrix, v in zip(many, psi, value):
        torch.testing.assert_close(matrix, tabular.successor_matrix(successors, policy, DISCOUNT))
        torch.testing.assert_close(v, tabular.policy_evaluation(successors, reward, policy, DISCOUNT))


def test_the_four_rooms_have_104_cells_and_symmetric_moves():
    free = tabular.free_cells()
    successors = tabular.grid_successors(free)
    assert free.shape == (11, 11)
    assert successors.shape == (104, 4)
    policy = tabular.uniform_policy(successors)
    matrix = tabular.under_policy(successors, policy)
    assert torch.equal(matrix, matrix.T)
    psi = tabular.successor_matrix(successors, policy, 0.95)
    torch.testing.assert_close(psi.sum(-1), torch.full((104,), 20.0, dtype=torch.float64))
    # four doors, each a cell with walls on two opposite sides
    stays = successors == torch.arange(104)[:, None]
    doors = (stays == torch.tensor([True, False, True, False])).all(1) | (stays == torch.tensor([False, True] * 2)).all(
        1
    )
    assert doors.sum() == 4


def test_steps_follow_the_map():
    free = tabular.free_cells((".#", ".."))
    assert tabular.grid_successors(free).tolist() == [[0, 0, 1, 0], [0, 2, 1, 1], [2, 2, 2, 1]]


def test_a_policy_walks_as_its_successor_matrix_says():
    successors = tabular.grid_successors(tabular.free_cells())
    goal = 50
    reward = (successors == goal).double()
    ends = torch.arange(104) == goal
    closed = torch.where(ends[:, None], torch.arange(104)[:, None], successors)
    q = tabular.value_iteration(closed, torch.where(ends[:, None], 0.0, reward), 0.95)
    env = Tabular([0], successors, reward.float(), ends, envs=103, max_steps=200)
    env.state = torch.arange(104)[~ends][None]
    start, returns, power, running = env.state[0], torch.zeros(103), 1.0, torch.ones(103, dtype=torch.bool)
    for _ in range(60):
        step = env.step(q.argmax(-1)[env.state])
        returns += power * running * step.reward[0]
        running &= ~step.terminated[0]
        power *= 0.95
    assert not running.any()
    torch.testing.assert_close(returns, q.amax(-1)[start].float(), atol=1e-5, rtol=0)


def test_what_cannot_be_solved_is_refused():
    transition, reward = _random_process()
    with pytest.raises(ValueError, match="discount"):
        tabular.value_iteration(transition, reward, 1.0)
    with pytest.raises(RuntimeError, match="sweeps"):
        tabular.value_iteration(transition, reward, 0.99, max_sweeps=3)
