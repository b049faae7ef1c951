"""Population based training: the paper's toy in closed form, ablations as identities, lineages replayed by torch."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from reprise.blocks.data import mnist_1d
from reprise.blocks.population import Lineage
from reprise.search import population_based_training as pbt

TINY = replace(
    pbt.QUICK, members=8, hidden=(8, 8), steps=60, every=10, ready=10, first_ready=10,
    gan_members=4, gan_steps=20, gan_ready=10, gan_hidden=8,
    rl_members=3, rl_steps=1024, rl_ready=512, rl_envs=4, rl_hidden=8,
)  # fmt: skip
FIXED = {"copies": False, "perturbs": False}


@pytest.fixture(scope="module")
def data():
    return pbt.load(TINY, [0, 1])


@pytest.fixture(scope="module")
def outcome(data):
    return pbt.compare(TINY, data)


# --- toy ---


def test_fixed_workers_follow_the_closed_form():
    """With h = (1, 0): θ0(t) = 0.9 (1 - 2η)^t and θ1 stays at 0.9, so Q tends to 0.39."""
    theta = pbt.toy([0], **FIXED).theta[0].double()
    decay = 0.9 * (1 - 2 * 0.05) ** torch.arange(101, dtype=torch.float64)
    assert torch.allclose(theta[:, 0, 0], decay, atol=1e-6)
    assert torch.allclose(theta[:, 0, 1], torch.full((101,), 0.9, dtype=torch.float64), atol=1e-6)
    assert torch.equal(theta[:, 1], theta[:, 0].flip(-1))
    assert abs(pbt.objective(theta[-1]).max().item() - (1.2 - 0.81)) < 1e-6


def test_strict_comparison_of_mirror_images_never_starts():
    """Both Q are equal until one worker has copied: 'copy if worse' must stay at the grid's 0.39."""
    assert torch.equal(pbt.toy(range(50), strict=True).best, pbt.toy(range(50), **FIXED).best)


def test_with_the_tie_rule_the_toy_is_solved_and_copying_alone_is_not_enough():
    assert (pbt.toy(range(100)).best > 1.1).sum() >= 95
    assert torch.allclose(pbt.toy(range(100), perturbs=False).best, torch.tensor(0.39), atol=1e-6)


def test_toy_runs_do_not_depend_on_their_neighbours():
    assert torch.equal(pbt.toy([5, 6, 7]).theta[1], pbt.toy([6]).theta[0])


# --- data ---


def test_noise_reaches_the_asked_share_of_training_labels_and_no_other(data):
    x, y, _, _ = mnist_1d([0])
    wrong = data.train_y[0] != y[0, :3200]
    assert abs(wrong.float().mean().item() - 0.15) < 0.02
    assert len(data.train_y[0][wrong].unique()) == 10
    assert torch.equal(data.validation_y[0], y[0, 3200:])
    assert torch.equal(data.train_x[0], x[0, :3200])


def test_training_validation_and_test_signals_are_disjoint(data):
    everything = torch.cat([data.train_x[0], data.validation_x[0], data.test_x[0]])
    assert len(everything.unique(dim=0)) == len(everything) == 10_000


# --- populations on MNIST-1D ---


def _train_one_by_torch(data, path, schedule, settings, seed=0):
    """One ordinary network under a lineage's schedule, on the batches of the places where the lineage was."""
    stack = pbt.Members(settings, data, (pbt.PBT,))
    row = seed * settings.members
    net = stack.network.module(row + int(path[0]))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=settings.momentum)
    for step in range(settings.steps):
        segment = step // settings.ready
        rate, decay, noise_std = schedule[segment].tolist()
        optimizer.param_groups[0].update(lr=rate, weight_decay=decay)
        x, y, noise = (t[row + int(path[segment])] for t in stack.batch())
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x + noise_std * noise), y).backward()
        optimizer.step()
    return net


def test_replaying_the_winning_lineage_with_torch_gives_the_winners_predictions(data, outcome):
    """Schedule, places and momentum through every copy: an ordinary network ends with the same test accuracy."""
    family, winner = outcome.family(pbt.PBT), outcome.winner(pbt.PBT)
    path, schedule = family.ancestors(winner), family.schedule(winner)
    assert (path[1:] != path[:-1]).any()  # there is a copy to replay
    for seed in range(2):
        net = _train_one_by_torch(data, path[:, seed], schedule[:, seed], TINY, seed)
        correct = (net(data.test_x[seed]).argmax(-1) == data.test_y[seed]).float().mean()
        assert abs(100 * correct.item() - outcome.final(pbt.PBT)[seed].item()) < 0.1


def test_a_member_of_random_search_is_an_ordinary_network(data, outcome):
    values = outcome.family(pbt.RANDOM).values[:, 0, 3]
    net = _train_one_by_torch(data, [3] * len(values), values, TINY)
    correct = (net(data.test_x[0]).argmax(-1) == data.test_y[0]).float().mean()
    assert abs(100 * correct.item() - outcome.reported[1, 0, 3].item()) < 0.1


def test_a_population_of_one_trains_ordinarily(data):
    alone = pbt.compare(replace(TINY, members=1), data, (pbt.PBT, pbt.RANDOM))
    assert torch.equal(alone.scores[0], alone.scores[1])
    assert torch.equal(alone.reported[0], alone.reported[1])


