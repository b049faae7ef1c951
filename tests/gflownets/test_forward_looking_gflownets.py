"""Energies, measures and training of the chapter against brute force, closed forms and cases with known ends."""

import math
from itertools import combinations

import pytest
import torch

from reprise.blocks import gflow
from reprise.blocks.training import History
from reprise.gflownets import forward_looking_gflownets as fl

SEEDS = [0, 1, 2]
SET = fl.Task(gflow.sets(6, 3), 6)
BAG = fl.Task(gflow.bags(3, 4), 3, 0.5)
SHORT = fl.Budget(4, every=2, batch=6, hidden=(8, 8))


# --- energies and targets


def test_energies_repeat_their_distinct_values_and_stay_in_their_range():
    energy = fl.SMALL_SET.energy(SEEDS)
    for items in energy.items:
        values, counts = items.unique(return_counts=True)
        assert counts.tolist() == [3] * 10
        assert float(values.abs().max()) < 1
    assert not torch.equal(energy.items[0], energy.items[1])
    assert torch.equal(fl.SMALL_SET.energy([1]).items, energy.items[1:2])


def test_an_energy_is_the_sum_over_items_and_pairs():
    energy = BAG.energy(SEEDS, [0.0, 0.3])
    states = torch.tensor([2.0, 0.0, 2.0]).expand(6, 1, 3)
    found = energy(states)[:, 0]
    for run in range(6):
        e, pairs = energy.items[run], energy.pairs[run]
        assert torch.equal(pairs, pairs.T)
        assert float(found[run]) == pytest.approx(float(2 * e[0] + 2 * e[2] + 4 * pairs[0, 2]), rel=1e-5, abs=1e-6)
    assert not energy.pairs[:3].any()
    assert energy.pairs[3:].any()
    assert not energy(torch.zeros(6, 2, 3)).any()  # E is 0 where everything starts


def test_the_target_is_the_normalised_reward():
    energy = SET.energy(SEEDS)
    outcomes = [set(c) for c in combinations(range(6), 3)]
    known = gflow.lattice(SET.graph)
    rewards = [math.exp(-sum(float(energy.items[0, i]) for i in c)) for c in outcomes]
    for state, probability in zip(known.states[known.outcomes], fl.target(SET, energy)[0]):
        place = outcomes.index(set(state.nonzero()[:, 0].tolist()))
        assert float(probability) == pytest.approx(rewards[place] / sum(rewards), rel=1e-5)


def test_inclusion_probabilities_equal_brute_force():
    energy = SET.energy(SEEDS)
    known = gflow.lattice(SET.graph)
    expected = fl.target(SET, energy) @ known.states[known.outcomes]
    torch.testing.assert_close(fl.inclusion(energy, 3).float(), expected, rtol=1e-5, atol=1e-6)
    assert fl.inclusion(fl.LARGE_SET.energy([0]), 80).sum().item() == pytest.approx(80)


def test_symmetric_polynomials_of_ones_are_binomial_coefficients():
    found = fl.log_symmetric(torch.zeros(1, 7, dtype=torch.float64), 4).exp()
    assert found[0].tolist() == pytest.approx([math.comb(7, k) for k in range(5)])


def test_best_reward_is_the_largest_of_all_sets():
    energy = SET.energy(SEEDS)
    known = gflow.lattice(SET.graph)
    all_of_them = -energy(known.states[known.outcomes].expand(3, -1, -1))
    torch.testing.assert_close(fl.best_log_reward(energy, 3), all_of_them.max(-1).values)


# --- the claim of the same solution


def test_exact_flows_leave_no_forward_looking_residual():
    assert float(fl.exact_residual(SEEDS).max()) < 1e-12


def test_a_wrong_energy_of_a_partial_set_would_leave_one(monkeypatch):
    # the zero above is no accident of the measure: credit rewards of partial sets twice, and it is gone
    monkeypatch.setattr(gflow, "accrued", lambda credit, energies, taken: 2 * energies)
    assert float(fl.exact_residual(SEEDS).min()) > 0.01


# --- measures


