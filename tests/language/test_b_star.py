"""B-STaR: the balance score from a hand table, choices by brute force, conditions that differ in nothing else."""

import itertools
from dataclasses import replace

import pytest
import torch

from reprise.blocks import chain_sums as chains
from reprise.blocks.seeds import RunRNG
from reprise.language import b_star

TINY = replace(
    b_star.QUICK, modulus=5, gold=40, practice=40, choose=6, held=6, test=25, sampled=10, tries=6, best=2, width=16,
    heads=2, mlp=32, first_accuracy=0.4, first_steps=200, rounds=3, looks=(1, 3), asked=15, samples=4, wanted=2,
    steps=5, batch=16,
)  # fmt: skip
SEEDS = (3, 4)


@pytest.fixture(scope="module")
def data():
    return b_star.load(TINY, SEEDS)


@pytest.fixture(scope="module")
def start(data):
    return b_star.first_learner(TINY, data)


@pytest.fixture(scope="module")
def outcome(data, start):
    return b_star.self_teach(TINY, data, start, (*b_star.MAIN, b_star.RANDOM, *b_star.ABLATIONS))


# --- the balance score


def test_balance_score_of_a_hand_table():
    for distinct, selected, expected in ((8, 8, 1), (4, 4, 0.5), (8, 16, 0.5), (0, 5, 0), (0, 0, 0), (16, 16, 1)):
        score = b_star.balance_score(torch.tensor([distinct]), torch.tensor([selected]), 8)
        assert float(score) == expected


def test_balance_score_rises_with_good_samples_and_falls_with_the_rest():
    for selected in range(1, 17):
        good = torch.arange(selected + 1)
        score = b_star.balance_score(good, torch.full_like(good, selected), 8)
        assert (score.diff() > 0).all()
    for good in range(1, 9):
        selected = torch.arange(good, 17)
        score = b_star.balance_score(torch.full_like(selected, good), selected, 8)
        assert (score.diff() < 0).all()


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="no more distinct correct samples than selected"):
        b_star.balance_score(torch.tensor([3]), torch.tensor([2]), 4)


@pytest.mark.parametrize("target", [1, 20, 1000])
def test_scores_of_samples_equal_loops_over_queries(target):
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(5, (2, 12, 6), generator=generator)
    answer = codes % 2 == 0  # equal solutions have equal answers
    reward = torch.rand((2, 12, 6), generator=generator) + 0.4 * answer
    found = b_star.Samples(torch.zeros(2, 12, 6, 1, dtype=torch.long), codes, reward, answer, answer)
    thresholds = torch.tensor([0.2, 2.5])  # nothing passes the second
    ours = b_star.scores(found, thresholds, 3, target)
    lists = []
    for own, r in zip(codes[0].tolist(), reward[0].tolist()):
        best = {c: max(r[i] for i in range(6) if own[i] == c) for c in own}
        lists.append([c for c in sorted(best, key=best.get, reverse=True) if best[c] > 0.2])
    most = next((m for m in range(1, 7) if sum(len(own[:m]) for own in lists) >= target), 6)
    good = [(sum(c % 2 == 0 for c in own[:most]), len(own[:most])) for own in lists]
    expected = sum(min(c / 3, 1) * c / max(n, 1) for c, n in good) / 12
    assert ours.tolist() == pytest.approx([expected, 0.0])
    quantity = b_star.scores(found, thresholds, 3, target, "quantity")
    assert float(quantity[0]) == pytest.approx(sum(min(c / 3, 1) for c, _ in good) / 12)


def test_a_score_that_sees_steps_does_not_count_lucky_solutions(data, start):
    found = b_star.explore(TINY, start.model, data.practice, 16, 1.0, RunRNG(SEEDS, "try"))
    cleaned = replace(found, answer=found.reward > 0.5)
    level = torch.tensor([0.0, -1.0])
    approved = b_star.scores(found, level, 2, score="approved")
    assert torch.equal(approved, b_star.scores(cleaned, level, 2))
    assert (approved < b_star.scores(found, level, 2)).all()


def test_ties_go_to_the_strict_and_the_cool():
    table = torch.zeros(1, 3, 4)
    table[0, 1, 1:3] = table[0, 2, 1] = 1.0
    hot, strict = b_star.choose(table)
    assert (hot.item(), strict.item()) == (1, 2)


# --- rounds


def test_the_first_runs_of_a_stack_do_not_depend_on_the_others(data, start, outcome):
    alone = b_star.self_teach(TINY, data, start, (b_star.B_STAR,))
    torch.testing.assert_close(alone.temperature[:, 0], outcome.temperature[:, 0])
    torch.testing.assert_close(alone.held[:, 0], outcome.held[:, 0], atol=1e-5, rtol=0)
    single = b_star.load(TINY, SEEDS[1:])
    assert torch.equal(single.test[0], data.test[1])
    assert torch.equal(single.solutions[0], data.solutions[1])


