"""Grokking as the passage from lazy to rich training, in a two-layer network that can be followed exactly.

Kumar, Bordelon, Gershman & Pehlevan, "Grokking as the Transition from Lazy to Rich Training Dynamics", ICLR 2024
(arXiv 2310.06110). Symbols: x inputs (d,), β target direction (unit), w_i hidden weights, N width, α output scale,
ε curvature of the activation φ(h) = h + εh²/2, P samples, η learning rate, ℓ = αε/d laziness. The network is
f(x) = (α/N) Σ_i [φ(w_i·x) - φ(w_i(0)·x)], its readout fixed; the target is y = (β·x)²/2. Because φ is quadratic,
f depends on the weights only through their mean w̄ and second moment M, and so does its training.
The second half of the file turns the same knob α in networks that have no closed form.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from reprise.blocks.data import digits, split
from reprise.blocks.kernels import alignment, descend_scaled, descent_coefficients, ridge_coefficients
from reprise.blocks.passage import first_below, log_spaced
from reprise.blocks.seeds import ParameterStore, RunRNG, StackedMLP
from reprise.blocks.transformer import Shape, StackedTransformer

START_LOSS = 0.75  # E y² for x ~ N(0, I): the test loss of f = 0


@dataclass(frozen=True)
class Settings:
    """Sizes of both halves of the experiment; `tune` repeats how the rates and scales were chosen."""

    inputs: int = 40
    samples: int = 300
    few: int = 80
    many: int = 1200
    aligned_samples: int = 450  # where the curvature ε varies, at this output scale:
    alpha: float = 1.6
    epsilons: tuple[float, ...] = (0.1, 0.25, 0.5)
    epsilon: float = 0.25
    laziness: tuple[float, ...] = (0.003, 0.006, 0.012, 0.024, 0.1, 2.0)
    main: float = 0.012
    learning_rate: float = 0.3
    num_steps: int = 8000  # of the runs whose end counts
    sweep_steps: int = 2000  # of the sweep over laziness
    many_steps: int = 600  # of the sweep with many samples, where both losses fall soon
    ridge: float = 0.0  # of the tuned kernel regression
    share: float = 0.05  # a loss has fallen when it is below this share of its start
    limit_inputs: tuple[int, ...] = ()  # the mean-field limit: d, with P/d, N/d and α/d fixed
    limit_samples: float = 7.5
    limit_width: float = 5.0
    limit_steps: int = 600
    replicas: int = 10

    def scales(self, *laziness: float) -> tuple[list[float], list[float]]:
        """Output scales α = ℓd/ε for these values of ℓ, and the curvatures that go with them."""
        return [value * self.inputs / self.epsilon for value in laziness], [self.epsilon] * len(laziness)


QUICK = Settings()
FULL = Settings(limit_inputs=(50, 200))


# --- data -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Training data of stacked runs: x ~ N(0, I), y = (β·x)²/2."""

    x: Float[Tensor, "runs samples d"]
    direction: Float[Tensor, "runs d"]

    @cached_property
    def y(self) -> Float[Tensor, "runs samples"]:
        return 0.5 * torch.einsum("rpd,rd->rp", self.x, self.direction).square()

    def first(self, samples: int) -> "Task":
        """The same task with only its first `samples` samples: data sets of different size are nested."""
        if samples > self.x.shape[1]:
            raise ValueError(f"the task has {self.x.shape[1]} samples, not {samples}; make a larger one")
        return Task(self.x[:, :samples], self.direction)


def make_task(seeds: Sequence[int], inputs: int, samples: int, device: str | torch.device = "cpu") -> Task:
    """Draw one task per seed; a seed's samples do not depend on the other seeds."""
    if inputs < 1 or samples < 1:
        raise ValueError(f"a task needs at least one input and one sample; got {inputs} and {samples}")
    x = RunRNG(seeds, "inputs", device).normal(samples, inputs)
    direction = RunRNG(seeds, "direction", device).normal(inputs)
    return Task(x, direction / direction.norm(dim=-1, keepdim=True))