def test_top_mean_counts_every_outcome_once():
    codes = torch.tensor([[5, 7, 5, 9, 7, 5]])
    log_rewards = torch.tensor([[1.0, 3.0, 1.0, 2.0, 3.0, 1.0]])
    two = math.log((math.exp(3) + math.exp(2)) / 2)
    assert fl.log_top_mean(codes, log_rewards, 2).item() == pytest.approx(two, rel=1e-6)
    three = math.log((math.exp(3) + math.exp(2) + math.exp(1)) / 3)
    assert fl.log_top_mean(codes, log_rewards, 100).item() == pytest.approx(three, rel=1e-6)


def test_keys_tell_all_sets_of_a_task_apart():
    keys = fl.hash_keys(fl.EXACT_SET.graph)
    codes = (gflow.lattice(fl.EXACT_SET.graph).states.long() * keys).sum(-1)
    assert len(codes.unique()) == len(codes)


def scripted(tv, tops=None):
    """A finished run of DB, TB, FL-DB and FL-DB-free on one seed with given total variations or rewards."""
    arms = tuple(fl.Arm(method, 1e-3, 0.0) for method in ("DB", "TB", "FL-DB", "FL-DB-free"))
    history = History(torch.tensor([0, 1, 2]), {"tv": torch.tensor(tv)})
    rewards = torch.tensor(tops if tops else [[0.0]] * 4)
    codes = torch.arange(rewards.shape[1]).expand(4, -1)
    network, energy = gflow.FlowNetwork(BAG.graph, [0] * 4, (2,)), BAG.energy([0] * 4)
    return fl.Trained(arms, (0,), network, energy, history, torch.zeros(2, 4, 1), codes, rewards)


def test_speed_is_compared_with_the_better_baseline_without_the_look_before_training():
    done = scripted([[1.0, 0.6, 0.4], [1.0, 0.3, 0.3], [1.0, 0.2, 0.2], [1.0, 0.9, 0.9]])
    assert fl.area_gain(done).item() == pytest.approx(0.3 - 0.2)
    slower = scripted([[1.0, 0.1, 0.1], [1.0, 0.3, 0.3], [1.0, 0.2, 0.2], [1.0, 0.9, 0.9]])
    assert fl.area_gain(slower).item() == pytest.approx(0.1 - 0.2)


def test_top_gain_is_the_free_variants_lead_over_the_better_baseline():
    done = scripted([[1.0] * 3] * 4, [[0.0] * 32, [1.0] * 32, [5.0] * 32, [0.5] * 16 + [4.0] * 16])
    assert fl.top_gain(done, 1).item() == pytest.approx(0.5 - 1.0)  # after one update: the first 16 outcomes
    both = math.log((math.exp(0.5) + math.exp(4.0)) / 2)
    assert fl.top_gain(done, 2).item() == pytest.approx(both - 1.0)


# --- training


def arms(*methods, **more):
    return [fl.Arm(method, 1e-3, 0.25, **more) for method in methods]


def test_methods_of_a_seed_start_alike_and_do_not_touch_each_other():
    together = fl.train(BAG, arms(*fl.METHODS), SEEDS, SHORT)
    first = [together.tv(i)[:, 0] for i in range(len(fl.METHODS))]
    for other in first[1:]:
        torch.testing.assert_close(other, first[0])
    alone = fl.train(BAG, arms("FL-DB"), SEEDS[1:2], SHORT)
    torch.testing.assert_close(together.tv("FL-DB")[1], alone.tv(0)[0], rtol=1e-4, atol=1e-5)
    assert float((together.tv("DB") - together.tv("TB"))[:, -1].abs().min()) > 0


def test_evaluation_outcomes_come_after_updates_and_from_the_policy():
    done = fl.train(SET, arms("FL-DB"), SEEDS, SHORT, watch=True)
    assert done.codes.shape == (3, 4 * 6)
    keys, known = fl.hash_keys(SET.graph), gflow.lattice(SET.graph)
    outcomes = known.states[known.outcomes]
    reward_of = dict(zip((outcomes.long() * keys).sum(-1).tolist(), outcomes @ -done.energy.items[0]))
    for code, reward in zip(done.codes[0].tolist(), done.log_rewards[0].tolist()):
        assert reward == pytest.approx(float(reward_of[code]), abs=1e-5)


