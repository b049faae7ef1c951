"""Searches: slopes of a quadratic, optima, ranks, and runs that do not touch one another."""

import pytest
import torch

from reprise.blocks.rl.search import CrossEntropy, EvolutionStrategy, centered_ranks
from reprise.blocks.seeds import ParameterStore, StackedMLP

SEEDS = [4, 7, 1]
GOAL = torch.tensor([0.3, -0.5, 1.0, 0.0])


def _score(candidates):
    return -(candidates - GOAL).square().sum(-1)


def _store(runs=3):
    return ParameterStore(runs, {"x": (4,)})


def test_the_estimated_slope_of_a_quadratic_is_the_slope():
    pairs, sigma = 5000, 0.1
    es = EvolutionStrategy(_store(), SEEDS, pairs, sigma, 0.0, ranked=False)
    es.params.flat.copy_(torch.tensor([[0.0] * 4, [1.0] * 4, [0.5, -0.5, 0.5, -0.5]]))
    slope = es.gradient(_score(es.ask()))
    exact = -2 * (es.params.flat - GOAL)
    # of one pair: (g·ε) ε, whose coordinates vary by |g|² + g_j²
    error = ((exact.square().sum(1, keepdim=True) + exact.square()) / pairs).sqrt()
    assert ((slope - exact).abs() < 4 * error).all()
    assert (slope - exact).abs().max() > 1e-4


def test_candidates_are_mirrored_pairs_at_the_right_distance():
    es = EvolutionStrategy(_store(), SEEDS, 3000, torch.tensor([0.1, 0.2, 0.3]), 0.0)
    up, down = (es.ask() - es.params.flat[:, None]).chunk(2, 1)
    torch.testing.assert_close(up, -down)
    torch.testing.assert_close(up.std((1, 2)), torch.tensor([0.1, 0.2, 0.3]), atol=0, rtol=0.03)


@pytest.mark.usefixtures("unchecked")
def test_the_optimum_is_reached_and_the_scale_of_scores_does_not_matter():
    found = []
    for scale in (1.0, 1000.0):
        es = EvolutionStrategy(_store(), SEEDS, 16, 0.05, 0.05)
        for _ in range(200):
            es.tell(scale * _score(es.ask()))
        found.append(es.params.flat.clone())
    assert (found[0] - GOAL).abs().max() < 0.1
    assert torch.equal(*found)


def test_ranks_are_centered_and_ties_share_theirs():
    scores = torch.tensor([[3.0, 1.0, 2.0, 10.0, 2.0], [7.0] * 5])
    expected = torch.tensor([[0.25, -0.5, -0.125, 0.5, -0.125], [0.0] * 5])
    torch.testing.assert_close(centered_ranks(scores), expected)


def test_candidates_serve_as_parameters_of_networks():
    net = StackedMLP(SEEDS, (2, 3, 1))
    es = EvolutionStrategy(net.params, SEEDS, 2, 0.1, 0.01)
    candidates = es.ask()
    outputs = net(torch.ones(12, 5, 2), params=net.params.views(candidates.flatten(0, 1))).view(3, 4, 5)
    net.params.flat.copy_(candidates[:, 3])
    torch.testing.assert_close(net(torch.ones(3, 5, 2))[..., 0], outputs[:, 3])


@pytest.mark.parametrize("method", ["evolution", "cross-entropy"])
def test_a_run_is_the_same_in_a_stack_and_alone(method):
    def search(seeds):
        if method == "evolution":
            es = EvolutionStrategy(_store(len(seeds)), seeds, 4, 0.1, 0.05)
        else:
            es = CrossEntropy(torch.zeros(len(seeds), 4), 1.0, seeds, 20, 5)
        for _ in range(10):
            es.tell(_score(es.ask()))
        return es.params.flat if method == "evolution" else es.mean

    torch.testing.assert_close(search(SEEDS)[1:2], search([7]))


def test_the_cross_entropy_method_closes_in_on_the_optimum():
    cem = CrossEntropy(
        torch.zeros(3, 4), torch.tensor([1.0, 1.0, 2.0, 0.5]), SEEDS, 64, 8, smoothing=0.1, least_std=1e-3
    )
    for _ in range(30):
        cem.tell(_score(cem.ask()))
    assert (cem.mean - GOAL).abs().max() < 0.01
    assert (cem.std >= 1e-3).all()


def test_one_generation_fits_the_gaussian_to_the_elites():
    cem = CrossEntropy(torch.zeros(3, 4), 1.0, SEEDS, 10, 2)
    candidates = cem.ask()
    scores = torch.zeros(3, 10)
    scores[:, [2, 5]] = 1.0
    cem.tell(scores)
    torch.testing.assert_close(cem.mean, (candidates[:, 2] + candidates[:, 5]) / 2)
    torch.testing.assert_close(cem.std, (candidates[:, 2] - candidates[:, 5]).abs() / 2)


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="one seed per row"):
        EvolutionStrategy(_store(), [1], 4, 0.1, 0.1)
    with pytest.raises(ValueError, match="8 candidates"):
        EvolutionStrategy(_store(), SEEDS, 4, 0.1, 0.1).tell(torch.zeros(3, 8))
    with pytest.raises(ValueError, match="10 candidates"):
        CrossEntropy(torch.zeros(3, 4), 1.0, SEEDS, 10, 2).tell(torch.zeros(3, 10))
    with pytest.raises(ValueError, match="two elites"):
        CrossEntropy(torch.zeros(3, 4), 1.0, SEEDS, 10, 1)