# --- the network, by its moments ------------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """What the outputs know of the hidden weights: mean w̄ and second moment M, per run and condition."""

    mean: Float[Tensor, "runs conditions d"]
    second: Float[Tensor, "runs conditions d d"]


def infinite_width(runs: int, conditions: int, d: int, like: Tensor) -> Moments:
    """Moments of w ~ N(0, I/d) in the limit of many neurons: w̄ = 0, M = I/d."""
    identity = torch.eye(d, dtype=like.dtype, device=like.device) / d
    return Moments(like.new_zeros(runs, conditions, d), identity.repeat(runs, conditions, 1, 1))


def moments_of(weights: Float[Tensor, "runs width d"], conditions: int) -> Moments:
    """Moments of actual weights w_i, the same for every condition."""
    second = weights.mT @ weights / weights.shape[1]
    return Moments(
        weights.mean(1).unsqueeze(1).repeat(1, conditions, 1), second.unsqueeze(1).repeat(1, conditions, 1, 1)
    )


@dataclass(frozen=True)
class Predictor:
    """A function f(x) = a·x + x·Cx/2, the only kind that the network and its tangent kernel can represent."""

    linear: Float[Tensor, "*batch d"]
    quadratic: Float[Tensor, "*batch d d"]


def predictor(
    now: Moments, start: Moments, alpha: Float[Tensor, " conditions"], epsilon: Float[Tensor, " conditions"]
) -> Predictor:
    """The function of the network: a = α(w̄ - w̄₀), C = αε(M - M₀)."""
    return Predictor(
        alpha[:, None] * (now.mean - start.mean),
        (alpha * epsilon)[:, None, None] * (now.second - start.second),
    )


def outputs(x: Float[Tensor, "runs samples d"], function: Predictor) -> Float[Tensor, "runs conditions samples"]:
    """f(x) on every sample, of functions with axes (runs, conditions, ...)."""
    runs, conditions, d = function.linear.shape
    # one product per run for all its conditions: the samples are shared
    side_by_side = (0.5 * function.quadratic).transpose(1, 2).reshape(runs, d, conditions * d)
    curved = torch.bmm(x, side_by_side).view(runs, -1, conditions, d)
    curved += function.linear.unsqueeze(1)  # in place: these are the largest arrays of a step
    curved *= x.unsqueeze(2)
    return curved.sum(-1).transpose(1, 2)


def gradient_terms(
    x: Float[Tensor, "runs samples d"], residual: Float[Tensor, "runs conditions samples"]
) -> tuple[Float[Tensor, "runs conditions d"], Float[Tensor, "runs conditions d d"]]:
    """g = mean r x and G = mean r xxᵀ; the gradient for neuron i is proportional to g + εGw_i."""
    runs, samples, d = x.shape
    weighted = (residual.transpose(1, 2).unsqueeze(-1) * x.unsqueeze(2)).view(runs, samples, -1)
    curved = torch.bmm(x.mT, weighted).view(runs, d, -1, d).transpose(1, 2)
    return residual @ x / samples, curved / samples


def moment_step(
    now: Moments,
    g: Float[Tensor, "runs conditions d"],
    G: Float[Tensor, "runs conditions d d"],
    alpha: Float[Tensor, " conditions"],
    epsilon: Float[Tensor, " conditions"],
    learning_rate: float,
    weight_decay: Float[Tensor, " conditions"] | float = 0.0,
) -> Moments:
    """One step of gradient descent w ← w - (η/α)(g + εGw) - ηλw on all neurons at once, exactly.

    With A = (1 - ηλ)I - (ηε/α)G and b = (η/α)g every neuron maps as w ← Aw - b, so
    w̄ ← Aw̄ - b and M ← AMAᵀ - A w̄bᵀ - b(Aw̄)ᵀ + bbᵀ.
    """
    step = (learning_rate / alpha)[:, None]
    keep = 1 - learning_rate * torch.as_tensor(weight_decay, dtype=G.dtype, device=G.device).reshape(-1, 1, 1)
    A = keep * torch.eye(G.shape[-1], dtype=G.dtype, device=G.device) - (step * epsilon[:, None])[:, :, None] * G
    b = step * g
    moved = (A @ now.mean.unsqueeze(-1)).squeeze(-1)
    # AMAᵀ - A w̄bᵀ + b(b - Aw̄)ᵀ, grouped so that fewer matrices pass through memory
    half = now.second @ A.mT - now.mean.unsqueeze(-1) * b.unsqueeze(-2)
    second = A @ half + b.unsqueeze(-1) * (b - moved).unsqueeze(-2)
    return Moments(moved - b, second)


