"""Oracles of the tangent kernel and of regression with it."""

import pytest
import torch

from reprise.blocks.kernels import (
    alignment,
    centered,
    descent_coefficients,
    kernel_similarity,
    ridge_coefficients,
    scaled_output,
    tangent_kernel,
)
from reprise.blocks.seeds import RunRNG, StackedMLP


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relu_net(own, x):
    hidden = torch.relu(x @ own["0.weight"] + own["0.bias"])
    return hidden @ own["1.weight"] + own["1.bias"]


def test_tangent_kernel_is_the_product_of_backpropagated_gradients():
    mlp = StackedMLP([0, 1, 2], (4, 6, 2))
    x = RunRNG([0, 1, 2], "x").normal(5, 4)
    kernel = tangent_kernel(relu_net, mlp.params, x)
    for run in range(3):
        net, gradients = mlp.module(run), []
        for sample in range(5):
            for column in range(2):
                grads = torch.autograd.grad(net(x[run, sample])[column], list(net.parameters()))
                gradients.append(torch.cat([g.flatten() for g in grads]))
        features = torch.stack(gradients).view(5, 2, -1)
        torch.testing.assert_close(kernel[run], torch.einsum("nkp,mkp->nm", features, features))


def test_kernel_between_two_sets_is_a_corner_of_the_kernel_of_both():
    mlp = StackedMLP([3], (4, 6, 1))
    x = RunRNG([3], "x").normal(7, 4)
    both = tangent_kernel(relu_net, mlp.params, x)
    torch.testing.assert_close(tangent_kernel(relu_net, mlp.params, x[:, :3], x[:, 3:]), both[:, :3, 3:])


def test_linear_model_has_the_inner_product_as_tangent_kernel():
    x = normal(2, 6, 3)
    kernel = tangent_kernel(lambda own, inputs: inputs @ own["w"], {"w": normal(2, 3)}, x)
    torch.testing.assert_close(kernel, x @ x.mT)


def test_alignment_is_one_for_the_targets_own_kernel_and_ignores_shift_and_scale():
    y = normal(3, 8)
    rank_one = y.unsqueeze(-1) * y.unsqueeze(-2)
    torch.testing.assert_close(alignment(7 * rank_one, y), torch.ones(3, dtype=torch.float64))
    features = normal(3, 8, 5, seed=1)
    kernel = features @ features.mT
    torch.testing.assert_close(alignment(kernel, 3 * y - 4), alignment(kernel, y))
    assert (alignment(kernel, y) < 1).all()


def test_alignment_is_the_cosine_between_centered_kernels():
    y, features = normal(1, 6)[0], normal(6, 3, seed=2)
    H = torch.eye(6, dtype=torch.float64) - 1 / 6
    one, other = H @ features @ features.T @ H, H @ torch.outer(y, y) @ H
    cosine = torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0)
    torch.testing.assert_close(alignment(features @ features.T, y), cosine)
    torch.testing.assert_close(kernel_similarity(features @ features.T, torch.outer(y, y)), cosine)
    torch.testing.assert_close(centered(torch.outer(y, y)), other)


def test_alignment_refuses_constant_targets():
    with pytest.raises(ValueError, match="targets that vary"):
        alignment(torch.eye(3), torch.ones(3))


def test_ridge_solves_the_normal_equations():
    features, y = normal(2, 6, 4), normal(2, 6, seed=1)
    kernel = features @ features.mT
    damped = features.mT @ features + 0.3 * torch.eye(4, dtype=torch.float64)
    weights = torch.linalg.solve(damped, features.mT @ y[..., None])
    c = ridge_coefficients(kernel, y, 0.3)
    torch.testing.assert_close(kernel @ c[..., None], features @ weights)
    with pytest.raises(ValueError, match="at least 0"):
        ridge_coefficients(kernel, y, -1.0)


def test_ridgeless_regression_interpolates_with_least_norm():
    features, y = normal(2, 5, 9), normal(2, 5, seed=1)  # more features than samples
    c = ridge_coefficients(features @ features.mT, y)
    least = torch.linalg.lstsq(features, y[..., None]).solution
    torch.testing.assert_close(features.mT @ c[..., None], least)


def test_frozen_descent_in_closed_form_equals_descent_step_by_step():
    features, y, rate = normal(2, 5, 3), normal(2, 5, seed=1), 0.2  # rank deficient on purpose
    kernel, f = features @ features.mT, torch.zeros(2, 5, dtype=torch.float64)
    closed = descent_coefficients(kernel, y, rate, torch.tensor([0, 1, 7, 40]))
    seen = {0: f}
    for step in range(1, 41):
        f = f - rate / 5 * (kernel @ (f - y)[..., None])[..., 0]
        seen[step] = f
    for i, step in enumerate([0, 1, 7, 40]):
        torch.testing.assert_close((kernel @ closed[:, i, :, None])[..., 0], seen[step])


def test_frozen_descent_refuses_a_rate_that_diverges():
    with pytest.raises(ValueError, match="diverges"):
        descent_coefficients(4 * torch.eye(3).unsqueeze(0), torch.ones(1, 3), 2.0, torch.tensor([1]))


def test_scaled_output_starts_at_zero_and_takes_a_scale_per_run():
    start, now = normal(2, 4), normal(2, 4, seed=1)
    torch.testing.assert_close(scaled_output(start, start, 5.0), torch.zeros_like(start))
    scaled = scaled_output(now, start, torch.tensor([1.0, 10.0], dtype=torch.float64))
    torch.testing.assert_close(scaled[1], 10 * (now - start)[1])
    torch.testing.assert_close(scaled[0], (now - start)[0])
