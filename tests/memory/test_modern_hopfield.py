"""Modern Hopfield networks against the paper's theorems, torch's attention and brute force."""

import math

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook
from torch import nn

with install_import_hook("reprise", "beartype.beartype"):
    from reprise.blocks.data import mnist_5k
    from reprise.blocks.seeds import RunRNG, build, generators
    from reprise.blocks.tables import Table
    from reprise.memory import modern_hopfield as hopfield


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generators([seed], "test")[0], dtype=torch.float64)


# --- the memory ---


def test_update_never_raises_the_energy():  # Theorem 1
    stored, state = normal(12, 7), 2 * normal(1000, 7, seed=1)
    for beta in (0.1, 1.0, 8.0):
        before = hopfield.energy(state, stored, beta)
        after = hopfield.energy(hopfield.retrieve(state, stored, beta), stored, beta)
        assert (after <= before + 1e-12).all()


def test_energy_lies_between_zero_and_twice_the_squared_norm_inside_the_hull():  # Lemma A1
    stored = normal(9, 5)
    inside = torch.softmax(3 * normal(500, 9, seed=2), -1) @ stored
    values = hopfield.energy(inside, stored, 0.7)
    assert values.min() >= 0
    assert values.max() <= 2 * stored.norm(dim=-1).max() ** 2


def test_gradient_of_the_energy_is_the_state_minus_its_update():
    stored, state = normal(6, 4), normal(20, 4, seed=3).requires_grad_()
    (gradient,) = torch.autograd.grad(hopfield.energy(state, stored, 1.7).sum(), state)
    assert torch.allclose(gradient, state - hopfield.retrieve(state, stored, 1.7), atol=1e-12)


def test_update_is_softmax_attention():
    stored, state = normal(3, 11, 8), normal(3, 5, 8, seed=1)
    theirs = nn.functional.scaled_dot_product_attention(state, stored, stored, scale=0.6)
    assert torch.allclose(hopfield.retrieve(state, stored, 0.6), theirs, atol=1e-12)
    assert all(hopfield.attention_gap(seed, shapes=20) < 1e-12 for seed in range(3))


def test_small_beta_averages_all_patterns_and_large_beta_recalls_the_best_match():
    stored, state = normal(8, 6), normal(50, 6, seed=4)
    mean = hopfield.retrieve(state, stored, 1e-9)
    assert torch.allclose(mean, stored.mean(0).expand(50, -1), atol=1e-6)
    assert torch.allclose(hopfield.retrieve(state, stored, 1e6), stored[(state @ stored.T).argmax(-1)])
    assert torch.allclose(hopfield.effective_number(state, stored, 1e-9), torch.tensor(8.0).double())
    assert torch.allclose(hopfield.effective_number(state, stored, 1e6), torch.tensor(1.0).double())


def test_hidden_patterns_are_as_good_as_not_stored():
    stored, state = normal(8, 6), normal(5, 6, seed=4)
    hidden = torch.tensor([0, 1, 0, 0, 1, 0, 0, 1]).bool()
    seen = hopfield.retrieve(state, stored, 1.0, steps=3, hidden=hidden)
    assert torch.allclose(seen, hopfield.retrieve(state, stored[~hidden], 1.0, steps=3), atol=1e-12)


def test_jacobian_is_that_of_the_paper_and_contracts_near_a_separated_pattern():
    stored = 4 * nn.functional.normalize(normal(5, 10), dim=-1)
    state = stored[2] + 0.1 * normal(10, seed=5)
    jacobian = torch.autograd.functional.jacobian(lambda s: hopfield.retrieve(s[None], stored, 1.5)[0], state)
    p = hopfield.association(state[None], stored, 1.5)[0]
    assert torch.allclose(jacobian, 1.5 * stored.T @ (p.diag() - p.outer(p)) @ stored, atol=1e-12)
    assert torch.linalg.matrix_norm(jacobian, 2) < 1