# --- training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trajectory:
    """What training left behind: the function at logged steps; all other measures follow from it."""

    task: Task
    steps: Int[Tensor, " logged"]
    alpha: Float[Tensor, " conditions"]
    epsilon: Float[Tensor, " conditions"]
    start: Moments
    function: Predictor  # axes (runs, conditions, logged, ...)
    train_loss: Float[Tensor, "runs conditions logged"]  # mean (f - y)²

    @cached_property
    def test_loss(self) -> Float[Tensor, "runs conditions logged"]:
        """E_x (f - y)², exactly."""
        return sum(self.test_terms.values())

    @cached_property
    def test_terms(self) -> dict[str, Float[Tensor, "runs conditions logged"]]:
        return test_terms(self.function, self.task.direction[:, None, None])

    @cached_property
    def weight_norm(self) -> Float[Tensor, "runs conditions logged"]:
        """Mean squared length of a neuron's weights, tr M."""
        moved = torch.diagonal(self.function.quadratic, dim1=-2, dim2=-1).sum(-1)
        first = torch.diagonal(self.start.second, dim1=-2, dim2=-1).sum(-1)
        return first.unsqueeze(-1) + moved / (self.alpha * self.epsilon)[:, None]

    def moments(self, logged: int) -> Moments:
        """Moments of the weights at one logged step, read off the function."""
        return Moments(
            self.start.mean + self.function.linear[:, :, logged] / self.alpha[:, None],
            self.start.second + self.function.quadratic[:, :, logged] / (self.alpha * self.epsilon)[:, None, None],
        )

    @cached_property
    def overlap(self) -> Float[Tensor, "runs conditions logged"]:
        """Share (0-1) of the squared weights that points along the target: βᵀMβ / tr M, at first about 1/d."""
        beta = self.task.direction
        moved = torch.einsum("rclij,ri,rj->rcl", self.function.quadratic, beta, beta)
        first = torch.einsum("rcij,ri,rj->rc", self.start.second, beta, beta)
        return (first.unsqueeze(-1) + moved / (self.alpha * self.epsilon)[:, None]) / self.weight_norm

    def alignment(self, logged: slice = slice(None)) -> Float[Tensor, "runs conditions kept"]:
        """Centered alignment of the tangent kernel with the training targets, at these logged steps."""
        columns = []
        for i in range(len(self.steps))[logged]:
            kernel = network_kernel(self.task.x, self.moments(i), self.epsilon)
            columns.append(alignment(kernel, self.task.y.unsqueeze(1).expand(-1, kernel.shape[1], -1)))
        return torch.stack(columns, -1)


