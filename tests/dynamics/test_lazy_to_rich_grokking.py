"""Oracles of the exactly solvable network: explicit weights and autograd, sampling, limits, symmetry."""

from dataclasses import replace

import pytest
import torch

from reprise.blocks.kernels import descend_scaled, ridge_coefficients
from reprise.blocks.seeds import ParameterStore
from reprise.dynamics import lazy_to_rich_grokking as grok


def double_task(runs: int = 2, samples: int = 30, d: int = 6) -> grok.Task:
    task = grok.make_task(range(runs), d, samples)
    return grok.Task(task.x.double(), task.direction.double())


def draw_weights(runs: int = 2, width: int = 12, d: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(runs, width, d, generator=generator, dtype=torch.float64) / d**0.5


def network(weights, start, x, alpha, epsilon):
    """The paper's definition, neuron by neuron: (runs, samples)."""

    def phi(h):
        return h + 0.5 * epsilon * h**2

    return alpha * (phi(x @ weights.mT) - phi(x @ start.mT)).mean(-1)


def train_weights(task, weights, alpha, epsilon, rate, steps, decay=0.0):
    """Gradient descent by autograd on every weight, with the rate multiplied by the width."""
    start, now = weights, weights.clone().requires_grad_()
    losses = []
    for _ in range(steps + 1):
        residual = network(now, start, task.x, alpha, epsilon) - task.y
        losses.append(residual.square().mean(-1).detach())
        loss = residual.square().mean(-1).sum() / (2 * alpha**2)
        (gradient,) = torch.autograd.grad(loss, now)
        before = now.detach()
        now = (before - rate * weights.shape[1] * gradient - rate * decay * before).requires_grad_()
    return before, torch.stack(losses, 1)


def test_moment_recursion_equals_descent_on_every_weight():
    task, weights = double_task(), draw_weights()
    for alpha, epsilon, decay in [(0.7, 0.25, 0.0), (5.0, 0.6, 0.02)]:
        start = grok.moments_of(weights, 1)
        run = grok.descend(task, [alpha], [epsilon], 0.2, 200, [decay], start)
        final, losses = train_weights(task, weights, alpha, epsilon, 0.2, 200, decay)
        torch.testing.assert_close(run.train_loss[:, 0], losses[:, run.steps], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(run.weight_norm[:, 0, -1], final.square().sum(-1).mean(-1), rtol=1e-10, atol=1e-12)


def test_hand_written_gradient_equals_autograd():
    task, weights, alpha, epsilon = double_task(), draw_weights(), 1.3, 0.4
    moved = (weights + 0.3 * weights.flip(1)).requires_grad_()
    residual = network(moved, weights, task.x, alpha, epsilon) - task.y
    (gradient,) = torch.autograd.grad((residual.square().mean(-1) / (2 * alpha**2)).sum(), moved)
    g, G = grok.gradient_terms(task.x, residual.detach().unsqueeze(1))
    by_hand = (g + epsilon * moved.detach() @ G[:, 0].mT) / (alpha * weights.shape[1])
    torch.testing.assert_close(by_hand, gradient)


def test_test_loss_identity_agrees_with_sampling():
    generator = torch.Generator().manual_seed(1)
    linear, raw = torch.randn(6, generator=generator), torch.randn(6, 6, generator=generator)
    direction = torch.nn.functional.normalize(torch.randn(6, generator=generator), dim=0)
    function = grok.Predictor(0.3 * linear, 0.3 * (raw + raw.T))
    exact = sum(grok.test_terms(function, direction).values())
    x = torch.randn(200_000, 6, generator=generator)
    f = x @ function.linear + 0.5 * ((x @ function.quadratic) * x).sum(-1)
    errors = (f - 0.5 * (x @ direction).square()).square()
    assert (exact - errors.mean()).abs() < 3 * errors.std() / len(x) ** 0.5


def test_every_part_of_the_test_loss_means_what_it_is_called():
    beta = torch.tensor([1.0, 0, 0])
    target, zero = torch.outer(beta, beta), torch.zeros(3)
    right = grok.test_terms(grok.Predictor(zero, target), beta)
    assert all(part == 0 for part in right.values())
    tilted = grok.test_terms(grok.Predictor(torch.tensor([0, 2.0, 0]), target), beta)
    assert tilted["linear"] == 4
    assert sum(tilted.values()) == 4
    off = target + torch.diag(torch.tensor([0, 1.0, -1.0]))  # B off β, without trace
    parts = grok.test_terms(grok.Predictor(zero, off), beta)
    assert parts["variance"] == 1
    assert sum(parts.values()) == 1
    nothing = grok.test_terms(grok.Predictor(zero, torch.zeros(3, 3)), beta)
    assert nothing["misalignment"] == 0.5
    assert sum(nothing.values()) == grok.START_LOSS


def test_network_kernel_is_the_inner_product_of_weight_gradients():
    task, weights, epsilon = double_task(), draw_weights(), 0.4
    features = (1 + epsilon * task.x @ weights.mT).unsqueeze(-1) * task.x.unsqueeze(2)  # ∂φ(w_i·x)/∂w_i
    expected = torch.einsum("rpid,rqid->rpq", features, features) / weights.shape[1]
    kernel = grok.network_kernel(task.x, grok.moments_of(weights, 1), torch.tensor([epsilon], dtype=torch.float64))
    torch.testing.assert_close(kernel[:, 0], expected)


def test_initial_kernel_is_the_network_kernel_at_infinite_width():
    task, epsilon = double_task(), torch.tensor([0.3], dtype=torch.float64)
    start = grok.infinite_width(2, 1, 6, task.x)
    torch.testing.assert_close(grok.initial_kernel(task.x, 0.3), grok.network_kernel(task.x, start, epsilon)[:, 0])


def test_lazy_limit_is_descent_with_the_frozen_kernel():
    task, epsilon = double_task(samples=20), 0.5
    distances = []
    for laziness in (20.0, 200.0):
        run = grok.descend(task, [laziness * 6 / epsilon], [epsilon], 0.2, 300)
        frozen = grok.frozen_test_loss(task, epsilon, 0.2, run.steps)
        distances.append(((run.test_loss[:, 0] - frozen).abs() / frozen).max())
    assert distances[1] < 0.01
    assert 5 < distances[0] / distances[1] < 20  # the error is of order 1/ℓ


def test_kernel_function_takes_the_values_of_the_kernel_expansion():
    task = double_task(samples=20)
    c = ridge_coefficients(grok.initial_kernel(task.x, 0.5), task.y)
    function = grok.kernel_function(task, 0.5, c.unsqueeze(1))
    torch.testing.assert_close(grok.outputs(task.x, function)[:, 0], task.y)  # 20 samples, 27 features: interpolated


def test_almost_flat_activation_learns_no_more_than_the_best_linear_predictor():
    task = double_task(samples=4000)
    run = grok.descend(task, [1.0], [1e-6], 0.3, 300)
    assert run.test_loss[:, 0].min() > 0.99 * grok.START_LOSS  # y is even, so no linear function helps


def test_losses_do_not_depend_on_the_coordinates():
    task = double_task()
    rotation = torch.linalg.qr(draw_weights(1, 6, 6)[0])[0]
    turned = grok.Task(task.x @ rotation, task.direction @ rotation)
    one, other = (grok.descend(t, [0.8], [0.25], 0.2, 300) for t in (task, turned))
    torch.testing.assert_close(one.train_loss, other.train_loss)
    torch.testing.assert_close(one.test_loss, other.test_loss)


def test_a_network_that_knows_the_target_stays():
    task, alpha, epsilon = double_task(), torch.tensor([2.0]).double(), torch.tensor([0.5]).double()
    start = grok.infinite_width(2, 1, 6, task.x)
    beta = task.direction.unsqueeze(1)
    solved = grok.Moments(start.mean, start.second + beta.unsqueeze(-1) * beta.unsqueeze(-2) / (alpha * epsilon))
    residual = grok.outputs(task.x, grok.predictor(solved, start, alpha, epsilon)) - task.y.unsqueeze(1)
    after = grok.moment_step(solved, *grok.gradient_terms(task.x, residual), alpha, epsilon, 0.3)
    torch.testing.assert_close(after.second, solved.second)
    assert residual.abs().max() < 1e-12


def test_a_run_does_not_depend_on_its_neighbors():
    def losses(seeds, alphas):
        run = grok.descend(grok.make_task(seeds, 6, 30).first(20), alphas, [0.25] * len(alphas), 0.2, 60)
        return run.test_loss

    stacked = losses([3, 4, 5], [0.5, 2.0])
    torch.testing.assert_close(losses([4], [2.0])[0, 0], stacked[1, 1], rtol=1e-4, atol=1e-6)


def test_sampled_and_closed_form_loss_agree_along_a_run():
    run = grok.descend(grok.make_task([0, 1], 6, 30), [0.5], [0.25], 0.2, 100)
    errors = grok.sampling_errors(run, 0, 4, 50_000, [0, 1])
    assert errors.shape == (2, 4)
    assert (errors < 4).all()


def test_spread_between_replicas_shrinks_with_dimension():
    settings = grok.Settings(replicas=12, limit_steps=60)
    small, large = (grok.limit_spread([0, 1, 2], d, settings)["spread"].mean() for d in (8, 40))
    assert large < 0.8 * small


def test_bad_input_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="make a larger one"):
        grok.make_task([0], 4, 10).first(11)
    with pytest.raises(ValueError, match="as many output scales"):
        grok.descend(grok.make_task([0], 4, 10), [1.0, 2.0], [0.5], 0.1, 5)
    with pytest.raises(ValueError, match="choose a smaller one"):
        grok.descend(grok.make_task([0], 4, 10), [0.01], [0.5], 50.0, 200)


def test_scaled_descent_agrees_with_the_exact_network():
    # the general trainer on explicit weights, with autograd, against the recursion of the moments
    task, weights, alpha, epsilon = double_task(), draw_weights(), 1.3, 0.4
    params = ParameterStore(2, {"w": weights.shape[1:]}, dtype=torch.float64)
    params.load({"w": weights})

    def outputs():
        h = task.x @ params["w"].mT
        return (h + 0.5 * epsilon * h**2).mean(-1, keepdim=True)

    side, width = (outputs, task.y.unsqueeze(-1)), weights.shape[1]
    scale, rate = torch.full((2,), alpha).double(), torch.full((2,), 0.2 * width).double()
    train, test = descend_scaled(params, side, side, scale, rate, torch.tensor([0, 10, 50]))
    run = grok.descend(task, [alpha], [epsilon], 0.2, 50, start=grok.moments_of(weights, 1))
    torch.testing.assert_close(train[:, -1], run.train_loss[:, 0, -1])
    torch.testing.assert_close(test, train)


@pytest.mark.parametrize("name", list(grok.PROBLEMS))
def test_networks_start_at_the_loss_of_zero_and_each_seed_is_its_own(name):
    def losses(seeds):
        return grok.train_networks(name, seeds, replace(grok.NETWORKS[name], num_steps=10))

    both, problem = losses([3, 4]), grok.PROBLEMS[name]([4])
    alone = losses([4])
    power = problem.train_targets.square().sum(-1).mean().item()
    assert alone.train_loss[0, 0, 0].item() == pytest.approx(power, rel=1e-5)
    torch.testing.assert_close(both.test_loss[1], alone.test_loss[0], rtol=1e-4, atol=1e-6)
    assert (alone.train_loss[..., -1] < alone.train_loss[..., 0]).all()


def test_network_arrivals_count_from_each_runs_final_loss():
    steps = torch.tensor([0, 1, 2, 4])
    falls = torch.tensor([[[1.0, 0.5, 0.1, 0.0]]])
    late = torch.tensor([[[1.0, 1.1, 0.65, 0.5]]])  # within 20 % of its drop only at the end
    arrived = grok.network_arrivals(grok.NetworkRun(steps, falls, late))
    assert arrived.train.item() == 2
    assert arrived.test.item() == 4
    with pytest.raises(ValueError, match="smaller learning rates"):
        grok.network_arrivals(grok.NetworkRun(steps, falls, late * torch.nan))


def test_modular_problem_splits_all_pairs_and_names_their_sums():
    problem = grok.modular_problem([0, 1])
    targets = torch.cat([problem.train_targets, problem.test_targets], 1)
    assert targets.shape == (2, 23 * 23, 23)
    counts = torch.stack([own.argmax(-1).bincount() for own in targets])
    assert (counts == 23).all()  # each sum occurs once per first summand
