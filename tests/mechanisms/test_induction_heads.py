"""The task needs context, each clamp hands over exactly one subcircuit, and measures say what the card says."""

import math
from dataclasses import replace

import pytest
import torch

from reprise.blocks.seeds import RunRNG
from reprise.mechanisms import induction_heads as ih

S = ih.Settings(classes=12, features=16, width=16, heads=2, batch=8, every=5, evaluated=64, steps=10, clamped_steps=10)


def _batch(s=S, seeds=(0, 1), count=500, **kwargs):
    return ih.draw_batch(ih.make_task(seeds, s), RunRNG(seeds, "test"), count, **kwargs)


# --- the task


def test_the_query_repeats_one_class_and_the_target_is_its_label():
    batch = _batch()
    same = (batch.exemplars[:, :, 2:] == batch.exemplars[:, :, :2]).all(-1)  # which of the two classes is asked for
    assert (same.sum(-1) == 1).all()
    expected = torch.where(same[..., 0], batch.labels[..., 0], batch.labels[..., 1])
    assert torch.equal(batch.target, expected)
    assert (batch.labels[..., 0] != batch.labels[..., 1]).all()


def test_labels_are_drawn_anew_so_that_a_class_says_nothing_about_its_label():
    batch = _batch(count=6000)
    first_class = (batch.exemplars[0, :, 0] == ih.make_task((0, 1), S).seen[0, 3]).all(-1)
    shares = torch.bincount(batch.labels[0, first_class, 0], minlength=5) / first_class.sum()
    pairs = ih.make_task((0, 1), S).train_pairs[0]
    assert torch.allclose(shares, torch.bincount(pairs.flatten(), minlength=5) / pairs.numel(), atol=0.08)
    assert abs(batch.match.float().mean() - 0.5) < 0.02


def test_held_out_pairs_and_classes_never_occur_in_training():
    train, other = _batch(), _batch(unseen_pairs=True, unseen_classes=True)
    for seed in (0, 1):
        pairs = [{tuple(sorted(pair)) for pair in b.labels[seed].tolist()} for b in (train, other)]
        assert pairs[0].isdisjoint(pairs[1])
        assert len(pairs[0] | pairs[1]) == 10
        seen = {tuple(e.tolist()) for e in train.exemplars[seed].flatten(0, 1)}
        assert seen.isdisjoint(tuple(e.tolist()) for e in other.exemplars[seed].flatten(0, 1))
        assert len(seen) == S.classes


def test_fixed_labels_stay_with_their_class_and_differ_within_a_sequence():
    batch, task = _batch(fixed_labels=True), ih.make_task((0, 1), S)
    classes = torch.cdist(batch.exemplars[0, :, :2], task.seen[0].expand(500, -1, -1)).argmin(-1)
    assert torch.equal(batch.labels[0], classes % 5)
    assert (batch.labels[..., 0] != batch.labels[..., 1]).all()


def test_noise_makes_new_exemplars_at_the_given_distance():
    batch, task = _batch(noise=0.3), ih.make_task((0, 1), S)
    nearest = torch.cdist(batch.exemplars[0, :, 0], task.seen[0]).min(-1).values
    assert abs(nearest.mean() - 0.3 * math.sqrt(S.features)) < 0.1


# --- an induction circuit built by hand