def test_separation_equals_brute_force():
    stored = normal(2, 7, 5)
    for run in range(2):
        for i in range(7):
            others = [float(stored[run, i] @ stored[run, j]) for j in range(7) if j != i]
            wanted = float(stored[run, i] @ stored[run, i]) - max(others)
            assert hopfield.separation(stored)[run, i].item() == pytest.approx(wanted)


def test_rejects_states_of_another_width_and_a_beta_that_is_not_positive():
    with pytest.raises(ValueError, match="width 3.*width 4"):
        hopfield.retrieve(torch.zeros(1, 3), torch.zeros(2, 4), 1.0)
    with pytest.raises(ValueError, match="positive; got -1"):
        hopfield.retrieve(torch.zeros(1, 3), torch.zeros(2, 3), -1.0)


# --- the theory ---


def test_storage_theorem_gives_the_published_constants():
    assert hopfield.storage_base(beta=1.0, scale=3.0, d=20, failure=0.001) == pytest.approx(3.1546, abs=5e-5)
    assert hopfield.storage_base(beta=1.0, scale=1.0, d=75, failure=0.001) == pytest.approx(1.3718, abs=1e-4)


def test_one_update_error_obeys_the_retrieval_bound():  # Theorem 4
    n, beta = 32, 0.5
    stored = hopfield.on_sphere(RunRNG(range(3), "t"), n, 20, 3 * math.sqrt(19)).double()
    largest = stored.norm(dim=-1).max()
    fixed = hopfield.retrieve(stored, stored, beta, steps=100)
    query = stored + 0.02 * normal(3, n, 20)
    error = (hopfield.retrieve(query, stored, beta) - fixed).norm(dim=-1)
    distance = torch.maximum((query - stored).norm(dim=-1), (fixed - stored).norm(dim=-1))
    exponent = hopfield.separation(stored) - 2 * distance * largest
    assert (error <= 2 * (n - 1) * (-beta * exponent).exp() * largest).all()


def test_summed_errors_equal_the_plain_difference_where_that_does_not_cancel():
    stored = hopfield.on_sphere(RunRNG([4, 5], "t"), 30, 8, 2.0).double()
    plain = (hopfield.retrieve(stored, stored, 0.5) - stored).norm(dim=-1)
    assert torch.allclose(hopfield.one_update_errors(stored, 0.5), plain, rtol=1e-9)


def test_census_states_are_fixed_points_after_500_updates():
    stored = hopfield.clustered_patterns([0, 1]).double()
    assert stored.norm(dim=-1).sub(math.sqrt(24)).abs().max() < 1e-5
    for beta in (0.03, 0.3, 3.0):
        state = hopfield.retrieve(stored, stored, beta, steps=500)
        assert (hopfield.retrieve(state, stored, beta) - state).norm(dim=-1).max() < 1e-8


def test_patterns_of_one_cluster_are_closer_than_those_of_two():
    stored = hopfield.clustered_patterns([0, 1, 2])
    products = (stored @ stored.mT).unflatten(1, (5, 6)).unflatten(3, (5, 6)) / 24
    same = products.diagonal(dim1=1, dim2=3).mean()
    assert 0.7 < same < 0.9  # 1 / (1 + noise²) = 0.8, and the pattern with itself
    assert products.mean() < 0.4


def test_classical_recall_equals_the_weight_matrix_without_diagonal():
    stored, state = normal(5, 40).sign(), normal(9, 40, seed=1).sign()
    weights = stored.T @ stored
    weights.fill_diagonal_(0)
    assert torch.equal(hopfield.recall_signs(state, stored, steps=1), (state @ weights).sign())


def test_classical_network_holds_its_known_capacity_and_no_more():
    def wrong_bits(load):
        stored = normal(int(load * 500), 500, seed=7).sign()
        return (hopfield.recall_signs(stored, stored, steps=30) != stored).double().mean()

    assert wrong_bits(0.12) < 0.02  # below 0.138 patterns per unit: at most 1.6 % of the bits are wrong
    assert wrong_bits(0.20) > 0.1