def descend(
    task: Task,
    alphas: Sequence[float],
    epsilons: Sequence[float],
    learning_rate: float,
    num_steps: int,
    weight_decays: Sequence[float] | None = None,
    start: Moments | None = None,
) -> Trajectory:
    """Full-batch gradient descent on L = mean (f - y)² / (2α²), all runs and conditions in one loop.

    Args:
        task: data and targets.
        alphas, epsilons: one per condition.
        learning_rate: η, multiplied by the width as in the paper, so that it does not depend on it.
        num_steps: updates.
        weight_decays: λ per condition; none by default.
        start: initial moments; infinite width where missing.
    Raises:
        ValueError: α or ε is not positive, their numbers differ, or training diverged.
    """
    if len(alphas) != len(epsilons) or min(*alphas, *epsilons) <= 0:
        raise ValueError(f"give as many output scales as curvatures, all positive; got {alphas} and {epsilons}")
    x, (runs, _, d) = task.x, task.x.shape
    alpha, epsilon = x.new_tensor(alphas), x.new_tensor(epsilons)
    decay = x.new_zeros(len(alphas)) if weight_decays is None else x.new_tensor(weight_decays)
    now = start = start or infinite_width(runs, len(alphas), d, x)
    steps, kept, losses = log_spaced(num_steps), [], []
    logged = set(steps.tolist())
    for step in range(num_steps + 1):
        function = predictor(now, start, alpha, epsilon)
        residual = outputs(x, function) - task.y.unsqueeze(1)
        if step in logged:
            kept.append(function)
            losses.append(residual.square().mean(-1))
        g, G = gradient_terms(x, residual)
        now = moment_step(now, g, G, alpha, epsilon, learning_rate, decay)
    if not torch.isfinite(losses[-1]).all():
        raise ValueError(f"training diverged at learning rate {learning_rate}; choose a smaller one")
    function = Predictor(torch.stack([f.linear for f in kept], 2), torch.stack([f.quadratic for f in kept], 2))
    return Trajectory(task, steps, alpha, epsilon, start, function, torch.stack(losses, 2))


# --- measures -------------------------------------------------------------------------------------


def test_terms(function: Predictor, direction: Float[Tensor, "*batch d"]) -> dict[str, Float[Tensor, "..."]]:
    """The test loss E_x (f - y)² = ‖a‖² + ‖B‖²/2 + (tr B)²/4 with B = C - ββᵀ, in four parts that add up to it.

    "linear" ‖a‖²; "misalignment": what of B touches β (on β itself and across); "variance": what of B lies off β;
    "offset": (tr B)²/4, the square of the mean error.
    """
    direction = direction.expand_as(function.linear)
    B = function.quadratic - direction.unsqueeze(-1) * direction.unsqueeze(-2)
    toward = (B @ direction.unsqueeze(-1)).squeeze(-1)  # Bβ
    on = (toward * direction).sum(-1)  # βᵀBβ
    touching = toward.square().sum(-1) - 0.5 * on.square()
    return {
        "linear": function.linear.square().sum(-1),
        "misalignment": touching,
        "variance": 0.5 * B.square().sum((-1, -2)) - touching,
        "offset": 0.25 * torch.diagonal(B, dim1=-2, dim2=-1).sum(-1).square(),
    }


def network_kernel(
    x: Float[Tensor, "runs samples d"], now: Moments, epsilon: Float[Tensor, " conditions"]
) -> Float[Tensor, "runs conditions samples samples"]:
    """Tangent kernel K(x, x') = x·x' [1 + ε w̄·(x + x') + ε² x·Mx'], without the common factor α²/N."""
    inner = (x @ x.mT).unsqueeze(1)
    mean = epsilon[:, None] * (now.mean @ x.mT)
    curved = epsilon[:, None, None] ** 2 * (x.unsqueeze(1) @ now.second @ x.mT.unsqueeze(1))
    return inner * (1 + mean.unsqueeze(-1) + mean.unsqueeze(-2) + curved)


def initial_kernel(x: Float[Tensor, "runs samples d"], epsilon: float) -> Float[Tensor, "runs samples samples"]:
    """K₀ at infinite width: x·x' (1 + ε² x·x'/d)."""
    inner = x @ x.mT
    return inner * (1 + epsilon**2 * inner / x.shape[-1])


def kernel_function(task: Task, epsilon: float, coefficients: Float[Tensor, "runs *batch samples"]) -> Predictor:
    """Σ_μ c_μ K₀(x, x_μ) as a function a·x + x·Cx/2, so that its test loss is exact too."""
    linear = torch.einsum("r...p,rpd->r...d", coefficients, task.x)
    quadratic = torch.einsum("r...p,rpd,rpe->r...de", coefficients, task.x, task.x)
    return Predictor(linear, 2 * epsilon**2 / task.x.shape[-1] * quadratic)