def _hand_built(seeds=(0, 1)):
    """Layer 1 looks one back (rotary turns a constant by one step) and writes what it sees beside; layer 2 matches."""
    s = ih.Settings(classes=30, features=24, width=64, heads=1)
    networks = ih.make_networks(seeds, s)
    content, label, constant, previous, out = range(24), range(24, 29), 30, range(32, 56), range(56, 61)
    with torch.no_grad():
        for name, leaf in networks.params.items():
            if not name.endswith("gain"):
                leaf.zero_()
        p = networks.params
        p["exemplar.weight"][:, content, content] = 1.0
        p["label.weight"][:, range(5), label] = 5.0
        p["0.norm.offset"][:, 0, constant] = 1.0
        p["0.qkv.weight"][:, constant, 0] = 20.0  # a query (20, 0) in the pair that turns by one radian per position
        p["0.qkv.weight"][:, constant, 64] = 20 * math.cos(1)  # the key one step ahead of it
        p["0.qkv.weight"][:, constant, 65] = 20 * math.sin(1)
        p["0.qkv.weight"][:, content, range(128, 152)] = 1.0
        p["0.out.weight"][:, range(24), previous] = 3.0
        p["1.qkv.weight"][:, content, previous] = 15.0  # features 32 and up hardly turn within five positions
        p["1.qkv.weight"][:, previous, range(64 + 32, 64 + 56)] = 15.0
        p["1.norm.offset"][:, 0, constant] = 1.0  # a taste for labels, since the first exemplar has only itself to copy
        p["1.qkv.weight"][:, constant, 60] = 40.0
        p["1.qkv.weight"][:, label, 64 + 60] = 5.0
        p["1.qkv.weight"][:, label, range(128, 133)] = 1.0
        p["1.out.weight"][:, range(5), out] = 1.0
        p["unembed.weight"][:, out, range(5)] = 20.0
    return networks, s


def test_a_hand_built_induction_head_solves_unseen_classes_with_unseen_pairs():
    networks, s = _hand_built()
    batch = ih.draw_batch(ih.make_task((0, 1), s), RunRNG((0, 1), "x"), 400, unseen_pairs=True, unseen_classes=True)
    seen = ih.look(networks, [ih.ALL], batch, s, ["0.pattern", "1.pattern"])
    one_back = seen["0.pattern"][:, :, 0, [1, 2, 3, 4], [0, 1, 2, 3]]
    assert one_back.min() > 0.99
    assert (seen["logits"].argmax(-1) == batch.target).float().mean() > 0.995
    assert ih.strength(seen["1.pattern"], batch).min() > 0.9


def test_silencing_the_hand_built_previous_token_head_ends_induction():
    networks, s = _hand_built()
    drops, whole = ih.wiring(networks, (0, 1), s)
    assert whole.min() > 0.9
    assert drops.min() > 0.95


def test_clamps_leave_the_hand_built_circuit_working():
    networks, s = _hand_built((0,))
    conditions = [ih.NONE, ih.PREVIOUS, ih.C]
    networks = networks.with_params(networks.params.select([0, 0, 0]))
    batch = _batch(s, seeds=(0,), count=200).tiled(3)
    seen = ih.look(networks, conditions, batch, s)
    assert ((seen["logits"].argmax(-1) == batch.target).float().mean(-1) > 0.99).all()


# --- clamps


def _gradients(condition, s=S):
    networks, batch = ih.make_networks([0], s), _batch(s, seeds=(0,), count=32)
    ih.losses(ih.look(networks, [condition], batch, s)["logits"], batch.target).sum().backward()
    views = networks.params.views(networks.params.grad)
    width = s.width
    return {
        "layer 1": views["0.qkv.weight"].abs().max() + views["0.out.weight"].abs().max(),
        "match": views["1.qkv.weight"][:, :, : 2 * width].abs().max(),
        "values": views["1.qkv.weight"][:, :, 2 * width :].abs().max(),
        "output": views["1.out.weight"].abs().max() + views["unembed.weight"].abs().max(),
        "exemplar": views["exemplar.weight"].abs().max(),
    }


@pytest.mark.parametrize(
    ("condition", "learns"),
    [
        (ih.NONE, {"layer 1", "match", "values", "output", "exemplar"}),
        (ih.A, {"match", "values", "output", "exemplar"}),
        (ih.AB, {"values", "output", "exemplar"}),
        (ih.C, {"layer 1", "match", "exemplar"}),
        (ih.AC, {"match", "exemplar"}),
    ],
)
def test_each_clamp_leaves_exactly_the_other_subcircuits_to_learn(condition, learns):
    assert {name for name, size in _gradients(condition).items() if size > 0} == learns


