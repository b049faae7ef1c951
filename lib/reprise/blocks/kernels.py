"""Tangent kernels: what a network would learn if its features stood still, and how well they suit a task.

The tangent kernel of a network f(x; θ) is K(x, x') = Σ_θ ∂f(x)/∂θ · ∂f(x')/∂θ. While it does not change, gradient
descent is kernel regression with K ("lazy" training); once it changes, the network learns features ("rich").
Everything has the run axis first. For outputs with several columns, K is summed over columns.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import jacrev, vmap

from reprise.blocks.seeds import FlatSGD, ParameterStore

Function = Callable[[dict[str, Tensor], Tensor], Tensor]
Outputs = Callable[[], Tensor]


def scaled_output(now: Tensor, start: Tensor, scale: Tensor | float) -> Tensor:
    """α(f(x; θ) - f(x; θ0)): zero at the start of training; a larger α lets weights move less for the same output.

    Together with a loss divided by α² the scale α changes how far features move, not how fast outputs do at first
    (Chizat, Oyallon & Bach 2019, sec. 1.1).

    Args:
        now: outputs of the current weights, (runs, ...).
        start: outputs of the initial weights, same shape.
        scale: α > 0, a number or one per run (runs,).
    """
    if isinstance(scale, Tensor):
        scale = scale.view(-1, *[1] * (now.ndim - 1))
    return scale * (now - start)


def descend_scaled(
    params: ParameterStore,
    train: tuple[Outputs, Float[Tensor, "runs n outputs"]],
    test: tuple[Outputs, Float[Tensor, "runs m outputs"]],
    scale: Float[Tensor, " runs"],
    learning_rate: Float[Tensor, " runs"],
    steps: Int[Tensor, " logged"],
) -> tuple[Float[Tensor, "runs logged"], Float[Tensor, "runs logged"]]:
    """Full-batch gradient descent on mean |α(f - f₀) - y|² / (2α²) of stacked networks, whatever their architecture.

    Args:
        params: the networks' parameters, changed in place.
        train, test: a function that computes all outputs with the current parameters, and the targets.
        scale: α, one per run.
        learning_rate: one per run.
        steps: at which losses are logged, ascending; the last one ends training.
    Returns:
        Training and test loss, mean |α(f - f₀) - y|², infinite or NaN where a run diverged.
    """
    with torch.no_grad():
        starts = train[0](), test[0]()

    def loss(side: tuple[Outputs, Tensor], start: Tensor) -> Tensor:
        return (scaled_output(side[0](), start, scale) - side[1]).square().sum(-1).mean(-1)

    optimizer, logged = FlatSGD(params, learning_rate), set(steps.tolist())
    train_losses, test_losses = [], []
    for step in range(int(steps[-1]) + 1):
        params.zero_grad()
        now = loss(train, starts[0])
        if step in logged:
            with torch.no_grad():
                train_losses.append(now.detach())
                test_losses.append(loss(test, starts[1]))
        (now / (2 * scale**2)).sum().backward()
        optimizer.step()
    return torch.stack(train_losses, 1), torch.stack(test_losses, 1)


def tangent_kernel(
    function: Function,
    params: Mapping[str, Tensor] | ParameterStore,
    x: Float[Tensor, "runs n ..."],
    other: Float[Tensor, "runs m ..."] | None = None,
) -> Float[Tensor, "runs n m"]:
    """The empirical tangent kernel of stacked networks, by automatic differentiation.

    Args:
        function: (params of one run, inputs of one run (n, ...)) -> outputs (n,) or (n, outputs).
        params: name -> (runs, ...), or a store.
        x: inputs, one set per run.
        other: second set of inputs; `x` where missing.
    """
    stacked = {name: params[name].detach() for name in params.keys()}  # noqa: SIM118  (a store's keys, not an iterator)

    def features(own: dict[str, Tensor], inputs: Tensor) -> Tensor:
        jacobian = jacrev(lambda p: function(p, inputs).reshape(len(inputs), -1))(own)
        return torch.cat([part.flatten(2) for part in jacobian.values()], dim=2).flatten(1)

    left = vmap(features)(stacked, x)
    right = left if other is None else vmap(features)(stacked, other)
    return left @ right.mT


def centered(kernel: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch n n"]:
    """HKH with H = I - 11ᵀ/n: the kernel of the same features after their mean over the samples is taken away."""
    rows = kernel - kernel.mean(-1, keepdim=True)
    return rows - rows.mean(-2, keepdim=True)


def alignment(kernel: Float[Tensor, "*batch n n"], targets: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Centered kernel-target alignment, CKA(K, yyᵀ) = yᵀK̃y / (‖K̃‖ ‖ỹ‖²), tilde for centered.

    Between 0 and 1 for positive semi-definite K; 1 if and only if K̃ is a multiple of ỹỹᵀ
    (Cortes, Mohri & Rostamizadeh 2012, def. 4).

    Raises:
        ValueError: the targets are constant, so that there is nothing to align with.
    """
    kernel, targets = centered(kernel), targets - targets.mean(-1, keepdim=True)
    squares = targets.square().sum(-1)
    if (squares == 0).any():
        raise ValueError("alignment needs targets that vary; all targets of a run are equal")
    along = torch.einsum("...i,...ij,...j->...", targets, kernel, targets)
    return along / (torch.linalg.matrix_norm(kernel) * squares)