def test_exploring_by_a_factor_of_one_is_exploit_only(data):
    still = pbt.Arm("still", copies_weights=True, copies_hyper=True, perturbs=True, factors=(1.0, 1.0))
    both = pbt.compare(TINY, data, (still, pbt.EXPLOIT))
    assert torch.equal(both.scores[0], both.scores[1])


def test_arms_share_draws_until_they_differ(outcome):
    """Same weights, values and batches: all arms but the one with another rate agree up to the first round."""
    first = outcome.scores[..., 0]
    for arm in (pbt.RANDOM, pbt.EXPLOIT, pbt.EXPLORE, pbt.HYPER):
        assert torch.equal(first[outcome.arm(arm)], first[0])
    assert torch.equal(outcome.lineage.values[0, :2], outcome.lineage.values[0, 2:4])


def test_explore_only_leaves_members_alone_that_are_never_among_the_worst(outcome):
    family = outcome.family(pbt.EXPLORE)
    untouched = (family.values == family.values[0]).all(0).all(-1)
    assert untouched.any()
    explored, random = (outcome.reported[outcome.arm(arm)] for arm in (pbt.EXPLORE, pbt.RANDOM))
    assert torch.equal(explored[untouched], random[untouched])
    assert (family.donors == torch.arange(TINY.members)).all()


def test_hyper_parameters_only_keeps_own_weights(outcome):
    family = outcome.family(pbt.HYPER)
    assert (family.donors == torch.arange(TINY.members)).all()
    assert not torch.equal(family.values[-1], family.values[0])


def test_numbers_of_a_seed_do_not_depend_on_stacked_seeds_and_arms(data, outcome):
    alone = pbt.compare(TINY, pbt.load(TINY, [1]), (pbt.PBT,))
    assert torch.allclose(alone.scores[0, 0], outcome.scores[0, 1], atol=0.3)
    assert torch.equal(alone.lineage.donors[:, 0], outcome.lineage.donors[:, 1])


def test_replays_differ_in_their_schedule_alone(data, outcome):
    """Where values never change, schedule and last values are the same training; where they do, they are not."""
    lineage = outcome.lineage
    constant = lineage.values[:1, :, :1].expand_as(lineage.values)
    still = pbt.replay(TINY, data, replace(outcome, lineage=replace(lineage, values=constant)))
    assert torch.equal(still[0], still[1])
    moving = pbt.replay(TINY, data, outcome)
    assert not torch.equal(moving[0], moving[1])


def _outcome(pbt_best, random_best):
    scores = torch.tensor([[[pbt_best]], [[random_best]]], dtype=torch.float32)  # arms, seeds, members, evaluations
    lineage = Lineage((0,), torch.zeros(1, 2, 1, dtype=torch.long), torch.zeros(1, 2, 1, 3))
    return pbt.Outcome((pbt.PBT, pbt.RANDOM), torch.tensor([10, 20, 30, 40]), scores, scores[..., -1], lineage)


def test_time_saved_of_hand_made_curves():
    assert pbt.time_saved(_outcome([1, 5, 7, 8], [1, 2, 3, 5])).tolist() == [0.5]
    assert pbt.time_saved(_outcome([1, 2, 3, 4], [1, 2, 3, 5])).tolist() == [0.0]


# --- GAN ---


def test_inception_score_counts_modes():
    """One mode 1, all eight equally 8, two modes in parts a and 1 - a: exp of their entropy."""
    centres = pbt.ring()
    assert abs(pbt.inception_score(centres[:1].repeat(100, 1)).item() - 1) < 1e-5
    assert abs(pbt.inception_score(centres.repeat(50, 1)).item() - 8) < 1e-4
    parts = torch.cat([centres[:1].repeat(25, 1), centres[3:4].repeat(75, 1)])
    expected = torch.distributions.Categorical(torch.tensor([0.25, 0.75])).entropy().exp()
    assert abs(pbt.inception_score(parts).item() - expected.item()) < 1e-4


def test_ring_score_takes_off_what_lies_beyond_three_deviations():
    centres = pbt.ring().repeat(10, 1)
    far = centres * (1 + 3.1 * pbt.SPREAD)
    near = centres * (1 + 2.9 * pbt.SPREAD)
    assert abs(pbt.ring_score(near).item() - 8) < 1e-3
    assert pbt.ring_score(far).item() == 0
    assert abs(pbt.ring_score(torch.cat([near, far])).item() - 4) < 1e-2
    assert pbt.ring_score(far * torch.nan).item() == 0


def test_gan_arms_share_everything_before_the_first_round():
    outcome, points = pbt.compare_gans(TINY, [0, 1])
    assert torch.equal(outcome.scores[0, ..., 0], outcome.scores[1, ..., 0])
    alone, _ = pbt.compare_gans(TINY, [1])
    assert torch.allclose(alone.scores[:, 0], outcome.scores[:, 1], atol=1e-3)
    assert points.shape == (2, 2, 500, 2)


# --- agents ---


def test_agents_of_both_arms_agree_before_the_first_round_and_returns_lie_in_range():
    outcome = pbt.compare_agents(TINY, [0, 1])
    assert torch.equal(outcome.scores[0, ..., 0], outcome.scores[1, ..., 0])
    assert outcome.steps.tolist() == [512, 1024]
    assert (pbt.normalised(torch.tensor([-500.0, -80.0])) == torch.tensor([0.0, 1.0])).all()
    assert ((outcome.reported >= -500) & (outcome.reported < 0)).all()


def test_tuning_refuses_evidence_seeds():
    with pytest.raises(ValueError, match="0 to 99"):
        pbt.tune(TINY, seeds=[100])