def test_clamp_a_shifts_what_patterns_read_and_keeps_values_plain():
    networks, batch = ih.make_networks([0], S), _batch(seeds=(0,), count=8)
    vectors = ih.embed(networks, batch)
    seen = networks.record(
        vectors, ["1.pattern_input", "1.value_input"], clamps=ih.clamps_for([ih.A], batch, vectors, S)
    )
    for position, source in enumerate([0, 0, 1, 2, 4]):
        assert torch.equal(seen["1.pattern_input"][:, :, position], vectors[:, :, source])
    assert torch.equal(seen["1.value_input"], vectors)


def test_clamp_b_looks_at_the_correct_label_and_the_strength_is_one():
    networks, batch = ih.make_networks([0], S), _batch(seeds=(0,), count=50)
    pattern = ih.look(networks, [ih.AB], batch, S, ["1.pattern"])["1.pattern"][0, :, 0, 0]
    for row, match in zip(pattern, batch.match[0]):
        assert row.tolist() == [0, float(match == 0), 0, float(match == 1), 0]
    assert ih.strength(ih.look(networks, [ih.AB], batch, S, ["1.pattern"])["1.pattern"], batch)[0, 0] == 1


def test_clamp_c_answers_with_the_softmax_of_the_two_scores():
    networks, batch = ih.make_networks([0], S), _batch(seeds=(0,), count=50)
    seen = ih.look(networks, [ih.C], batch, S, ["1.score"])
    scores = seen["1.score"][0, :, 0, 0]
    probabilities = seen["logits"][0].softmax(-1)
    two = scores[:, [1, 3]].softmax(-1)
    for row in range(50):
        expected = torch.zeros(5)
        expected[batch.labels[0, row]] = two[row]
        assert torch.allclose(probabilities[row], expected, atol=1e-6)


def test_silent_heads_add_nothing():
    networks, batch = ih.make_networks([0], S), _batch(seeds=(0,), count=8)
    vectors = ih.embed(networks, batch)
    heads = networks.record(vectors, ["1.head"], clamps=ih.clamps_for([ih.single(1)], batch, vectors, S))["1.head"]
    assert heads[:, :, 0].abs().max() == 0
    assert heads[:, :, 1].abs().max() > 0


def test_blind_and_shifted_first_layers_attend_where_they_are_told():
    networks, batch = ih.make_networks([0], S), _batch(seeds=(0,), count=8)
    patterns = {
        c.layer1: ih.look(networks, [c], batch, S, ["0.pattern"])["0.pattern"]
        for c in (ih.BLIND, ih.PREVIOUS, ih.WRONG)
    }
    assert patterns["blind"][..., [1, 2, 3, 4], [0, 1, 2, 3]].max() == 0
    assert (patterns["previous"][:, :, 0, [1, 2, 3, 4], [0, 1, 2, 3]] == 1).all()
    assert (patterns["wrong"][:, :, 0, [2, 3, 4], [0, 1, 2]] == 1).all()
    assert (patterns["wrong"][:, :, 1, [2, 3, 4], [0, 1, 2]] != 1).all()  # head 1 stays free


# --- training


def test_stacked_conditions_and_seeds_equal_each_network_trained_alone():
    together = ih.train([ih.ALL, ih.A, ih.C, ih.AB], [3, 4], S, steps=10)
    for i, condition in enumerate([ih.ALL, ih.A, ih.C, ih.AB]):
        alone = ih.train([condition], [4], S, steps=10)
        assert torch.allclose(together.loss[i, 1], alone.loss[0, 0], atol=1e-5)
        assert torch.allclose(together.strength[i, 1], alone.strength[0, 0], atol=1e-5)


def test_training_continues_from_a_snapshot_as_if_never_interrupted():
    whole = ih.train([ih.ALL, ih.NONE], [3, 4], S, steps=20, keep=[10])
    rest = ih.train([ih.NONE, ih.C], [3, 4], S, steps=20, begin=ih.branch(whole, ih.NONE, 10))
    assert torch.allclose(rest.loss[0], whole.loss[1, :, 2:], atol=1e-5)
    assert rest.steps.tolist() == [10, 15, 20]