def kernel_similarity(one: Float[Tensor, "*batch n n"], other: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch"]:
    """Centered kernel alignment of two kernels: 1 where they differ by a factor only, so 1 - it measures change."""
    one, other = centered(one), centered(other)
    return (one * other).sum((-1, -2)) / (torch.linalg.matrix_norm(one) * torch.linalg.matrix_norm(other))


def ridge_coefficients(
    kernel: Float[Tensor, "runs n n"], targets: Float[Tensor, "runs n"], ridge: float = 0.0
) -> Float[Tensor, "runs n"]:
    """c with f(x) = Σ_μ c_μ K(x, x_μ) minimises Σ_μ (f_μ - y_μ)² + ridge · cᵀKc.

    Ridge 0 gives the interpolant of least norm (directions that K lacks get no weight).

    Args:
        kernel: positive semi-definite.
        targets: y.
        ridge: at least 0, in units of the kernel. Directions of eigenvalue below 1e-10 of the largest count as zero.
    """
    if ridge < 0:
        raise ValueError(f"the ridge must be at least 0, not {ridge}")
    values, vectors, inside = _spectrum(kernel, targets)
    inside = torch.where(values > 0, inside / (values + ridge), 0.0)
    return (vectors @ inside.unsqueeze(-1)).squeeze(-1).to(targets.dtype)


def descent_coefficients(
    kernel: Float[Tensor, "runs n n"],
    targets: Float[Tensor, "runs n"],
    learning_rate: float,
    steps: Int[Tensor, " logged"],
) -> Float[Tensor, "runs logged n"]:
    """Coefficients after so many steps of descent on ½ mean (f - y)² with K frozen, from f = 0, in closed form.

    f_{t+1} = f_t - (η/n) K (f_t - y) gives c_t = (I - (I - ηK/n)^t) K⁻¹ y.

    Raises:
        ValueError: the learning rate exceeds 2n / (largest eigenvalue), where descent diverges.
    """
    n = kernel.shape[-1]
    values, vectors, inside = _spectrum(kernel, targets)
    if learning_rate * values.max() > 2 * n:
        raise ValueError(
            f"learning rate {learning_rate} diverges for this kernel; choose below {2 * n / values.max():.3g}"
        )
    left = (1 - learning_rate * values / n).unsqueeze(1) ** steps.view(1, -1, 1).to(values.device)
    inside = (1 - left) * torch.where(values > 0, inside / values, 0.0).unsqueeze(1)
    return (inside @ vectors.mT).to(targets.dtype)


def _spectrum(kernel: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues (tiny ones set to zero), eigenvectors, and the targets along them.

    In double, because kernels are often nearly singular.
    """
    values, vectors = torch.linalg.eigh(kernel.double())
    values = torch.where(values > 1e-10 * values[:, -1:], values, 0.0)
    return values, vectors, (vectors.mT @ targets.double().unsqueeze(-1)).squeeze(-1)
