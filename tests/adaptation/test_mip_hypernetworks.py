"""The tasks, the training stack and the effects of the magnitude-invariance chapter."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from reprise.adaptation import mip_hypernetworks as mip
from reprise.blocks.training import epochs

SMALL = replace(mip.QUICK, layers=(8,), train=100, test=50, steps=3, batch=16)


def _trained(spread=None, **curves):
    """A record of one task and two seeds with made-up curves (1, 2, steps); whatever is not given is zero."""
    steps = next(iter(curves.values())).shape[-1] if curves else 1
    curves = {name: torch.zeros(1, 2, steps) for name in ("loss", "accuracy", "gradient")} | curves
    spread = torch.zeros(1, 2, 1, 11) if spread is None else spread
    net = mip.build(SMALL, [0], mip.ARMS["default"], mip.VARIANTS["adam"])
    return mip.Trained(net, **curves, spread=spread, looks=(steps,), objective=torch.zeros(1, 2, 9))


def test_rescaling_keeps_full_size_images_and_the_mean_of_all():
    images = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mip.rescaled(images, 8), images)
    for k in (2, 4):
        torch.testing.assert_close(mip.rescaled(images, k).mean((1, 2)), images.mean((1, 2)))
    quadrants = images.view(5, 2, 4, 2, 4).mean((2, 4))
    corners = mip.rescaled(images, 2)[:, ::7, ::7]  # bilinear drawing leaves the corner pixels at the pooled values
    torch.testing.assert_close(corners, quadrants)


def test_data_hold_every_resolution_and_rows_of_a_seed_do_not_depend_on_the_others():
    both, one = mip.load(SMALL, [3, 4]), mip.load(SMALL, [4])
    assert both.versions.shape == (7, 1797, 64)
    assert torch.equal(both.train_rows[1], one.train_rows[0])
    assert not set(both.train_rows[0].tolist()) & set(both.test_rows[0].tolist())
    full = both.versions[-1].view(-1, 8, 8)
    for k in (2, 3, 5):
        torch.testing.assert_close(both.versions[k - 2], mip.rescaled(full, k).flatten(1), atol=1e-5, rtol=1e-5)


def test_penalty_spans_three_and_a_half_decades_and_the_mirror_reverses_it():
    gamma = torch.linspace(0, 1, 5)[:, None]
    forward = mip.penalty_weight(mip.TASKS["penalty"], gamma)
    torch.testing.assert_close(forward[[0, -1]], torch.tensor([1e-4, 10**-0.5]))
    torch.testing.assert_close(mip.penalty_weight(mip.TASKS["mirror"], gamma), forward.flip(0))
    assert not mip.penalty_weight(mip.TASKS["rescaling"], gamma).any()


def test_the_ends_of_the_rescaling_input_are_the_coarsest_and_the_untouched_images():
    gamma = torch.tensor([[0.0], [0.5], [1.0]])
    assert mip.resolution(mip.TASKS["rescaling"], gamma, 8).tolist() == [0, 3, 6]
    assert mip.resolution(mip.TASKS["penalty"], gamma, 8).tolist() == [6, 6, 6]


def test_task_loss_is_torchs_smoothed_cross_entropy_plus_the_penalty_on_theta():
    g = torch.Generator().manual_seed(0)
    logits, theta = torch.randn(3, 7, 10, generator=g), torch.randn(3, 20, generator=g)
    labels = torch.randint(10, (3, 7), generator=g)
    weight, smooth = torch.tensor([0.0, 0.1, 0.3]), torch.tensor([0.0, 0.2, 0.5])
    ours = mip.task_loss(logits, labels, theta, weight, smooth)
    for i in range(3):
        torchs = F.cross_entropy(logits[i], labels[i], label_smoothing=float(smooth[i]))
        torch.testing.assert_close(ours[i], torchs + weight[i] * theta[i].square().sum())


def nine_inputs_of_every_window_cover_the_interval_evenly():
    gamma = mip.even_inputs([1, 2], 60, 2, 2)
    assert gamma.shape == (2, 60, 2, 2)
    for start in (0, 25):
        window = gamma[:, start : start + 25].flatten(1, 2)  # (seeds, 50, 2): one of 50 strata each, per coordinate
        strata = (window * 50).long().sort(1).values
        assert (strata == torch.arange(50)[None, :, None]).all()
    assert torch.equal(gamma[1:], mip.even_inputs([2], 60, 2, 2))


def test_the_nine_inputs_of_the_objective_include_both_ends():
    assert mip.nine_inputs(mip.TASKS["mirror"])[:, 0].tolist() == [i / 8 for i in range(9)]
    corners = mip.nine_inputs(mip.TASKS["penalty and smoothing"])
    assert len(corners) == 9
    assert {(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)} <= {tuple(row) for row in corners.tolist()}


@pytest.mark.parametrize("arm", ["default", "MIP"])
@pytest.mark.parametrize("variant", ["adam", "sgd"])
def test_training_is_what_plain_torch_does_step_by_step(arm, variant):
    seeds, tasks, rates = [0, 1], ["mirror", "rescaling"], [1e-2, 3e-3]
    data = mip.load(SMALL, seeds)
    stacked = mip.train(SMALL, data, arm, tasks, variant, rates)
    for t, task in enumerate(tasks):
        for s, seed in enumerate(seeds):
            losses, norms = _by_hand(data, arm, task, variant, rates[t], seed, s)
            torch.testing.assert_close(stacked.loss[t, s], losses, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(stacked.gradient[t, s], norms, rtol=1e-4, atol=1e-5)


def _by_hand(data, arm, task, variant, rate, seed, row):
    """One run without any of the stack's machinery but its random numbers: loops, torch.optim, F.cross_entropy."""
    start = mip.build(SMALL, [seed], mip.ARMS[arm], mip.VARIANTS[variant]).params.run(0)
    omega = {name: tensor.requires_grad_() for name, tensor in start.items()}
    if variant == "adam":
        optimizer = torch.optim.Adam(omega.values(), lr=rate)
    else:
        optimizer = torch.optim.SGD(omega.values(), lr=rate, momentum=0.9, nesterov=True)
    gammas = mip.even_inputs([seed], SMALL.steps, 1, 1)[0, :, 0, 0]
    order = epochs(mip.RunRNG([seed], "order"), SMALL.train, SMALL.batch)
    losses, norms = [], []
    for gamma in gammas:
        angle = torch.pi / 2 * gamma
        v = torch.stack([angle.cos(), angle.sin()]) if arm == "MIP" else gamma[None]
        for i in (0, 1):
            v = F.leaky_relu(v @ omega[f"{i}.weight"] + omega[f"{i}.bias"][0])
        theta = v @ omega["output.weight"] + omega["output.bias"][0]
        w1, b1, w2, b2 = theta.split([64 * 8, 8, 80, 10])
        rows = data.train_rows[row][next(order)[0]]
        k = 2 + round(6 * float(gamma)) if task == "rescaling" else 8
        x = mip.rescaled(data.versions[-1][rows].view(-1, 8, 8), k).flatten(1)
        logits = F.relu(x @ w1.view(64, 8) + b1) @ w2.view(8, 10) + b2
        loss = F.cross_entropy(logits, data.labels[rows])
        if task == "mirror":
            loss = loss + 10 ** (-4 + 3.5 * (1 - gamma)) * theta.square().sum()
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.detach())
        norms.append(torch.cat([tensor.grad.flatten() for tensor in omega.values()]).norm())
        optimizer.step()
    return torch.stack(losses), torch.stack(norms)