def test_a_one_layer_network_cannot_beat_guessing_on_unseen_pairs():
    s = replace(ih.QUICK, classes=20, learning_rate=3e-3, width=32, heads=4, every=100)
    trained = ih.train([ih.ONE_LAYER], [0, 1], s, steps=200)
    batch = ih.draw_batch(ih.make_task([0, 1], s), RunRNG([0, 1], "t"), 500, unseen_pairs=True)
    loss = ih.losses(ih.look(trained.final, [ih.ONE_LAYER], batch, s)["logits"], batch.target)
    assert (loss > math.log(2) - 0.02).all()


# --- measures


def _curves(loss, accuracy=None, strength=None, every=10):
    loss = torch.tensor(loss).view(1, 1, -1)
    accuracy = (loss < 0.3).float() if accuracy is None else torch.tensor(accuracy).view(1, 1, -1)
    strength = (
        torch.zeros(*loss.shape, 2)
        if strength is None
        else torch.tensor(strength).view(1, 1, -1, 1).expand(-1, -1, -1, 2)
    )
    return ih.Curves((ih.ALL,), torch.arange(loss.shape[-1]) * every, loss, accuracy, strength, {})


def test_abruptness_is_the_log_of_waiting_over_falling():
    curve = [2.0, 1.0, 1.0] + [0.7] * 8 + [0.55, 0.5, 0.3, 0.3, 0.1]
    assert ih.abruptness(_curves(curve)).item() == pytest.approx(math.log(100 / 20))


def test_a_network_that_never_falls_is_not_abrupt():
    assert ih.abruptness(_curves([2.0] + [0.7] * 30)).item() < 0
    assert ih.abruptness(_curves([2.0] * 30)).item() <= 0


def test_a_single_spike_does_not_count_as_having_fallen():
    curve = [2.0, 0.9, 0.9, 0.1, 0.9, 0.9, 0.5, 0.5, 0.2, 0.2]
    assert ih.smoothed(torch.tensor(curve)).tolist() == pytest.approx([2, 0.9, 0.9, 0.9, 0.9, 0.9, 0.5, 0.5, 0.2, 0.2])


def test_emergence_compares_the_rise_in_the_drop_with_its_share_of_steps():
    loss = [0.7] * 8 + [0.5, 0.4, 0.3, 0.2]
    strong = [0.0] * 8 + [0.2, 0.4, 0.8, 1.0]
    value = ih.emergence(_curves(loss, accuracy=[0.5] * 11 + [0.99], strength=strong)).item()
    assert value == pytest.approx(0.8 - 30 / 110)


def test_a_rise_in_step_with_time_has_no_emergence():
    loss, line = [0.7] * 8 + [0.5, 0.4, 0.3, 0.2], torch.linspace(0, 1, 12).tolist()
    curves = _curves(loss, accuracy=[0.5] * 11 + [0.99], strength=line)
    assert ih.emergence(curves).item() == pytest.approx(0, abs=1e-6)


def test_strength_that_rises_after_the_task_is_learned_counts_against_emergence():
    loss = [0.7] * 8 + [0.5, 0.4, 0.3, 0.2, 0.1]
    strong = [0.0] * 8 + [0.1, 0.2, 0.4, 0.5, 1.0]
    curves = _curves(loss, accuracy=[0.5] * 11 + [0.99, 0.99], strength=strong)
    assert ih.emergence(curves).item() == pytest.approx(0.4 - 30 / 110)
    assert ih.emergence(curves, until_learned=True).item() == pytest.approx(0.8 - 30 / 110)


def test_plateau_length_counts_steps_between_the_levels():
    assert ih.plateau_length(_curves([2.0, 0.9, 0.85, 0.7, 0.61, 0.5, 0.2])).item() == 30


def test_t90_never_reached_counts_as_the_last_step():
    assert ih.t90(_curves([1.0, 1.0, 0.2])).item() == 20
    assert ih.t90(_curves([1.0, 1.0, 1.0])).item() == 20


