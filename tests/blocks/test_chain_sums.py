"""Chain sums: what the verifier accepts is known by enumeration, what samplers and counters return by brute force."""

import itertools
import math
from collections import Counter

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from reprise.blocks import chain_sums as chains
from reprise.blocks.chain_sums import ChainSums
from reprise.blocks.seeds import RunRNG
from reprise.blocks.transformer import Cache, Shape, StackedTransformer

TASK = ChainSums(modulus=10, operands=3)


def _model(task, runs=2, layers=2):
    shape = Shape(
        width=16, heads=2, layers=layers, mlp=24, norm="rms", positions="learned", vocabulary=task.vocabulary,
        context=task.prompt_length + task.solution_length, embedding_std=0.7,
    )  # fmt: skip
    return StackedTransformer(list(range(runs)), shape)


def _all_solutions(task):
    """Every query with every order: queries (q, orders, operands) and solutions."""
    queries, orders = task.queries(), task.orders()
    queries = queries.unsqueeze(1).expand(-1, len(orders), -1)
    return queries, task.solve(queries, orders.expand(len(queries), -1, -1))


# --- the task


@pytest.mark.parametrize("task", [TASK, ChainSums(7, 4), ChainSums(10, 3, most_operands=5)])
def test_every_order_of_every_query_is_accepted(task):
    queries, solutions = _all_solutions(task)
    check = task.check(queries, solutions)
    assert check.valid.all()
    assert check.answer.all()
    assert torch.equal(solutions[..., -1], (queries.sum(-1)) % task.modulus)
    assert all(len(set(row.tolist())) == math.factorial(task.operands) for row in task.code(solutions))


def test_every_change_of_one_token_is_a_wrong_step_and_only_the_last_sum_changes_the_answer():
    queries, solutions = _all_solutions(TASK)
    for place, shift in itertools.product(range(6), range(1, TASK.vocabulary)):
        changed = solutions.clone()
        changed[..., place] = (changed[..., place] + shift) % TASK.vocabulary
        check = TASK.check(queries, changed)
        # picking another operand of equal value still repeats a name later, so it is wrong there
        assert not check.valid.any()
        assert bool(check.answer.all()) == (place < 5)
        assert bool(check.answer.any()) == (place < 5)


def test_a_valid_chain_always_has_the_right_answer():
    generator = torch.Generator().manual_seed(0)
    small = ChainSums(3, 2)
    queries = small.queries().unsqueeze(1)
    everything = torch.cartesian_prod(*[torch.arange(small.vocabulary)] * 4).expand(9, -1, -1)
    check = small.check(queries.expand(-1, everything.shape[1], -1), everything)
    assert check.valid.sum(1).tolist() == [2] * 9  # out of 6**4: the two orders, nothing else
    assert check.answer[check.valid].all()
    chance = small.check(queries[:1].expand(5000, 1, -1), torch.randint(3, (5000, 1, 4), generator=generator)).answer
    assert chance.float().mean() == pytest.approx(1 / 3, abs=0.03)  # a uniform last sum is right with 1 / modulus


def test_one_slip_makes_one_wrong_step():
    query = torch.tensor([3, 8, 5])
    slipped = TASK.read("b 8 a 2 c 7")  # 8 + 3 is not 2; the rest follows from what is written
    check = TASK.check(query, slipped)
    assert check.steps.tolist() == [True, False, True]
    assert not check.answer
    lucky = TASK.check(query, TASK.read("b 8 a 2 c 6"))
    assert lucky.answer
    assert lucky.steps.tolist() == [True, False, False]
    assert TASK.check(query, TASK.read("b 8 b 6 c 1")).steps.tolist() == [True, False, True]  # used twice


def test_text_and_tokens_are_two_ways_to_write_the_same():
    queries, solutions = _all_solutions(TASK)
    row = torch.cat([TASK.prompts(queries[385, 3]), solutions[385, 3]])
    assert TASK.write(row) == "3 8 5 = b 8 c 3 a 6"
    assert torch.equal(TASK.read(TASK.write(row)), row)
    wider = ChainSums(10, 3, most_operands=5)  # "=" is another token there
    assert wider.write(wider.prompts(queries[385, 3])) == "3 8 5 ="
    with pytest.raises(ValueError, match="'ten' is no token"):
        TASK.read("3 ten")


def test_drawn_queries_are_all_different_and_a_runs_own():
    drawn = TASK.draw(RunRNG([1, 2], "data"), 1000)
    assert torch.equal(drawn[0].sort(0).values, drawn[1].sort(0).values)
    assert not torch.equal(drawn[0], drawn[1])
    assert {tuple(q) for q in drawn[0].tolist()} == set(itertools.product(range(10), repeat=3))
    assert torch.equal(TASK.draw(RunRNG([2], "data"), 30)[0], drawn[1, :30])