def test_queries_are_never_the_stored_pattern_and_success_falls_with_load():
    few, many = (hopfield.modern_success(range(3), 8, n, 1.0, 1.0, 0.1, 200) for n in (2, 2000))
    assert (few > 0.9).all()
    assert (many < 0.5).all()
    assert (hopfield.modern_success(range(3), 8, 1, 1.0, 1.0, 0.1, 50) == 1).all()  # one pattern is always right


def test_success_of_a_seed_does_not_depend_on_the_stack():
    alone = hopfield.modern_success([5], 8, 16, 1.0, 1.0, 0.1, 200)
    assert hopfield.modern_success([4, 5, 6], 8, 16, 1.0, 1.0, 0.1, 200)[1] == alone[0]


def test_largest_load_takes_the_largest_that_succeeds_and_at_least_one():
    share = {1: [0.99, 0.5], 2: [0.95, 0.5], 3: [0.90, 0.5], 4: [0.96, 0.5]}
    assert hopfield.largest_load(lambda n: torch.tensor(share[n]), [1, 2, 3, 4]).tolist() == [4, 1]
    assert hopfield.powers_of_root_two(16) == [1, 2, 3, 4, 6, 8, 11, 16]


def test_slope_equals_polyfit():
    x, y = normal(3, 9), normal(3, 9, seed=1)
    wanted = [np.polyfit(x[run].numpy(), y[run].numpy(), 1)[0] for run in range(3)]
    assert np.allclose(hopfield.slope(x, y).numpy(), wanted)
    assert hopfield.slope(x[0], y)[0].item() == pytest.approx(wanted[0])  # one x for all runs


# --- layers ---


def pooled(pooling, x, absent=None, seeds=(0, 1)):
    params = build(pooling.layers(x.shape[-1]), list(seeds))
    return pooling(params, x, absent), params


def test_pooling_with_one_update_is_multihead_attention_with_a_trained_query():
    x = normal(2, 4, 10, 32).float()
    found, params = pooled(hopfield.HopfieldPooling(heads=4), x)
    for run in range(2):
        own, theirs = params.run(run), nn.MultiheadAttention(32, 4, batch_first=True)
        with torch.no_grad():
            for name, weight, bias in (
                ("query", torch.eye(32), torch.zeros(32)),
                ("key", own["key.weight"].T, own["key.bias"][0]),
                ("value", own["key.weight"].T, own["key.bias"][0]),
            ):
                part = slice(*{"query": (0, 32), "key": (32, 64), "value": (64, 96)}[name])
                theirs.in_proj_weight[part], theirs.in_proj_bias[part] = weight, bias
            theirs.out_proj.weight.copy_(own["out.weight"].T.expand(32, 32))
            theirs.out_proj.bias.copy_(own["out.bias"][0].expand(32))
            stored = nn.functional.layer_norm(x[run], (32,))
            wanted = theirs(own["state"].expand(4, 1, 32), stored, stored)[0][:, 0, 0]
        assert torch.allclose(found[run], wanted, atol=1e-5)