def test_a_complete_trajectory_in_k_makes_lengths_uniform_and_cut_ones_lack_their_outcome():
    seen = []

    def remember(*args):
        seen.append(args[4])
        return original(*args)

    original = fl.losses
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fl, "losses", remember)
        fl.train(BAG, arms("FL-DB", complete=0.25), range(20), fl.Budget(10, 10, 16, (8,)), measure=False)
        fl.train(BAG, arms("FL-DB"), SEEDS, fl.Budget(1, 1, 16, (8,)), measure=False)
    lengths = torch.stack([taken.lengths for taken in seen[:10]]).flatten()
    for length in range(1, 5):
        share = float((lengths == length).float().mean())
        assert share == pytest.approx(0.25, abs=4.5 * math.sqrt(0.25 * 0.75 / len(lengths)))
    complete = torch.stack([taken.complete for taken in seen[:10]]).flatten()
    assert torch.equal(complete, lengths == 4)  # a share of one in k, and none that were cut
    assert bool(seen[10].complete.all())


def test_every_pinned_method_learns_the_target_of_a_small_task_and_the_free_one_does_not():
    budget = fl.Budget(200, every=200, hidden=(32, 32))
    methods = ["DB", "TB", "SubTB", "FL-DB", "FL-SubTB", "opposite", "FL-DB-free"]
    done = fl.train(SET, [fl.Arm(method, 1e-2, 0.1) for method in methods], SEEDS, budget)
    for method in methods[:-1]:
        assert bool((done.tv(method)[:, -1] < 0.15).all()), method
        assert bool((done.tv(method)[:, -1] < 0.5 * done.tv(method)[:, 0]).all()), method
    assert float((done.tv("FL-DB-free") - done.tv("FL-DB"))[:, -1].mean()) > 0.1


def test_samples_of_a_trained_set_policy_match_its_exact_inclusion_probabilities():
    done = fl.train(SET, arms("DB", "FL-DB"), SEEDS, SHORT)
    frequencies, log_reward = fl.sample_sets(done, "FL-DB", 4000)
    known = gflow.lattice(SET.graph)
    exact = gflow.sampled_distribution(done.network)[done.rows("FL-DB")] @ known.states[known.outcomes]
    assert float((frequencies - exact).abs().max()) < 4.5 * math.sqrt(0.25 / 4000)
    expected = (exact * -done.energy.items[done.rows("FL-DB")]).sum(-1)
    torch.testing.assert_close(log_reward, expected, rtol=0, atol=0.1)


# --- bad input


def test_tuning_refuses_evidence_seeds_and_values_that_do_not_fit():
    with pytest.raises(ValueError, match="evidence starts at 100"):
        fl.tune("bag", [99, 100])
    with pytest.raises(ValueError, match="cannot be repeated evenly"):
        fl.Task(gflow.sets(6, 3), 4).energy([0])
    with pytest.raises(ValueError, match="additive"):
        fl.inclusion(BAG.energy([0], [0.1]), 3)


@pytest.mark.parametrize("name", fl.TRIALS)
def test_settings_hold_the_best_of_the_trials(name):
    search, settings = fl.SEARCHES[name], fl.FULL if "wide" in name else fl.QUICK
    chosen = {"bag": settings.bag, "prefixes": settings.prefixes, "exact set": settings.exact_set}.get(
        name, settings.large_set if "large" in name else settings.small_set
    )
    cells = [(rate, explore) for rate in search.rates for explore in search.explores]
    assert set(fl.TRIALS[name]) == set(search.methods)  # the method and its baselines had the same trials
    for method, scores in fl.TRIALS[name].items():
        assert len(scores) == len(cells)
        (arm,) = [arm for arm in chosen if arm.method == method]
        assert (arm.learning_rate, arm.explore) == cells[scores.index(min(scores))]
        assert arm.complete == search.complete