def test_impossible_tasks_and_malformed_solutions_are_refused():
    with pytest.raises(ValueError, match="no more than most_operands"):
        ChainSums(10, 5, most_operands=4)
    with pytest.raises(ValueError, match="there are 1000 queries"):
        TASK.draw(RunRNG([0]), 1001)
    with pytest.raises(ValueError, match="solutions 6 tokens"):
        TASK.check(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 5, dtype=torch.long))


# --- solvers


def test_samples_have_the_frequencies_of_the_softmax_at_each_runs_temperature():
    model = _model(TASK)
    query, heats = torch.tensor([3, 8, 5]).expand(2, 1, 3), torch.tensor([1.0, 0.6])
    drawn = chains.attempts(TASK, model, query, 20000, heats, RunRNG([0, 1], "draw"))
    logits = model(TASK.prompts(query))[:, 0, -1]
    for run in range(2):
        expected = (logits[run] / heats[run]).softmax(-1).detach().double()
        counts = torch.bincount(drawn[run, 0, :, 0], minlength=TASK.vocabulary)
        assert stats.chisquare(counts, (expected / expected.sum() * 20000).numpy()).pvalue > 1e-3


def test_the_first_two_tokens_have_the_joint_probability_of_a_full_forward_pass():
    model, heat = _model(TASK, runs=1), 1.3
    query = torch.tensor([[[1, 0, 9]]])
    drawn = chains.attempts(TASK, model, query, 40000, heat, RunRNG([0], "draw"))[0, 0, :, :2]
    counts = Counter(map(tuple, drawn.tolist()))
    logits = model(TASK.prompts(query))[0, 0, -1].detach() / heat
    for (a, b), count in counts.most_common(5):
        follow = model(torch.cat([TASK.prompts(query), torch.tensor([[[a]]])], -1))[0, 0, -1].detach() / heat
        p = float(logits.softmax(-1)[a] * follow.softmax(-1)[b])
        assert count / 40000 == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 40000))


def test_cold_samples_are_greedy_and_the_model_is_left_alone():
    model = _model(TASK)
    before = model.params.flat.clone()
    queries = TASK.draw(RunRNG([0, 1]), 20)
    greedy = chains.attempts(TASK, model, queries, 1, None, RunRNG([0, 1]))
    cold = chains.attempts(TASK, model, queries, 3, 1e-4, RunRNG([0, 1]))
    assert torch.equal(cold, greedy.expand(-1, -1, 3, -1))
    assert torch.equal(model.params.flat, before)
    with pytest.raises(ValueError, match="greedy"):
        chains.tempered(model, torch.tensor([1.0, 0.0]))


def test_cached_logits_are_those_of_a_full_forward_pass():
    model = _model(TASK)
    tokens = torch.randint(TASK.vocabulary, (2, 5, 10), generator=torch.Generator().manual_seed(0))
    cache, full = Cache(), model(tokens)
    pieces = [model(tokens[..., :4], cache=cache), *(model(tokens[..., i : i + 1], cache=cache) for i in range(4, 10))]
    torch.testing.assert_close(torch.cat(pieces, 2), full, atol=1e-5, rtol=0)


def test_the_loss_is_the_log_likelihood_of_solutions_alone():
    model = _model(TASK)
    queries, solutions = (x[200:204, 2].expand(2, -1, -1) for x in _all_solutions(TASK))
    loss = chains.solution_loss(TASK, model, queries, solutions)
    tokens = torch.cat([TASK.prompts(queries), solutions], -1)
    by_hand = 0.0
    for row in tokens[1]:
        for place in range(4, 10):
            logits = model(row[:place].expand(2, 1, -1))[1, 0, -1]
            by_hand -= F.log_softmax(logits, -1)[row[place]] / 24
    torch.testing.assert_close(loss[1], by_hand)


# --- rewards and selection


def test_the_process_reward_errs_as_often_as_its_gain_says():
    noise = RunRNG([0], "noise").normal(200_000, 1)
    for gain in (0.5, 1.0, 3.0):
        scores = chains.noisy_scores(torch.ones(1, 200_000, 1, dtype=torch.bool), noise, gain)
        assert (scores < 0.5).float().mean() == pytest.approx(stats.norm.sf(gain), abs=2e-3)
    blind = [chains.noisy_scores(torch.full((1, 5, 1), truth), noise[:, :5], 0.0) for truth in (True, False)]
    assert torch.equal(*blind)


def test_rewards_look_at_the_worst_step():
    answer, scores = torch.tensor([True, True, False]), torch.tensor([[1.0, 1.0], [0.9, 0.2], [1.0, 0.0]])
    torch.testing.assert_close(chains.rewards(answer, scores), torch.tensor([2.0, 0.4, -1.0]))