def test_three_updates_are_three_retrievals_from_the_keys_of_each_head():
    x = normal(1, 4, 10, 32).float()
    found, params = pooled(hopfield.HopfieldPooling(heads=4, steps=3), x, seeds=[3])
    own = params.run(0)
    keys = nn.functional.layer_norm(x[0], (32,)) @ own["key.weight"] + own["key.bias"]
    heads = [
        hopfield.retrieve(own["state"][:, part].expand(4, 1, 8), keys[..., part], 1 / math.sqrt(8), steps=3)[:, 0]
        for part in (slice(8 * head, 8 * head + 8) for head in range(4))
    ]
    wanted = torch.cat(heads, -1) @ own["out.weight"] + own["out.bias"]
    assert torch.allclose(found[0], wanted[:, 0], atol=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_pooling_ignores_the_order_and_absent_instances(steps):
    x, pooling = normal(2, 3, 10, 32).float(), hopfield.HopfieldPooling(steps=steps)
    whole, _ = pooled(pooling, x)
    assert torch.allclose(pooled(pooling, x.flip(2))[0], whole, atol=1e-5)
    absent = (torch.arange(10) >= 6).expand(2, 3, 10)
    assert torch.allclose(pooled(pooling, x, absent)[0], pooled(pooling, x[:, :, :6])[0], atol=1e-5)


def test_states_are_served_alike_in_any_order():
    stored, state = normal(9, 4), normal(6, 4, seed=1)
    assert torch.allclose(hopfield.retrieve(state.flip(0), stored, 1.0), hopfield.retrieve(state, stored, 1.0).flip(0))


def test_all_poolings_have_the_parameters_of_hopfield_pooling_within_two_percent():
    for width in (hopfield.QUICK.bit_width, hopfield.FULL.digit_width):
        budget = build(hopfield.HopfieldPooling().layers(width), [0]).count
        assert budget == width**2 + 3 * width + 1
        for pooling in hopfield.POOLINGS.values():
            assert build(pooling.layers(width, budget), [0]).count == pytest.approx(budget, rel=0.02)


def test_digit_bags_for_training_and_testing_share_no_image():
    rows = hopfield.split(mnist_5k()[1], [0, 1], 3000, 2000)
    assert all(not set(seen.tolist()) & set(unseen.tolist()) for seen, unseen in zip(*rows))


def blobs(rows=45, classes=3):
    y = torch.arange(rows) % classes
    x = 4 * torch.eye(classes)[y] + 0.3 * normal(2, rows, classes).float()
    return Table(x, y.expand(2, -1), x + 0.1, y.expand(2, -1), (torch.arange(rows) // 15).expand(2, -1))


@pytest.mark.parametrize("prototypes", [0, 8])
def test_hopfield_layer_separates_what_is_separable(prototypes):
    data = blobs()
    found = hopfield.fit_hopfield(60)((prototypes, 4.0, 3e-2), data, [0, 1], data.folds == 0)
    assert (found == 1).all()


def test_hopfield_layer_cannot_read_a_label_from_the_row_itself():
    data = blobs()
    shuffled = torch.stack([torch.randperm(45, generator=g) for g in generators([0, 1], "labels")]) % 3
    random = Table(data.train_x, shuffled, data.test_x, shuffled, data.folds)
    found = hopfield.fit_hopfield(60)((0, 4.0, 3e-2), random, [0, 1], data.folds == 0)
    assert (found < 0.7).all()  # labels say nothing about rows: a held-out row that saw itself would be right


# --- heads ---


def test_needed_share_equals_brute_force():
    weights = torch.softmax(3 * normal(2, 20, 20) + torch.ones(20, 20).triu(1) * -1e9, -1)
    found = hopfield.needed_share(weights, mass=0.9, least=16)
    assert found.shape == (2, 5)
    for run in range(2):
        for place, query in enumerate(range(15, 20)):
            total, k = 0.0, 0
            for value in sorted(weights[run, query, : query + 1].tolist(), reverse=True):
                total, k = total + value, k + 1
                if total >= 0.9:
                    break
            assert found[run, place].item() == pytest.approx(k / (query + 1))


def test_needed_share_is_nine_tenths_where_all_is_averaged():
    uniform = torch.ones(20, 20).tril() / torch.arange(1, 21)[:, None]
    assert hopfield.needed_share(uniform, least=20).item() == pytest.approx(18 / 20)


def test_the_text_is_english_with_line_breaks():
    text = "".join(chr(code + 32) for code in hopfield.library_reference()[:200_000].tolist())
    assert text.count(" the ") > 1000
    assert text.count("\x7f") > 1000


def test_settings_name_poolings_that_exist():
    for settings in (hopfield.QUICK, hopfield.FULL):
        assert set(settings.bit_rates) <= set(hopfield.POOLINGS)
        assert set(settings.bit_families.values()) <= set(settings.bit_rates)
        assert set(settings.digit_families.values()) <= set(settings.digit_rates)
        assert set(settings.bit_rates.values()) | set(settings.digit_rates.values()) <= set(hopfield.RATES)