def kernel_test_loss(task: Task, epsilon: float, ridge: float = 0.0) -> Float[Tensor, " runs"]:
    """Exact test loss of kernel (ridge) regression with K₀ on the task's data."""
    coefficients = ridge_coefficients(initial_kernel(task.x, epsilon), task.y, ridge)
    return sum(test_terms(kernel_function(task, epsilon, coefficients), task.direction).values())


def frozen_test_loss(
    task: Task, epsilon: float, learning_rate: float, steps: Int[Tensor, " logged"]
) -> Float[Tensor, "runs logged"]:
    """Exact test loss of the linearised network (K frozen at K₀) under the same descent; it is the same for every α."""
    kernel = initial_kernel(task.x, epsilon)
    coefficients = descent_coefficients(kernel, task.y, learning_rate, steps)
    function = kernel_function(task, epsilon, coefficients)
    return sum(test_terms(function, task.direction.unsqueeze(1)).values())


@dataclass(frozen=True)
class Arrivals:
    """When the losses fell: first logged steps below a share of the start, axes (runs, conditions)."""

    train: Int[Tensor, "runs conditions"]
    test: Int[Tensor, "runs conditions"]
    reached: Bool[Tensor, "runs conditions"]  # whether the test loss arrived at all; else `test` is the last step

    @property
    def ratio(self) -> Float[Tensor, "runs conditions"]:
        """t_te / t_tr: 1 where both fall together, large where the network groks."""
        return self.test / self.train

    @property
    def delay(self) -> Int[Tensor, "runs conditions"]:
        """t_te - t_tr in steps."""
        return self.test - self.train


def arrivals(trajectory: Trajectory, share: float) -> Arrivals:
    """Passage times of training and exact test loss below `share` of their start."""
    train, _ = first_below(trajectory.steps, trajectory.train_loss, share * trajectory.train_loss[..., 0])
    test, reached = first_below(trajectory.steps, trajectory.test_loss, share * trajectory.test_loss[..., 0])
    return Arrivals(train, test, reached)


def sampling_errors(
    trajectory: Trajectory, condition: int, times: int, samples: int, seeds: Sequence[int]
) -> Float[Tensor, "runs times"]:
    """Distance of closed-form from sampled test loss, in standard errors of the sample, at spaced logged steps."""
    places = torch.linspace(0, len(trajectory.steps) - 1, times).round().long()
    function = trajectory.function
    linear, quadratic = function.linear[:, condition, places], function.quadratic[:, condition, places]
    beta, exact, rows = trajectory.task.direction, trajectory.test_loss[:, condition, places], []
    for i, seed in enumerate(seeds):  # one run at a time: the points of a run fill 32 MB
        x = RunRNG([seed], "fresh points", beta.device).normal(samples, beta.shape[-1]).to(beta.dtype)
        y = Task(x, beta[i : i + 1]).y[0]
        functions = [Predictor(linear[i : i + 1, t : t + 1], quadratic[i : i + 1, t : t + 1]) for t in range(times)]
        squares = torch.stack([(outputs(x, function)[0, 0] - y).double().square() for function in functions])
        rows.append((squares.mean(-1) - exact[i]).abs() / (squares.std(-1) / samples**0.5))
    return torch.stack(rows)


def limit_spread(
    seeds: Sequence[int], d: int, settings: Settings, device: str | torch.device = "cpu"
) -> dict[str, Tensor]:
    """How much ln test loss varies between replicas of one size, at fixed P/d, N/d and α/d.

    Every seed has replicas of its own (network and data drawn anew), since a spread needs several runs.

    Returns:
        "steps" (logged,), "log_loss" (runs, replicas, logged) and "spread" (runs,), the standard deviation over
        replicas, mean over logged steps after the first.
    """
    samples, width = round(settings.limit_samples * d), round(settings.limit_width * d)
    alpha = settings.main * d / settings.epsilon
    curves = []
    for replica in range(settings.replicas):
        x = RunRNG(seeds, f"inputs {replica}", device).normal(samples, d)
        direction = RunRNG(seeds, f"direction {replica}", device).normal(d)
        weights = RunRNG(seeds, f"weights {replica}", device).normal(width, d) / d**0.5
        task = Task(x, direction / direction.norm(dim=-1, keepdim=True))
        start = moments_of(weights, 1)
        trajectory = descend(
            task, [alpha], [settings.epsilon], settings.learning_rate, settings.limit_steps, start=start
        )
        curves.append(trajectory.test_loss[:, 0].log())
    log_loss = torch.stack(curves, 1)
    return {"steps": trajectory.steps, "log_loss": log_loss, "spread": log_loss.std(1)[:, 1:].mean(-1)}