def _selected_by_loops(codes, reward, threshold, target):
    """One run, in plain Python."""
    lists = []
    for own, r in zip(codes.tolist(), reward.tolist()):
        chosen, seen = [], set()
        for place in sorted(range(len(own)), key=lambda i: -r[i]):
            if r[place] > threshold and own[place] not in seen:
                seen.add(own[place])
                chosen.append(place)
        lists.append(chosen)
    for m in range(1, codes.shape[1] + 1):
        if sum(len(chosen[:m]) for chosen in lists) >= target:
            break
    return [sorted(chosen[:m]) for chosen in lists]


@pytest.mark.parametrize("target", [1, 30, 55, 70, 1000, math.inf])
def test_selection_equals_loops_over_queries(target):
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(5, (2, 40, 7), generator=generator)
    reward = torch.rand((2, 40, 7), generator=generator) * 3 - 1
    kept = chains.select(codes, reward, torch.tensor([0.3, -0.2]), target)
    for run, threshold in enumerate((0.3, -0.2)):
        expected = _selected_by_loops(codes[run], reward[run], threshold, target)
        assert [row.nonzero().flatten().tolist() for row in kept[run]] == expected


def test_no_threshold_and_no_target_keep_everything_that_differs():
    codes = torch.randint(5, (2, 40, 7), generator=torch.Generator().manual_seed(1))
    kept = chains.select(codes, torch.zeros(2, 40, 7), torch.full((2,), -torch.inf))
    assert all(
        sorted(row[keep].tolist()) == sorted(set(row.tolist()))
        for row, keep in zip(codes.flatten(0, 1), kept.flatten(0, 1))
    )


# --- measures


def test_pass_at_k_is_the_average_over_all_subsets():
    for n, k in ((6, 1), (6, 3), (7, 7)):
        for c in range(n + 1):
            marks = [i < c for i in range(n)]
            subsets = list(itertools.combinations(marks, k))
            brute = sum(any(subset) for subset in subsets) / len(subsets)
            assert float(chains.pass_at_k(torch.tensor(c), n, k)) == pytest.approx(brute, abs=1e-6)
    with pytest.raises(ValueError, match="k 5 of 4"):
        chains.pass_at_k(torch.tensor(1), 4, 5)


def test_distinct_samples_and_pairs_are_counted_as_sets_and_loops_would():
    generator = torch.Generator().manual_seed(3)
    codes = torch.randint(4, (2, 30, 6), generator=generator)
    among = torch.rand((2, 30, 6), generator=generator) < 0.6
    counts, shares = chains.distinct_count(codes, among), chains.pairs_that_differ(codes, among)
    for run in range(2):
        differ = pairs = 0
        for query in range(30):
            own = [int(c) for c, keep in zip(codes[run, query], among[run, query]) if keep]
            assert counts[run, query] == len(set(own))
            pairs += len(own) * (len(own) - 1) / 2
            differ += sum(a != b for a, b in itertools.combinations(own, 2))
        assert float(shares[run]) == pytest.approx(differ / pairs)


def test_diversity_per_sample_falls_with_more_samples_where_diversity_of_pairs_does_not():
    codes = torch.randint(6, (1, 4000, 16), generator=torch.Generator().manual_seed(0))  # six equally likely solutions
    few = torch.arange(16).expand(1, 4000, -1) < 4
    share = [float(chains.distinct_count(codes, m).sum() / m.sum()) for m in (few, torch.ones_like(few))]
    assert share[0] == pytest.approx(6 * (1 - (5 / 6) ** 4) / 4, abs=0.01)
    assert share[1] == pytest.approx(6 * (1 - (5 / 6) ** 16) / 16, abs=0.01)
    for marked in (few, torch.ones_like(few)):
        assert float(chains.pairs_that_differ(codes, marked)) == pytest.approx(5 / 6, abs=0.01)


def test_correct_of_best_looks_at_the_best_rewarded_only():
    right = torch.tensor([[True, False, True, False]])
    assert float(chains.correct_of_best(right, torch.tensor([[0.1, 0.9, 0.8, 0.2]]), 2)) == 0.5
    assert float(chains.correct_of_best(right, torch.tensor([[0.7, 0.1, 0.8, 0.2]]), 2)) == 1.0


def test_unseen_queries_share_their_digits_with_none_in_any_order():
    seen, asked = torch.tensor([[1, 2, 3], [4, 4, 0]]), torch.tensor([[3, 1, 2], [4, 0, 0], [0, 4, 4], [9, 9, 9]])
    assert chains.never_seen(seen, asked).tolist() == [False, True, False, True]