def objective_at_nine_of_a_network_of_zeros_is_known():  # log 10 everywhere, and no penalty on zero weights
    data = mip.load(SMALL, [0, 1])
    net = mip.build(SMALL, [0, 1] * 2, mip.ARMS["default"], mip.VARIANTS["adam"])
    net.params.flat.zero_()
    objective = mip.objective_at_nine(SMALL, data, net, ["penalty", "rescaling"])
    torch.testing.assert_close(objective, torch.full((2, 2, 9), 10.0).log())


def objective_at_nine_adds_the_penalty_of_its_own_input():
    data = mip.load(SMALL, [0])
    net = mip.build(SMALL, [0, 0], mip.ARMS["residual only"], mip.VARIANTS["adam"])
    net.params.views(net.params.flat)["output.weight"].zero_()  # θ = θ0 at every γ, so only λ(γ) changes
    penalised, plain = mip.objective_at_nine(SMALL, data, net, ["penalty", "rescaling"])[:, 0]
    extra = mip.penalty_weight(mip.TASKS["penalty"], mip.nine_inputs(mip.TASKS["penalty"]))
    size = net.params["output.bias"][0].square().sum()
    torch.testing.assert_close(penalised, plain[-1] + extra * size)


def test_signals_of_the_default_form_shrink_by_gamma_per_layer_and_those_of_the_encoding_do_not():
    x = torch.randn(9, 64, generator=torch.Generator().manual_seed(0))
    small, large = (mip.look_inside(mip.QUICK, [0, 1], "default", gamma, x)[1] for gamma in (0.1, 1.0))
    layers = torch.arange(1, small.shape[1] + 1)
    torch.testing.assert_close(small / large, (0.1**layers).expand(2, -1), rtol=1e-4, atol=0)
    theta, _ = mip.look_inside(mip.QUICK, list(range(30)), "encoding only", 0.1, x)
    other, _ = mip.look_inside(mip.QUICK, list(range(30)), "encoding only", 1.0, x)
    assert abs((theta.std() / other.std()).log()) < 0.2