# --- the same knob in networks without a closed form ----------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Stacked networks with their data: outputs are (runs, samples, outputs), targets alike."""

    params: ParameterStore
    train_outputs: Callable[[], Tensor]
    train_targets: Float[Tensor, "runs train outputs"]
    test_outputs: Callable[[], Tensor]
    test_targets: Float[Tensor, "runs test outputs"]


@dataclass(frozen=True)
class NetworkSettings:
    """Two output scales, the smaller first, with a learning rate at which each is stable."""

    scales: tuple[float, float]
    learning_rates: tuple[float, float]
    num_steps: int


NETWORKS = {
    "digit images": NetworkSettings((0.03, 0.3), (0.001, 0.01), 4000),
    "student-teacher": NetworkSettings((0.1, 1.0), (0.01, 0.05), 4000),
    "transformer": NetworkSettings((0.03, 0.15), (0.006, 0.03), 6000),
}


def digits_problem(seeds: Sequence[int], device: str | torch.device = "cpu") -> Problem:
    """200 images of 8x8 digits, targets one-hot less their mean, two-layer ReLU network of width 100."""
    images, labels = digits()
    x = images.flatten(1) - images.flatten(1).mean(0)
    x = (x * (8 / x.norm(dim=1).mean())).to(device)  # length √64, as for inputs of unit variance
    y = (F.one_hot(labels, 10).float() - 0.1).to(device)
    train, test = (rows.to(device) for rows in split(labels, seeds, 200, 1000))
    return _mlp_problem(seeds, x[train], y[train], x[test], y[test])


def student_teacher_problem(seeds: Sequence[int], device: str | torch.device = "cpu") -> Problem:
    """A teacher of two opposite ReLU neurons in 20 inputs, |β·x| standardised; 200 samples, 2,000 to test."""
    rng, d = RunRNG(seeds, "student", device), 20
    beta = RunRNG(seeds, "teacher", device).normal(d, 1)
    x = rng.normal(2200, d)
    y = ((x @ (beta / beta.norm(dim=1, keepdim=True))).abs() - (2 / math.pi) ** 0.5) / (1 - 2 / math.pi) ** 0.5
    return _mlp_problem(seeds, x[:, :200], y[:, :200], x[:, 200:], y[:, 200:])


def _mlp_problem(seeds: Sequence[int], x: Tensor, y: Tensor, test_x: Tensor, test_y: Tensor) -> Problem:
    mlp = StackedMLP(seeds, (x.shape[-1], 100, y.shape[-1]), init="he_normal", device=x.device)
    return Problem(mlp.params, lambda: mlp(x), y, lambda: mlp(test_x), test_y)


def modular_problem(seeds: Sequence[int], device: str | torch.device = "cpu") -> Problem:
    """a + b modulo 23 by a one-layer transformer that reads "a b =": 90 % of all pairs to train, the rest to test."""
    p = 23
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    tokens = torch.cat([pairs, torch.full((p * p, 1), p)], 1).to(device)
    y = (F.one_hot(pairs.sum(1) % p, p).float() - 1 / p).to(device)
    order = RunRNG(seeds, "pairs", device).permutation(p * p)
    train, test = order[:, : round(0.9 * p * p)], order[:, round(0.9 * p * p) :]
    shape = Shape(
        width=32, heads=4, layers=1, outputs=p, vocabulary=p + 1, context=3, positions="learned", mlp=128, norm="none",
        causal=False, embedding_std=0.3,
    )  # fmt: skip
    model = StackedTransformer(seeds, shape, device=device)

    def outputs_of(rows: Tensor) -> Callable[[], Tensor]:
        return lambda: model(tokens[rows], last_only=True)[:, :, 0]

    return Problem(model.params, outputs_of(train), y[train], outputs_of(test), y[test])


