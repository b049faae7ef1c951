"""Oracles for winning tickets: exact bookkeeping, and a second implementation in ordinary torch."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from reprise.blocks import masks as pruning
from reprise.blocks.seeds import FlatAdam, RunRNG, StackedMLP
from reprise.blocks.training import History, cross_entropy, drops, epochs, gather
from reprise.blocks.training import train as train_stack
from reprise.sparsity import lottery_ticket as lottery
from reprise.sparsity.lottery_ticket import FULL, LENET, QUICK, Trained

TINY = replace(QUICK, hidden=(12, 9), steps=40, every=10, rounds=3, control_rounds=(1, 2), learning_rate=3e-3)
SEEDS = [3, 7]


@pytest.fixture(scope="module")
def data():
    return lottery.load(TINY, SEEDS)


@pytest.fixture(scope="module")
def start(data):
    return lottery.network(TINY, data)


@pytest.fixture(scope="module")
def tickets(data, start):
    return _find(TINY, start, data)


def _find(settings, start, data):
    dense = lottery.train(settings, start, lottery.everything(start), data)
    return lottery.find_tickets(settings, start, dense, data)


def _flat(masks):
    return torch.cat([mask.flatten(1) for mask in masks.values()], 1)


# --- the procedure


def test_iterative_pruning_equals_a_plain_torch_implementation(data, start, tickets):
    # the whole procedure again for one seed: nn.Linear, torch.optim, torch.nn.utils.prune, no stacking
    run, module = 1, start.module(1)
    layers = [part for part in module if isinstance(part, nn.Linear)]
    initial = [(layer.weight.detach().clone(), layer.bias.detach().clone()) for layer in layers]
    kept = [torch.ones_like(weight, dtype=torch.bool) for weight, _ in initial]
    for ticket in tickets:
        with torch.no_grad():
            for layer, (weight, bias), mask in zip(layers, initial, kept):
                layer.weight.copy_(weight * mask)
                layer.bias.copy_(bias)
        optimizer = torch.optim.Adam(module.parameters(), 3e-3)
        order = epochs(RunRNG(SEEDS, "order"), 3500, TINY.batch)
        for step in range(TINY.steps):
            optimizer.param_groups[0]["lr"] = 3e-3 * (1 if step < 24 else 0.2 if step < 34 else 0.04)
            index = next(order)[run]
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(data.train_x[run][index]), data.train_y[run][index]).backward()
            for layer, mask in zip(layers, kept):
                layer.weight.grad.mul_(mask)
            optimizer.step()
        for layer, weight, mask, ours in zip(
            layers,
            (ticket.network.params[name] for name in start.weight_names()),
            kept,
            ticket.masks.values(),
        ):
            assert torch.equal(mask.T, ours[run])
            torch.testing.assert_close(layer.weight.T, weight[run], rtol=0, atol=1e-4)
        right = (module(data.test_x[run]).argmax(1) == data.test_y[run]).float().mean()
        assert abs(100 * right - ticket.test[run]) < 0.25
        cut = [nn.Linear(*layer.weight.shape[::-1], bias=False) for layer in layers]
        for copy, layer, mask in zip(cut, layers, kept):
            copy.weight.data = layer.weight.detach().clone()
            prune.custom_from_mask(copy, "weight", mask)
        prune.global_unstructured([(c, "weight") for c in cut], prune.L1Unstructured, amount=TINY.fraction)
        kept = [copy.weight_mask.bool() for copy in cut]


def test_alive_counts_follow_the_exact_recursion_and_masks_are_nested(tickets):
    count = 40 * 12 + 12 * 9 + 9 * 10
    for earlier, later in zip([None, *tickets], tickets):
        assert (_flat(later.masks).sum(1) == count).all()
        if earlier:
            assert (_flat(later.masks) <= _flat(earlier.masks)).all()
        assert later.kept == pytest.approx(100 * count / 678)
        count -= round(0.35 * count)


def test_survivors_go_back_to_their_initial_values_bit_for_bit(start, tickets):
    names = start.weight_names()
    for ticket in tickets:
        reset = lottery.masked(start, ticket.masks).params
        for name in reset:
            alive = ticket.masks[name] if name in names else torch.ones_like(reset[name], dtype=torch.bool)
            assert torch.equal(reset[name][alive], start.params[name][alive])
            assert (reset[name][~alive] == 0).all()
    assert torch.equal(start.params.flat, lottery.network(TINY, lottery.load(TINY, SEEDS)).params.flat)


def test_dead_weights_stay_exactly_zero_after_every_step(data, start, tickets):
    net = lottery.masked(start, tickets[2].masks)
    alive = pruning.flat_mask(net.params, tickets[2].masks)
    optimizer = FlatAdam(net.params, 1e-2)

    def loss(step):
        assert (net.params.flat[~alive] == 0).all()
        return cross_entropy(net(data.train_x[:, :50]), data.train_y[:, :50])

    train_stack(optimizer, loss, 30, alive=alive)
    assert (net.params.flat[~alive] == 0).all()
    for ticket in tickets:  # and at the end of the real thing
        for name, mask in ticket.masks.items():
            assert (ticket.network.params[name][~mask] == 0).all()


def test_a_mask_that_keeps_everything_reproduces_the_dense_run_bit_for_bit(data, start, tickets):
    net = start.with_params(start.params.select(slice(None)))
    order = epochs(RunRNG(SEEDS, "order"), 3500, TINY.batch)

    def loss(step):
        index = next(order)
        return cross_entropy(net(gather(data.train_x, index)), gather(data.train_y, index))

    schedule = drops(TINY.learning_rate, TINY.steps, (0.6, 0.85), 0.2)
    train_stack(FlatAdam(net.params, 3e-3), loss, TINY.steps, learning_rate=schedule)
    assert torch.equal(net.params.flat, tickets[0].network.params.flat)


def test_stacked_seeds_equal_the_same_seeds_one_by_one(tickets):
    for run, seed in enumerate(SEEDS):
        alone = lottery.load(TINY, [seed])
        single = _find(replace(TINY, rounds=1), lottery.network(TINY, alone), alone)
        for one, many in zip(single, tickets):
            torch.testing.assert_close(one.network.params.flat[0], many.network.params.flat[run], rtol=0, atol=1e-5)
            assert torch.equal(_flat(one.masks)[0], _flat(many.masks)[run])


def test_fine_tuning_goes_on_from_the_trained_values_of_the_survivors(data, tickets):
    still = replace(TINY, fine_rates=(0.0, 0.0))
    pruned = lottery.fine_tune(still, tickets[0], data, rounds=2)
    assert pruned.weights == tickets[2].weights
    before = torch.cat([tickets[0].network.params[n].flatten(1) for n in pruned.masks], 1)
    after = torch.cat([pruned.network.params[n].flatten(1) for n in pruned.masks], 1)
    largest = before.abs().topk(pruned.weights, 1).indices
    assert torch.equal(after, torch.zeros_like(before).scatter(1, largest, before.gather(1, largest)))
    whole = lottery.fine_tune(still, tickets[0], data, rounds=2, cut=False)
    assert torch.equal(whole.network.params.flat, tickets[0].network.params.flat)
    moved = lottery.fine_tune(TINY, tickets[0], data, rounds=1)
    assert not torch.equal(moved.network.params.flat, pruned.network.params.flat)
    assert torch.equal(_flat(moved.masks), _flat(tickets[1].masks))


def test_the_first_runs_of_a_stack_are_those_runs(data, start):
    narrow, net = lottery.first(1, data, start)
    alone = lottery.load(TINY, SEEDS[:1])
    assert narrow.seeds == (3,)
    assert torch.equal(narrow.test_x, alone.test_x)
    assert torch.equal(net.params.flat, lottery.network(TINY, alone).params.flat)


# --- masked networks


def test_a_masked_network_computes_what_zeros_in_a_dense_module_compute(data, start, tickets):
    net = lottery.masked(start, tickets[2].masks)
    module = start.module(0)
    linears = [part for part in module if isinstance(part, nn.Linear)]
    for layer, mask in zip(linears, tickets[2].masks.values()):
        layer.weight.data[~mask[0].T] = 0.0
    x = data.test_x[:, :100]
    torch.testing.assert_close(net(x)[0], module(x[0]), rtol=1e-4, atol=1e-5)


def test_gradients_of_a_masked_network_are_those_of_finite_differences(data):
    # loss as a function of theta through m * theta, on a net of three units
    small = replace(TINY, hidden=(3,))
    start = lottery.network(small, data)
    masks = {n: torch.rand(m.shape) < 0.5 for n, m in lottery.everything(start).items()}
    alive = pruning.flat_mask(start.params, masks)
    x, y = data.train_x[:, :40], data.train_y[:, :40]

    def value(flat):  # in double precision, so that the step can be small
        return cross_entropy(start(x.double(), params=start.params.views(flat * alive)), y)

    net = lottery.masked(start, masks)
    cross_entropy(net(x), y).sum().backward()
    gradient, theta = (net.params.grad * alive).double(), start.params.flat.double()
    for column in range(net.params.count):
        nudge = torch.zeros_like(theta)
        nudge[:, column] = 1e-6
        slope = (value(theta + nudge) - value(theta - nudge)) / 2e-6
        torch.testing.assert_close(gradient[:, column], slope, rtol=1e-4, atol=1e-5)
        assert (slope[~alive[:, column]] == 0).all()


# --- controls and baselines


def test_one_shot_masks_equal_torch_prune(start, tickets):
    ours = lottery.one_shot(tickets[0], 100)
    for run in range(2):
        modules = []
        for name in start.weight_names():
            weight = tickets[0].network.params[name][run].detach()
            modules.append(nn.Linear(*weight.shape, bias=False))
            modules[-1].weight.data = weight.T.contiguous()
        prune.global_unstructured([(m, "weight") for m in modules], prune.L1Unstructured, amount=678 - 100)
        for module, mask in zip(modules, ours.values()):
            assert torch.equal(module.weight_mask.T.bool(), mask[run])


def test_layerwise_rounds_spare_the_output_layer(data):
    settings = replace(LENET, dataset="mnist-1d", hidden=(12, 9), steps=5, rounds=2)
    tickets = _find(settings, lottery.network(settings, data), data)
    counts = [480, 108, 90]
    for ticket in tickets:
        assert [int(c[0]) for c in pruning.alive_counts(ticket.masks).values()] == counts
        counts = [c - round(f * c) for c, f in zip(counts, (0.2, 0.2, 0.1))]


def test_shuffled_masks_keep_every_layers_count_and_depend_on_the_seed_alone(data, tickets):
    mixed = lottery.shuffle(tickets[2].masks, data, 2)
    for name, mask in tickets[2].masks.items():
        assert torch.equal(mask.flatten(1).sum(1), mixed[name].flatten(1).sum(1))
        assert not torch.equal(mask, mixed[name])
    again = lottery.shuffle(tickets[2].masks, data, 2)
    assert torch.equal(_flat(mixed), _flat(again))


def test_blends_run_from_the_ticket_to_a_fresh_draw_at_equal_variance(data, start):
    other = lottery.network(TINY, data, "again")
    assert torch.equal(lottery.blend(start, other, 1.0).params.flat, start.params.flat)
    assert torch.equal(lottery.blend(start, other, 0.0).params.flat, other.params.flat)
    wide = replace(TINY, hidden=(300, 300))
    one, two = lottery.network(wide, data), lottery.network(wide, data, "again")
    half = lottery.blend(one, two, 0.5).params["1.weight"].detach()
    initial = one.params["1.weight"].detach()
    assert half.var() == pytest.approx(2 / 300, rel=0.03)
    assert torch.corrcoef(torch.stack([half.flatten(), initial.flatten()]))[0, 1] == pytest.approx(0.5, abs=0.02)


def test_small_dense_networks_match_the_tickets_weight_count_as_nearly_as_a_width_can():
    for cuts in (3, 4, 6):
        width = lottery.small_width(QUICK, 40, cuts)
        counts = [40 * h + 2 * h * h + 10 * h for h in (width - 1, width, width + 1)]
        target = pruning.remaining(11392, 0.35, cuts)
        assert abs(counts[1] - target) <= min(abs(counts[0] - target), abs(counts[2] - target))


# --- data, settings, effects


def test_validation_is_cut_off_the_training_set_and_inputs_are_standardised(data):
    assert data.train_x.shape == (2, 3500, 40)
    assert data.validation_x.shape == (2, 500, 40)
    assert data.test_x.shape == (2, 1000, 40)
    assert data.train_x.mean(1).abs().max() < 1e-4
    assert (data.train_x.std(1) - 1).abs().max() < 1e-4
    rows = {tuple(row.tolist()) for row in data.train_x[0]}
    assert not rows & {tuple(row.tolist()) for row in torch.cat([data.validation_x[0], data.test_x[0]])}


def test_images_are_split_by_seed_and_share_one_scale():
    images = lottery.load(LENET, [0, 1])
    assert images.train_x.shape == (2, 3500, 784)
    assert images.train_x.mean((1, 2)).abs().max() < 1e-3
    assert (images.train_x.std((1, 2)) - 1).abs().max() < 1e-3
    assert not torch.equal(images.test_y[0], images.test_y[1])


def test_settings_reach_the_cards_levels():
    for settings in (QUICK, FULL):
        assert [round(100 * 0.65**r) for r in (1, 2, 3, 4, 5)] == [65, 42, 27, 18, 12]
        assert settings.fraction == 0.35
        assert settings.rounds == 8
        assert {3, 4, 6} <= set(settings.control_rounds)
        assert settings.learning_rate in settings.rates
        assert len(settings.small_rates) == len(settings.control_rounds)
        dense, *small = lottery.TRIALS["quick" if settings is QUICK else "full"].values()
        assert settings.learning_rate == settings.rates[dense.index(max(dense))]
        assert settings.small_rates == tuple(settings.rates[row.index(max(row))] for row in small)
    lenet_trials = lottery.TRIALS["lenet"]["dense"]
    assert LENET.learning_rate == LENET.rates[lenet_trials.index(max(lenet_trials))]
    assert LENET.hidden == (300, 100)
    assert (LENET.rounds, LENET.fraction, LENET.output_fraction) == (10, 0.2, 0.1)
    nearest = min(range(11), key=lambda r: abs(0.8**r - 0.13))
    assert LENET.control_rounds == (nearest,)


def _measured(losses=None, test=None, validation=None, steps=(0, 20, 40, 60, 80)):
    losses = torch.zeros(1, len(steps)) if losses is None else torch.tensor(losses)
    history = History(torch.tensor(steps), {"loss": losses})
    unknown = torch.zeros(len(losses))
    return Trained(
        StackedMLP([0], [1, 1]),  # not looked at
        {},
        history,
        unknown if test is None else torch.tensor(test),
        unknown if validation is None else torch.tensor(validation),
    )


def test_time_saved_is_measured_before_the_rate_drops_and_censored_there():
    settings = replace(QUICK, steps=100, every=20, uncut=0.6)
    dense = _measured([[3.0, 2.0, 1.5, 1.0, 0.1], [3.0, 2.0, 1.0, 1.2, 0.1]])  # minima at steps 60 and 40
    fast = _measured([[3.0, 1.0, 1.0, 1.0, 1.0], [3.0, 0.9, 1.0, 1.0, 1.0]])  # both there at step 20
    never = _measured([[3.0, 2.0, 2.0, 2.0, 0.1], [3.0, 2.0, 2.0, 2.0, 0.1]])  # only after the drop: 60
    torch.testing.assert_close(lottery.time_saved(settings, dense, [fast]), torch.tensor([2 / 3, 0.5]))
    torch.testing.assert_close(lottery.time_saved(settings, dense, [never]), torch.tensor([0.0, -0.5]))
    torch.testing.assert_close(lottery.time_saved(settings, dense, [fast, never]), torch.tensor([1 / 3, 0.0]))
    torch.testing.assert_close(lottery.time_saved(settings, dense, [dense]), torch.zeros(2))


def test_the_best_level_is_chosen_on_validation_data_never_on_test_data():
    dense = _measured(test=[50.0, 50.0], losses=[[0.0] * 5] * 2)
    one = _measured(test=[90.0, 51.0], validation=[10.0, 30.0], losses=[[0.0] * 5] * 2)
    two = _measured(test=[52.0, 90.0], validation=[20.0, 20.0], losses=[[0.0] * 5] * 2)
    assert lottery.gain_of_best(dense, [one, two]).tolist() == [2.0, 1.0]
    assert lottery.mean_gap([one, two], [dense, dense]).tolist() == [21.0, 20.5]


def test_unusable_input_is_refused_with_a_remedy(data, tickets):
    with pytest.raises(ValueError, match="choose 'mnist-1d'"):
        lottery.load(replace(QUICK, dataset="letters"), [0])
    with pytest.raises(ValueError, match="evidence starts at 100"):
        lottery.tune(QUICK, [99, 100])
    with pytest.raises(ValueError, match="never come back"):
        lottery.one_shot(tickets[2], 600)


def test_tuning_reports_every_rate_for_every_baseline():
    quick = replace(TINY, steps=5, rates=(1e-3, 1e-2), control_rounds=(1,), small_rates=(1e-2,))
    table = lottery.tune(quick, [0, 1])
    assert [len(row) for row in table.values()] == [2, 2]
    data = lottery.load(quick, [0, 1])
    dense = lottery.network(quick, data)
    alone = lottery.train(replace(quick, learning_rate=1e-3), dense, lottery.everything(dense), data)
    assert table["dense"][1e-3] == pytest.approx(float(alone.validation.mean()))