def test_effective_partners_of_known_wirings():
    strong = torch.full((1, 4), 0.5)
    one_to_one, all_to_all = torch.eye(4)[None], torch.ones(1, 4, 4)
    hub = torch.zeros(1, 4, 4)
    hub[0, 0] = 1.0  # one previous-token head serves all: many partners along the row, one along each column
    assert ih.partners(one_to_one, strong).item() == pytest.approx(0)
    assert ih.partners(all_to_all, strong).item() == pytest.approx(3)
    assert ih.partners(hub, strong).item() == pytest.approx(0)
    assert ih.partners(all_to_all, torch.tensor([[0.5, 0.5, 0.1, 0.1]])).item() == pytest.approx(1)
    assert ih.partners(all_to_all, torch.zeros(1, 4)).item() == -1


def test_timing_shifts_only_if_each_subcircuit_minds_its_own_data():
    times = {key: torch.full((2, 3), 20.0) for key in ((50, 5), (100, 5), (200, 5), (50, 10), (50, 15))}
    assert ih.shift_of_timing(times).tolist() == [0, 0, 0]
    times[200, 5] = torch.tensor([[80.0] * 3, [20.0] * 3])  # more classes slow the match
    assert ih.shift_of_timing(times).tolist() == [0, 0, 0]
    times[50, 15] = torch.tensor([[20.0] * 3, [40.0] * 3])  # and more labels the copy
    assert ih.shift_of_timing(times)[0].item() == pytest.approx(math.log(2))


def test_a_hand_built_circuit_generalizes_and_needs_its_head():
    networks, s = _hand_built()
    both = {"unseen_pairs": True, "unseen_classes": True}
    accuracy, strength = ih.generalization(networks, [ih.ALL], [0, 1], s, **both)
    assert accuracy.min() > 0.99
    assert strength.shape == (1, 2, 1)
    cut, _ = ih.generalization(networks, [ih.ONE_LAYER], [0, 1], s, **both)
    assert cut.max() < 0.65


# --- the toy model


def test_toy_with_two_factors_given_follows_the_exact_solution():
    seeds, n, rate = [0, 1, 2], 20, 1.0
    losses = ih.toy(seeds, "bc", steps=200)
    start, target = RunRNG(seeds, "toy").normal(2, 3, n).double().unbind(1)
    a0, (a, b, c) = start[:, 0], target.unbind(1)
    weight = b.square().sum(-1) * c.square().sum(-1)
    shrink = (1 - rate * weight / n**3)[:, None] ** torch.arange(201)
    exact = 0.5 * (a0 - a).square().sum(-1, keepdim=True) * shrink**2 * weight[:, None] / n**3
    assert torch.allclose(losses.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("clamped", ["", "c"])
def test_toy_is_gradient_descent_on_the_full_tensor(clamped):
    n, rate = 6, 0.5
    losses = ih.toy([4], clamped, n=n, learning_rate=rate, steps=20)[0]
    start, target = RunRNG([4], "toy").normal(2, 3, n).double().unbind(1)
    now = {k: (target if k in clamped else start)[0, i].clone().requires_grad_() for i, k in enumerate("abc")}
    true = torch.einsum("i,j,k->ijk", *target[0])
    for step in range(21):
        loss = 0.5 * (torch.einsum("i,j,k->ijk", *now.values()) - true).square().mean()
        assert loss.item() == pytest.approx(losses[step].item(), rel=1e-4, abs=1e-6)
        gradients = torch.autograd.grad(loss, list(now.values()))
        with torch.no_grad():
            for (name, value), gradient in zip(now.items(), gradients):
                if name not in clamped:
                    value -= rate * gradient


# --- what is refused


def test_refusals_say_what_would_do():
    with pytest.raises(ValueError, match="held out"):
        ih.make_task([0], replace(S, labels=2))
    with pytest.raises(ValueError, match="which one is active"):
        ih.Condition("x", head=None, b=True)
    with pytest.raises(ValueError, match="clamp one of them"):
        ih.Condition("x", b=True, c=True)
    with pytest.raises(ValueError, match="unknown layer1"):
        ih.train([ih.Condition("x", layer1="sideways")], [0], S, steps=1)
    with pytest.raises(ValueError, match="among a, b and c"):
        ih.toy([0], "d")