def test_tasks_can_be_picked_and_reordered():
    loss = torch.arange(3.0).view(3, 1, 1).expand(3, 2, 1)
    spread, objective = torch.zeros(3, 2, 1, 11), torch.zeros(3, 2, 9)
    whole = replace(
        _trained(), loss=loss, accuracy=loss, gradient=loss, spread=spread, objective=objective + loss[..., :1]
    )
    picked = whole.at([2, 0])
    assert picked.loss[:, 0, 0].tolist() == [2.0, 0.0]
    assert picked.objective[:, 1, 8].tolist() == [2.0, 0.0]


def test_proportionality_error_is_at_rounding_level():
    assert (mip.proportionality_error([0, 1]) < 1e-12).all()


def test_decades_are_one_before_training_by_default_and_none_with_constant_weights():
    net = mip.build(SMALL, [0, 1], mip.ARMS["default"], mip.VARIANTS["adam"])
    spread = mip.spread_of_weights(net).view(1, 2, 1, 11)
    torch.testing.assert_close(mip.decades(_trained(spread=spread)), torch.ones(1, 2))
    net = mip.build(SMALL, [0, 1], mip.ARMS["residual only"], mip.VARIANTS["adam"])
    net.params.views(net.params.flat)["output.weight"].zero_()
    spread = mip.spread_of_weights(net).view(1, 2, 1, 11)
    torch.testing.assert_close(mip.decades(_trained(spread=spread)), torch.zeros(1, 2))


def test_gradient_variation_ignores_scale_and_late_steps():
    norms = torch.tensor([1.0, 3.0]).repeat(2, 100)[None]
    late = torch.cat([norms, 1e6 * torch.ones(1, 2, 50)], -1)
    once, scaled = mip.gradient_variation(_trained(gradient=late)), mip.gradient_variation(_trained(gradient=7 * late))
    torch.testing.assert_close(once, scaled)
    torch.testing.assert_close(once, torch.full((1, 2), 0.5 * (200 / 199) ** 0.5))


def test_learning_means_half_of_the_last_fifty_of_250_minibatches_right():
    accuracy = torch.zeros(1, 2, 300)
    accuracy[:, 0, 200:] = 0.51
    accuracy[:, 1, :200] = 1.0
    accuracy[:, 1, 250:] = 1.0
    assert mip.learns(_trained(accuracy=accuracy)).tolist() == [[1.0, 0.0]]


def test_time_share_is_the_end_of_the_first_window_that_is_low_enough():
    reference = torch.ones(1, 2, 100)
    loss = torch.full((1, 2, 100), 2.0)
    loss[:, 0, 40:] = 1.0  # the 25 steps 41 to 65 are the first with mean 1; run 1 never arrives
    shares = mip.time_share(_trained(loss=loss), _trained(loss=reference))
    torch.testing.assert_close(shares, torch.tensor([[0.65, 1.0]]))


def test_rejects_names_and_mixtures_it_does_not_know():
    data = mip.load(SMALL, [0])
    with pytest.raises(ValueError, match="unknown name 'magic'"):
        mip.train(SMALL, data, "magic", ["penalty"])
    with pytest.raises(ValueError, match="equally many inputs"):
        mip.train(SMALL, data, "MIP", ["penalty", "penalty and smoothing"])
    with pytest.raises(ValueError, match="no tuned rates of 'unit'"):
        mip.train(SMALL, data, "unit", ["penalty"])
    with pytest.raises(ValueError, match="evidence starts at 100"):
        mip.tune(SMALL, [99, 100])
    with pytest.raises(ValueError, match="choose 'digits' or 'mnist-5k'"):
        mip.load(replace(SMALL, dataset="letters"), [0])


def test_chosen_rates_are_the_best_of_the_grid_for_every_arm_that_is_compared():
    for settings, plan in ((mip.QUICK, mip.PLAN), (mip.FULL, mip.FULL_PLAN)):
        for variant, tasks, arms in plan:
            for task in tasks:
                assert set(settings.rates[variant][task]) >= set(arms)
                assert set(settings.rates[variant][task].values()) <= set(settings.grid(variant))
