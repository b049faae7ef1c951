"""Populations as a batch axis: who copies whom, what a copy takes along, who descends from whom."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reprise.blocks import population as pop
from reprise.blocks.population import Lineage, Population, Prior
from reprise.blocks.seeds import FlatAdam, FlatSGD, ParameterStore

PRIORS = (Prior("rate", 1e-3, 1.0, log=True), Prior("noise", 0.0, 0.5))


def _uniforms(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# --- hyper-parameters ---


def test_samples_follow_their_priors():
    drawn = pop.sample(PRIORS, _uniforms(1, 20_000, 2))[0].double().numpy()
    assert stats.kstest(np.log10(drawn[:, 0]), stats.uniform(-3, 3).cdf).pvalue > 1e-3
    assert stats.kstest(drawn[:, 1], stats.uniform(0, 0.5).cdf).pvalue > 1e-3


def test_perturbing_multiplies_by_one_of_two_factors_with_equal_odds():
    values = torch.full((1, 10_000, 2), 0.1)
    ratio = pop.perturb(PRIORS, values, _uniforms(1, 10_000, 2)) / values
    assert set(ratio.mul(10).round().unique().tolist()) == {8.0, 12.0}
    assert abs((ratio > 1).float().mean().item() - 0.5) < 0.02


def test_perturbing_has_the_known_downward_drift_of_the_logarithm():
    wide = (Prior("rate", 1e-30, 1e30, log=True),)
    values, rounds = torch.ones(1, 20_000, 1, dtype=torch.float64), 10
    for i in range(rounds):
        values = pop.perturb(wide, values, _uniforms(1, 20_000, 1, seed=i))
    expected = rounds * 0.5 * (math.log(1.2) + math.log(0.8))
    assert abs(values.log().mean().item() - expected) < 4 * math.sqrt(rounds / 20_000) * 0.5 * math.log(1.5)


def test_perturbing_never_leaves_the_range():
    values = pop.sample(PRIORS, _uniforms(3, 50, 2))
    for i in range(30):
        values = pop.perturb(PRIORS, values, _uniforms(3, 50, 2, seed=i), (0.5, 2.0))
    assert (values[..., 0] >= 1e-3).all()
    assert (values[..., 0] <= 1.0).all()
    assert (values[..., 1] <= 0.5).all()


def test_factors_may_differ_between_groups():
    values = torch.full((2, 5, 2), 0.1)
    changed = pop.perturb(PRIORS, values, _uniforms(2, 5, 2), torch.tensor([[1.0, 1.0], [0.5, 0.5]]))
    assert torch.allclose(changed[0], values[0])
    assert torch.allclose(changed[1], 0.5 * values[1])


def test_resampling_replaces_the_asked_share_by_draws_from_the_prior():
    values = torch.full((1, 20_000, 2), 0.123)
    fresh = _uniforms(1, 20_000, 2, seed=1)
    new = pop.resample(PRIORS, values, _uniforms(1, 20_000, 2), fresh, probability=0.25)
    changed = new != values
    assert abs(changed.float().mean().item() - 0.25) < 0.01
    assert torch.equal(new[changed], pop.sample(PRIORS, fresh)[changed])


def test_rejects_a_logarithmic_prior_that_touches_zero_and_columns_without_prior():
    with pytest.raises(ValueError, match="low > 0"):
        Prior("rate", 0.0, 1.0, log=True)
    with pytest.raises(ValueError, match="3 columns for 2 priors"):
        pop.clip(PRIORS, torch.zeros(1, 4, 3))


# --- exploit ---


@given(st.integers(2, 30), st.sampled_from([0.1, 0.2, 0.25, 0.5]), st.integers(0, 10_000))
@settings(deadline=None, max_examples=60)
def test_truncation_replaces_exactly_the_worst_by_some_of_the_best(members, fraction, seed):
    scores = _uniforms(3, members, seed=seed)
    donors = pop.truncation(scores, _uniforms(3, members, seed=seed + 1), fraction)
    count = math.floor(fraction * members + 1e-9)
    for own, given_donors in zip(scores.numpy(), donors.numpy()):
        order = np.argsort(-own)
        best, worst = set(order[:count]), set(order[len(order) - count :])
        assert {i for i in range(members) if given_donors[i] != i} == worst
        assert {given_donors[i] for i in worst} <= best


def test_truncation_chooses_every_good_member_equally_often():
    scores = torch.arange(10.0).expand(20_000, 10)
    donors = pop.truncation(scores, _uniforms(20_000, 10), 0.3)[:, :3].flatten()
    counts = torch.bincount(donors, minlength=10)[7:].numpy()
    assert counts.sum() == 60_000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_score_that_is_not_a_number_is_the_worst_and_never_a_donor():
    scores = torch.tensor([[math.nan, 1.0, 2.0, math.nan]])
    donors = pop.truncation(scores, _uniforms(1, 4), 0.5)
    assert donors[0].tolist()[1:3] == [1, 2]
    assert set(donors[0, [0, 3]].tolist()) <= {1, 2}


def test_ties_are_broken_by_number():
    assert pop.ranks(torch.zeros(1, 4)).tolist() == [[0, 1, 2, 3]]
    assert pop.best_member(torch.tensor([[1.0, 3.0, 3.0]])).tolist() == [1]


def test_tournament_copies_a_better_one_only_and_meets_everyone():
    scores = torch.arange(5.0).expand(4000, 5)
    donors = pop.tournament(scores, _uniforms(4000, 5))
    moved = donors != torch.arange(5)
    assert (scores.gather(1, donors) >= scores).all()
    expected = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])  # share of the others that are better
    assert torch.allclose(moved.float().mean(0), expected, atol=0.03)


def test_tournament_of_equals_copies_by_number_but_never_if_strict():
    scores = torch.zeros(1, 2)
    assert pop.tournament(scores, _uniforms(1, 2)).tolist() == [[0, 0]]
    assert pop.tournament(scores, _uniforms(1, 2), strict=True).tolist() == [[0, 1]]


def test_t_test_agrees_with_scipy():
    generator = torch.Generator().manual_seed(0)
    recent = torch.randn(300, 2, 10, generator=generator, dtype=torch.float64)
    recent[:, 1] = 1.0 + 2.0 * recent[:, 1]
    donors = pop.t_test(recent.float(), _uniforms(300, 2))
    for pair, found in zip(recent.float().double().numpy(), donors.tolist()):
        p = stats.ttest_ind(pair[0], pair[1], equal_var=False).pvalue
        better = int(pair[1].mean() > pair[0].mean())
        expected = [0, 1] if p >= 0.05 else [better, better]
        assert found == expected


def test_t_test_copies_equals_at_half_its_level():
    recent = torch.randn(10_000, 2, 10, generator=torch.Generator().manual_seed(1))
    copies = pop.t_test(recent, _uniforms(10_000, 2)) != torch.arange(2)
    assert abs(copies.float().mean().item() - 0.025) < 0.004


def test_t_test_of_constant_scores_copies_the_better_and_leaves_equals():
    recent = torch.tensor([[-500.0, -80.0, -80.0]])[..., None].expand(1, 3, 10).contiguous()
    for seed in range(20):
        donors = pop.t_test(recent, _uniforms(1, 3, seed=seed))[0]
        assert donors[1:].tolist() == [1, 2]
        assert donors[0] in (1, 2)


def test_a_population_of_one_never_copies():
    assert pop.tournament(torch.zeros(2, 1), _uniforms(2, 1)).tolist() == [[0], [0]]
    assert pop.truncation(torch.zeros(2, 1), _uniforms(2, 1), 0.5).tolist() == [[0], [0]]


def test_members_that_are_not_ready_keep_going():
    donors = pop.where_ready(torch.tensor([[1, 1, 0]]), torch.tensor([[True, True, False]]))
    assert donors.tolist() == [[1, 1, 2]]


def test_rejects_a_fraction_above_one_half():
    with pytest.raises(ValueError, match="0.5"):
        pop.truncation(torch.zeros(1, 4), _uniforms(1, 4), 0.6)


# --- copying ---


def _trained(optimizer_kind, groups=2, members=3, steps=4):
    params = ParameterStore(groups * members, {"w": (3,)})
    params.flat.copy_(_uniforms(groups * members, 3))
    optimizer = optimizer_kind(params)
    for _ in range(steps):
        params.grad.copy_(params.flat * torch.arange(1.0, groups * members + 1).view(-1, 1))
        optimizer.step()
    values = pop.sample(PRIORS, _uniforms(groups, members, 2))
    return params, optimizer, Population(PRIORS, values, pop.training_state(optimizer))


@pytest.mark.parametrize("kind", [lambda p: FlatSGD(p, 0.1, momentum=0.9), lambda p: FlatAdam(p, 0.1)])
def test_a_copy_goes_on_exactly_as_its_donor_would(kind):
    """Weights alone are not enough: without momentum, moments and step counts the next steps differ."""
    params, optimizer, members = _trained(kind)
    members.evolve(4, torch.tensor([[0, 0, 2], [0, 1, 2]]))
    for _ in range(3):
        params.grad.copy_(params.flat)  # from now on, equal gradients for equal weights
        optimizer.step()
    assert torch.equal(params.flat[1], params.flat[0])
    assert not torch.equal(params.flat[2], params.flat[0])


def test_copies_are_simultaneous():
    """A chain 0 <- 1 <- 2 moves everyone by one place; nobody gets what was copied in the same round."""
    params, _, members = _trained(lambda p: FlatSGD(p, 0.1))
    before, values = params.flat.clone(), members.values.clone()
    members.evolve(1, torch.tensor([[1, 2, 2], [2, 0, 1]]))
    assert torch.equal(params.flat, before[[1, 2, 2, 5, 3, 4]])
    assert torch.equal(members.values[0], values[0, [1, 2, 2]])


def test_members_without_donor_are_never_touched():
    params, _, members = _trained(lambda p: FlatSGD(p, 0.1))
    before, values = params.flat.clone(), members.values.clone()
    members.evolve(1, torch.tensor([[0, 0, 2], [0, 1, 1]]), lambda h: 2 * h)
    untouched = [0, 2, 3, 4]
    assert torch.equal(params.flat[untouched], before[untouched])
    assert torch.equal(members.values.view(6, 2)[untouched], values.view(6, 2)[untouched])


def test_exploration_acts_on_the_donors_values_after_the_copy():
    _, _, members = _trained(lambda p: FlatSGD(p, 0.1))
    values = members.values.clone()
    members.evolve(1, torch.tensor([[2, 1, 2], [0, 1, 2]]), lambda h: 2 * h)
    assert torch.equal(members.values[0, 0], 2 * values[0, 2])


def test_switches_act_per_group():
    params, _, members = _trained(lambda p: FlatSGD(p, 0.1))
    before, values = params.flat.clone(), members.values.clone()
    on_off = torch.tensor([True, False])
    members.evolve(1, torch.tensor([[1, 1, 2], [1, 1, 2]]), lambda h: 2 * h, weights=on_off, hyper=~on_off)
    assert torch.equal(params.flat[0], before[1])  # group 0 copies weights ...
    assert torch.equal(members.values[0, 0], 2 * values[0, 0])  # ... and perturbs its own values
    assert torch.equal(params.flat[3], before[3])
    assert torch.equal(members.values[1, 0], 2 * values[1, 1])


def test_groups_do_not_depend_on_how_many_are_stacked():
    scores, uniforms, values = _uniforms(4, 8), _uniforms(4, 8, seed=1), pop.sample(PRIORS, _uniforms(4, 8, 2))
    draw = _uniforms(4, 8, 2, seed=3)

    def round_of(groups):
        members = Population(PRIORS, values[groups])
        donors = pop.truncation(scores[groups], uniforms[groups], 0.25)
        members.evolve(1, donors, lambda h: pop.perturb(PRIORS, h, draw[groups]))
        return members.values

    assert torch.equal(round_of(slice(None))[2:3], round_of(slice(2, 3)))


def test_rejects_state_of_other_length_and_unknown_names():
    with pytest.raises(ValueError, match="5 rows for 2 groups of 3"):
        Population(PRIORS, pop.sample(PRIORS, _uniforms(2, 3, 2)), [torch.zeros(5, 1)])
    with pytest.raises(ValueError, match="rate, noise"):
        Population(PRIORS, pop.sample(PRIORS, _uniforms(2, 3, 2)))["dropout"]


# --- lineage ---


def test_lineage_of_a_tree_made_by_hand():
    donors = torch.tensor([[[0, 1, 2]], [[1, 1, 2]], [[0, 0, 2]]])  # 0 copies 1; then 1 copies 0
    values = torch.arange(9.0).view(3, 1, 3, 1)
    tree = Lineage((0, 10, 20), donors, values)
    assert tree.ancestors(torch.tensor([1]))[:, 0].tolist() == [1, 0, 1]
    assert tree.schedule(torch.tensor([1]))[:, 0, 0].tolist() == [1.0, 3.0, 7.0]
    assert tree.survivors()[:, 0].tolist() == [2, 2, 3]


def test_replaying_a_lineage_gives_the_final_weights_exactly():
    """Rows of a linear system that multiply and add noise of their place: only the right ancestors reproduce them."""
    groups, members, segments, steps = 2, 6, 5, 3
    theta = _uniforms(groups * members, 4)
    start = theta.clone().view(groups, members, 4)
    noise = _uniforms(segments * steps, groups, members, 4, seed=7)
    people = Population(PRIORS, pop.sample(PRIORS, _uniforms(groups, members, 2)), [theta])
    for segment in range(segments):
        if segment:
            scores = theta.view(groups, members, 4).sum(-1)
            donors = pop.truncation(scores, _uniforms(groups, members, seed=segment), 0.5)
            draw = _uniforms(groups, members, 2, seed=segment + 50)
            people.evolve(segment * steps, donors, lambda h, draw=draw: pop.perturb(PRIORS, h, draw))
        for t in range(steps):
            rate = people["rate"].view(-1, 1)
            theta.copy_((1 - rate) * theta + rate * noise[segment * steps + t].view(-1, 4))
    winner = pop.best_member(theta.view(groups, members, 4).sum(-1))
    tree = people.lineage()
    path, schedule = tree.ancestors(winner), tree.schedule(winner)
    for g in range(groups):
        own = start[g, path[0, g]].clone()
        for segment in range(segments):
            rate = schedule[segment, g, 0]
            for t in range(steps):
                own = (1 - rate) * own + rate * noise[segment * steps + t, g, path[segment, g]]
        assert torch.equal(own, theta.view(groups, members, 4)[g, winner[g]])