def test_queries_of_a_seed_are_in_one_set_only_and_gold_solutions_are_valid(data):
    for seed in range(2):
        parts = (data.gold, data.practice, data.choose, data.held, data.test)
        rows = [tuple(q) for part in parts for q in part[seed].tolist()]
        assert len(rows) == len(set(rows)) == 117
    assert TINY.task.check(data.gold, data.solutions).valid.all()


def test_the_configuration_chosen_is_the_best_of_its_table(outcome):
    heats, taus = TINY.temperatures, TINY.thresholds
    full = outcome.conditions.index(b_star.B_STAR)
    for turn, seed in itertools.product(range(TINY.rounds), range(2)):
        table = outcome.tables[turn, full, seed]
        place = (
            heats.index(float(outcome.temperature[turn, full, seed])),
            taus.index(float(outcome.threshold[turn, full, seed])),
        )
        assert table[place] == table.max()
        assert (table[: place[0]] < table.max()).all()
    by_name = {c.name: i for i, c in enumerate(outcome.conditions)}
    assert (outcome.temperature[:, by_name["adaptive τ only"]] == 1).all()
    assert (outcome.threshold[:, by_name["adaptive T only"]] == 0).all()
    for condition in (b_star.COLD, b_star.WARM, b_star.HOT):
        i = outcome.conditions.index(condition)
        assert (outcome.temperature[:, i] == condition.temperature).all()
        assert outcome.tables[:, i].isnan().all()


def test_held_out_scores_of_the_first_configuration_are_those_of_that_configuration(data, start):
    queries, seeds = data.held, list(SEEDS)
    first = torch.tensor([0.5, 1.0]), torch.tensor([0.0, 0.0])
    now = torch.tensor([1.5, 1.0]), torch.tensor([0.0, 0.0])  # the second run has not moved
    both = b_star.check_balance(TINY, start.model, queries, seeds, 3, [first, now])
    alone = b_star.check_balance(TINY, start.model, queries, seeds, 3, [first])
    torch.testing.assert_close(both[1], alone[0], atol=1e-6, rtol=0)
    assert both[0][1] == both[1][1]
    assert both[0][0] != both[1][0]


def test_conditions_start_alike_and_make_as_many_updates(start, outcome):
    for values in outcome.measures.values():
        torch.testing.assert_close(values[0], values[0, :1].expand_as(values[0]), rtol=0, atol=1e-6, equal_nan=True)
    updates = outcome.learner.optimizer.steps.flatten().unflatten(0, (-1, 2))
    for i, (condition, own) in enumerate(zip(outcome.conditions, updates)):
        learned = outcome.kept[:, i] > 0  # a round in which nothing is selected teaches nothing
        rounds = learned[-1] if condition.restarts else learned.sum(0)  # a restart puts the count back, too
        assert (own == start.optimizer.steps.flatten() + rounds * TINY.steps).all()


def test_fixed_conditions_may_keep_samples_that_adaptive_ones_have_spent_on_choosing(data, start):
    assert TINY.extra * TINY.asked == TINY.choose * TINY.samples * len(TINY.temperatures)
    # a threshold that everything passes and no target: kept are all that differ, so the two may differ in number only
    generous = replace(TINY, rounds=1, thresholds=(-2.0,), temperatures=(1.5,), target=100)
    same = b_star.Condition("same", 1.5, -2.0)
    found = b_star.self_teach(generous, data, start, (b_star.B_STAR, same))
    assert (found.kept[0, 0] <= generous.asked * generous.samples).all()
    assert (found.kept[0, 0] > 0.9 * generous.asked * generous.samples).all()
    assert (found.kept[0, 1] > found.kept[0, 0]).all()
    paying = replace(same, pays=True)
    assert torch.equal(b_star.self_teach(generous, data, start, (paying,)).kept[0, 0], found.kept[0, 0])


def test_a_run_without_steps_stays_where_it_was(data, start):
    still = b_star.self_teach(replace(TINY, steps=0, rounds=1), data, start, (b_star.WARM,))
    assert torch.equal(still.learner.model.params.flat, start.model.params.flat)


def test_the_pool_holds_the_selected_solutions_of_their_own_queries(data, start):
    found = b_star.explore(TINY, start.model, data.practice, 4, 1.0, RunRNG(SEEDS, "try"))
    kept = chains.select(found.codes, found.reward, torch.tensor([0.5, 0.0]))
    queries, solutions, sizes = b_star.pool(data.practice, found, kept)
    for run in range(2):
        size = int(sizes[run])
        assert size == int(kept[run].sum())
        got = {(*q, *y) for q, y in zip(queries[run, :size].tolist(), solutions[run, :size].tolist())}
        places = kept[run].nonzero()
        assert got == {(*data.practice[run, i].tolist(), *found.tokens[run, i, j].tolist()) for i, j in places}
        assert TINY.task.check(queries[run, :size], solutions[run, :size]).answer.all()