PROBLEMS = {"digit images": digits_problem, "student-teacher": student_teacher_problem, "transformer": modular_problem}


@dataclass(frozen=True)
class NetworkRun:
    """Squared errors per sample at logged steps, axes (runs, scales, logged)."""

    steps: Int[Tensor, " logged"]
    train_loss: Float[Tensor, "runs scales logged"]
    test_loss: Float[Tensor, "runs scales logged"]


def train_networks(
    name: str, seeds: Sequence[int], settings: NetworkSettings, device: str | torch.device = "cpu"
) -> NetworkRun:
    """Full-batch gradient descent on |α(f - f₀) - y|² / (2α²), all seeds and scales in one loop.

    Args:
        name: one of `PROBLEMS`.
        seeds: one per run; its networks of both scales start alike and see the same data.
    """
    problem = PROBLEMS[name]([seed for seed in seeds for _ in settings.scales], device)
    alpha, rate = (
        torch.tensor(values, device=device).repeat(len(seeds)) for values in (settings.scales, settings.learning_rates)
    )
    steps = log_spaced(settings.num_steps)
    train, test = descend_scaled(
        problem.params, (problem.train_outputs, problem.train_targets), (problem.test_outputs, problem.test_targets),
        alpha, rate, steps,
    )  # fmt: skip
    shape = (len(seeds), len(settings.scales), -1)
    return NetworkRun(steps, train.view(shape), test.view(shape))


def network_arrivals(run: NetworkRun, share: float = 0.2) -> Arrivals:
    """First logged steps at which a loss is within `share` of its whole drop from its final value, at least 1.

    A test loss that ends above its start counts as fallen at step 1: never as a delay.

    Raises:
        ValueError: training diverged.
    """
    times = []
    for loss in (run.train_loss, run.test_loss):
        if not loss.isfinite().all():
            raise ValueError("a network diverged; choose smaller learning rates in its NetworkSettings")
        target = loss[..., -1] + share * (loss[..., 0] - loss[..., -1])
        times.append(first_below(run.steps, loss, target))
    return Arrivals(times[0][0].clamp(min=1), times[1][0].clamp(min=1), times[1][1])


# --- tuning ---------------------------------------------------------------------------------------


def tune(seeds: Sequence[int] = range(5)) -> dict[str, dict]:
    """The tuning behind the settings, on seeds below 100: five rates, five ridges, and five rates per network scale.

    Returns:
        "learning_rate": rate -> largest growth of a training loss between logged steps (at most 1 where stable);
        "ridge": ridge -> mean test loss of kernel regression over its start; and per network name
        (scale, rate) -> growth, infinite where training diverged.
    """
    task = make_task(seeds, QUICK.inputs, QUICK.samples)
    found = {"learning_rate": {}, "ridge": {}}
    for rate in (0.1, 0.2, 0.3, 0.5, 0.7):
        losses = descend(task, *QUICK.scales(*QUICK.laziness), rate, 300).train_loss
        found["learning_rate"][rate] = _growth(losses)
    for ridge in (0.0, 0.1, 1.0, 10.0, 100.0):
        found["ridge"][ridge] = float(kernel_test_loss(task, QUICK.epsilon, ridge).mean() / START_LOSS)
    for name, chosen in NETWORKS.items():
        found[name] = {}
        for factor in (0.25, 0.5, 1.0, 2.0, 4.0):
            rates = tuple(factor * rate for rate in chosen.learning_rates)
            losses = train_networks(name, seeds, replace(chosen, learning_rates=rates, num_steps=500)).train_loss
            for i, scale in enumerate(chosen.scales):
                found[name][scale, rates[i]] = _growth(losses[:, i])
    return found


def _growth(losses: Tensor) -> float:
    """Largest factor between neighbouring logged losses; infinite where they are not finite."""
    factor = float((losses[..., 1:] / losses[..., :-1]).max())
    return factor if math.isfinite(factor) else math.inf