def test_who_has_selected_nothing_learns_nothing(data, start):
    greedy = b_star.Condition("asks for too much", 1.0, 5.0)
    outcome = b_star.self_teach(replace(TINY, rounds=1), data, start, (b_star.WARM, greedy))
    unchanged = (outcome.learner.model.params.flat[2:] == start.model.params.flat).all(1)
    assert unchanged.all()
    assert (outcome.learner.model.params.flat[:2] != start.model.params.flat).any()
    assert (outcome.kept[0, 1] == 0).all()


def test_the_first_reasoners_stop_at_the_accuracy_asked_for(data, start):
    reached = b_star.greedy_accuracy(TINY, start.model, data.practice)
    steps = start.optimizer.steps.flatten()
    assert ((reached >= TINY.first_accuracy) | (steps == TINY.first_steps)).all()
    shorter = b_star.first_learner(replace(TINY, first_steps=int(steps[0]) - 10), data)
    assert b_star.greedy_accuracy(TINY, shorter.model, data.practice)[0] < TINY.first_accuracy


def test_rewards_above_one_half_tell_right_from_lucky(data, start):
    found = b_star.explore(TINY, start.model, data.practice, 16, 1.0, RunRNG(SEEDS, "try"))
    lucky = found.answer & ~found.valid
    assert lucky.float().mean() > 0.02
    assert (found.reward[found.valid] > 1).float().mean() > 0.95
    assert (found.reward[lucky] < 1).float().mean() > 0.95
    assert (found.reward[~found.answer] < 1).all()


# --- measures and effects


def test_measures_are_what_counting_gives(data, start):
    unseen = torch.ones(2, TINY.test, dtype=torch.bool)
    got = b_star.measure(TINY, start.model, data.test, unseen, RunRNG(SEEDS, "test"))
    greedy = chains.attempts(TINY.task, start.model, data.test, 1, None, RunRNG(SEEDS))[:, :, 0]
    right = greedy[..., -1] == data.test.sum(-1) % TINY.modulus
    torch.testing.assert_close(got["accuracy"], right.float().mean(1))
    torch.testing.assert_close(got["unseen"], got["accuracy"])
    assert (got["valid"] <= got["accuracy"]).all()
    assert (got["right"] <= got["correct"]).all()
    assert (got["correct"] <= got["pass"]).all()
    assert (got["best"] >= got["right"]).all()


def _outcome(measures, conditions=(b_star.B_STAR,), looks=(0, 1, 2, 3, 4)):
    nothing = torch.zeros(4, len(conditions), 1)
    return b_star.Outcome(
        conditions, looks, measures, nothing, nothing, nothing, nothing, nothing.view(4, len(conditions), 1, 1, 1),
        nothing, nothing, None,
    )  # fmt: skip


def test_decay_is_measured_from_the_peak_over_rounds_not_from_the_start():
    values = torch.tensor([0.9, 0.5, 0.8, 0.7, 0.6]).view(5, 1, 1)
    made = _outcome({"per_correct": values})
    assert b_star.fall_from_peak(made, "per_correct", [b_star.B_STAR]).tolist() == pytest.approx([1 - 0.6 / 0.8])


def test_selection_gain_is_a_share_of_what_is_left_to_gain():
    best, mean = torch.tensor([0.5, 0.6, 0.7, 0.8, 0.9]), torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8])
    made = _outcome({"best": best.view(5, 1, 1), "right": mean.view(5, 1, 1)})
    gains = [(0.6 - 0.2) / 0.8, (0.7 - 0.4) / 0.6, (0.8 - 0.6) / 0.4, (0.9 - 0.8) / 0.2]
    got = b_star.fall_of_selection(made, b_star.B_STAR)
    assert got.tolist() == pytest.approx([1 - sum(gains[2:]) / sum(gains[:2])], abs=1e-6)


def test_settings_follow_the_card():
    for s in (b_star.QUICK, b_star.FULL):
        assert (s.tries, s.best) == (16, 4)
        assert [c.temperature for c in b_star.MAIN[1:]] == [0.5, 1.0, 1.5]
        assert all(c.threshold == 0 for c in b_star.MAIN[1:])
        assert s.looks[-1] == s.rounds
        assert {1, 2, s.rounds - 1, s.rounds} <= set(s.looks)
        assert s.extra * s.asked == s.choose * s.samples * len(s.temperatures)


def test_choices_are_the_best_trials():
    common = {name: sum(row.values()) for name, row in b_star.TRIALS.items() if name.startswith("target")}
    assert max(common, key=common.get) == f"target {b_star.QUICK.target}"
    fixed = {name: row["fixed"] for name, row in b_star.TRIALS.items() if name.startswith("T")}
    assert max(fixed, key=fixed.get) == f"T = {b_star.TUNED.temperature:g}"
    wishes = {name: row["B-STaR"] for name, row in b_star.TRIALS.items() if name.startswith("n*")}
    assert max(wishes, key=wishes.get) == f"n* = {b_star.QUICK.wanted}"
    assert len(fixed) == len(wishes)


def test_tuning_stays_away_from_evidence_seeds():
    for search in (b_star.tune, b_star.try_ideas):
        with pytest.raises(ValueError, match="evidence starts at 100"):
            search(TINY, [99, 100])
