"""Hypernetworks whose output does not grow with their input: magnitude-invariant parametrisations (MIP).

Ortiz, Guttag & Dalca, "Magnitude Invariant Parametrizations Improve Hypernetwork Learning", ICLR 2024
(arXiv 2304.07645). The hypernetwork itself is `reprise.blocks.hypernetwork`; here are the tasks on which its
parametrisations are compared. Symbols: γ input of the hypernetwork (`gamma`), θ weights of the primary network,
ω what is trained, h the hypernetwork, f the primary network, ε label smoothing, λ weight of the penalty.
Axes: everything trained together is one stack of runs, task-major: run t * num_seeds + s is task t with seed s.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from reprise.blocks import data as datasets
from reprise.blocks.hypernetwork import StackedHypernetwork, unflatten
from reprise.blocks.seeds import FlatAdam, FlatSGD, RunRNG, linear
from reprise.blocks.training import epochs

WINDOW = 25  # steps over which losses are averaged, and over which the drawn γ cover [0, 1] evenly


@dataclass(frozen=True)
class Arm:
    """A way to write the hypernetwork; the first four differ in the two ingredients of the method alone."""

    encoding: str = "none"
    residual: bool = False
    norm: str | None = None
    biases: str = "zero"
    scale: str = "fan_out"
    gammas: int = 1  # inputs per step, which share the minibatch


ARMS = {
    "default": Arm(),
    "encoding only": Arm(encoding="cos|sin"),
    "residual only": Arm(residual=True),
    "MIP": Arm(encoding="cos|sin", residual=True),
    "default, scaled": Arm(scale="primary"),
    "PyTorch biases": Arm(biases="torch"),
    "no biases": Arm(biases="none"),
    "layer norm": Arm(norm="layer"),
    "batch norm": Arm(norm="batch", gammas=8),  # statistics need several inputs
    "standardised": Arm(encoding="standardised"),
    "shifted": Arm(encoding="shifted"),
    "unit": Arm(encoding="unit"),
    "complement": Arm(encoding="complement", residual=True),
}


@dataclass(frozen=True)
class Task:
    """What γ means. `penalty`: +1 if the weight of ||θ||² grows with γ₁, -1 if it falls, 0 without."""

    penalty: int = 0
    rescaled: bool = False
    smoothed: bool = False

    @property
    def inputs(self) -> int:
        return 2 if self.smoothed else 1


TASKS = {
    "penalty": Task(penalty=+1),
    "mirror": Task(penalty=-1),
    "rescaling": Task(rescaled=True),
    "penalty and smoothing": Task(penalty=+1, smoothed=True),
}


@dataclass(frozen=True)
class Variant:
    """How the hypernetwork is trained and built, equally for all arms."""

    optimizer: str = "adam"  # or "sgd", with Nesterov momentum 0.9
    activation: str = "leaky_relu"
    more: tuple[int, ...] = ()  # further hidden layers


ACTIVATIONS = ("relu", "leaky_relu", "tanh", "silu", "gelu")
VARIANTS = {"adam": Variant(), "sgd": Variant("sgd"), "deep": Variant(more=(32,))} | {
    name: Variant(activation=name) for name in ACTIVATIONS if name != "leaky_relu"
}


@dataclass(frozen=True)
class Settings:
    """Everything that decides a result, apart from the seeds. `rates` are chosen by `tune`: variant, task, arm."""

    dataset: str = "digits"  # or "mnist-5k", pooled to 14 x 14
    train: int = 1200
    test: int = 597
    layers: tuple[int, ...] = (16, 16, 16)  # hidden widths of the primary network
    hidden: tuple[int, ...] = (16, 32)
    batch: int = 64
    steps: int = 250
    adam_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    sgd_rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2, 1e-1)
    rates: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None

    @property
    def side(self) -> int:
        return {"digits": 8, "mnist-5k": 14}[self.dataset]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensors of the primary network, a multilayer perceptron from pixels to 10 classes."""
        sizes = (self.side**2, *self.layers, 10)
        pairs = enumerate(zip(sizes, sizes[1:]))
        return {name: shape for i, (a, b) in pairs for name, shape in ((f"{i}.weight", (a, b)), (f"{i}.bias", (1, b)))}

    def grid(self, variant: str) -> tuple[float, ...]:
        """Learning rates from which every arm gets its own best."""
        return self.sgd_rates if VARIANTS[variant].optimizer == "sgd" else self.adam_rates


@dataclass(frozen=True)
class Data:
    """Images at every resolution, shared by all runs, and which of them each seed trains and tests on."""

    seeds: tuple[int, ...]
    versions: Float[Tensor, "resolutions n pixels"]  # entry k - 2: through k x k and back; the last is untouched
    labels: Int[Tensor, " n"]
    train_rows: Int[Tensor, "seeds train"]
    test_rows: Int[Tensor, "seeds test"]


def load(settings: Settings, seeds: Sequence[int], device: str | torch.device = "cpu") -> Data:
    """Digits with one split per seed, about centred and scaled by fixed numbers, so that no test image is consulted."""
    if settings.dataset == "digits":
        images, labels = datasets.digits()
        images = (images / 16 - 0.3) / 0.4
    elif settings.dataset == "mnist-5k":
        images, labels = datasets.mnist_5k()
        images = (F.avg_pool2d(images[:, None].float() / 255, 2)[:, 0] - 0.13) / 0.3
    else:
        raise ValueError(f"unknown dataset {settings.dataset!r}; choose 'digits' or 'mnist-5k'")
    train_rows, test_rows = datasets.split(labels, seeds, settings.train, settings.test)
    versions = torch.stack([rescaled(images, k).flatten(1) for k in range(2, settings.side + 1)])
    return Data(tuple(seeds), *(part.to(device) for part in (versions, labels, train_rows, test_rows)))


def rescaled(images: Float[Tensor, "n side side"], k: int) -> Float[Tensor, "n side side"]:
    """Images averaged down to k x k pixels and drawn again, bilinearly, at their own size."""
    small = F.adaptive_avg_pool2d(images[:, None], k)
    return F.interpolate(small, size=images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def signals(
    weights: Mapping[str, Tensor], x: Float[Tensor, "nets batch pixels"]
) -> list[Float[Tensor, "nets batch _"]]:
    """What every layer of f(x; θ), a multilayer perceptron with rectifiers, passes on; the last entry are the logits.

    Args:
        weights: generated tensors, "0.weight", "0.bias" (nets, 1, out), "1.weight", ...
        x: one minibatch per generated network.
    """
    passed, last = [], len(weights) // 2 - 1
    for i in range(last + 1):
        x = linear(x, weights[f"{i}.weight"], weights[f"{i}.bias"])
        x = torch.relu(x) if i < last else x
        passed.append(x)
    return passed


def primary(weights: Mapping[str, Tensor], x: Float[Tensor, "nets batch pixels"]) -> Float[Tensor, "nets batch 10"]:
    """f(x; θ), the logits."""
    return signals(weights, x)[-1]


def penalty_weight(task: Task, gamma: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """λ(γ) = 10^(-4 + 3.5 γ₁), mirrored 10^(-4 + 3.5 (1 - γ₁)), or zero."""
    if not task.penalty:
        return torch.zeros_like(gamma[..., 0])
    strong = gamma[..., 0] if task.penalty > 0 else 1 - gamma[..., 0]
    return 10 ** (-4 + 3.5 * strong)


def smoothing(task: Task, gamma: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """ε(γ) = γ₂/2, or zero."""
    return 0.5 * gamma[..., 1] if task.smoothed else torch.zeros_like(gamma[..., 0])


def resolution(task: Task, gamma: Float[Tensor, "*batch d"], side: int) -> Int[Tensor, "*batch"]:
    """Which entry of `Data.versions` γ stands for: k - 2 with k = 2 + round((side - 2) γ₁), or the last."""
    scale = gamma[..., 0] if task.rescaled else torch.ones_like(gamma[..., 0])
    return ((side - 2) * scale).round().long()


def task_loss(
    logits: Float[Tensor, "nets batch 10"],
    labels: Int[Tensor, "nets batch"],
    theta: Float[Tensor, "nets count"],
    weight: Float[Tensor, " nets"],
    smooth: Float[Tensor, " nets"],
) -> Float[Tensor, " nets"]:
    """Cross-entropy with smoothed labels plus λ ||θ||², in nats. The penalty is on θ, never on ω."""
    log_p = logits.log_softmax(-1)
    true = log_p.gather(-1, labels[..., None])[..., 0].mean(-1)
    return -(1 - smooth) * true - smooth * log_p.mean((1, 2)) + weight * theta.square().sum(-1)


def even_inputs(
    seeds: Sequence[int], steps: int, gammas: int, inputs: int
) -> Float[Tensor, "seeds steps gammas inputs"]:
    """Uniform γ of all steps, stratified: any `WINDOW` steps from a multiple of it cover [0, 1] evenly.

    So a loss averaged over a window does not depend on which γ happened to come; each γ alone is uniform.
    """
    rng, strata, blocks = RunRNG(seeds, "gamma"), WINDOW * gammas, -(-steps // WINDOW)
    columns = []
    for _ in range(blocks):
        places = torch.stack([rng.permutation(strata) for _ in range(inputs)], -1)
        columns.append((places + rng.uniform(strata, inputs)) / strata)
    return torch.cat(columns, 1).view(len(seeds), blocks * WINDOW, gammas, inputs)[:, :steps].clamp(max=1.0)


def nine_inputs(task: Task, device: str | torch.device = "cpu") -> Float[Tensor, "9 d"]:
    """Nine equally spaced γ: 0, 1/8, ..., 1, or the 3 x 3 grid over the square."""
    if task.inputs == 1:
        return torch.linspace(0, 1, 9, device=device)[:, None]
    side = torch.linspace(0, 1, 3, device=device)
    return torch.cartesian_prod(side, side)


@dataclass(frozen=True)
class Trained:
    """Hypernetworks of one arm after training and what was measured on the way; tasks and seeds first."""

    net: StackedHypernetwork
    loss: Float[Tensor, "tasks seeds steps"]  # training objective of each minibatch, nats
    accuracy: Float[Tensor, "tasks seeds steps"]  # share of the minibatch
    gradient: Float[Tensor, "tasks seeds steps"]  # Euclidean norm over ω
    spread: Float[Tensor, "tasks seeds looks 11"]  # std of θ(γ) at γ = 0, 0.1, ..., 1
    looks: tuple[int, ...]  # steps after which `spread` was taken
    objective: Float[Tensor, "tasks seeds 9"]  # test objective at the nine inputs, nats

    def at(self, rows: Sequence[int]) -> "Trained":
        """The measurements of these tasks alone, in this order; `net` stays the whole stack."""
        names = ("loss", "accuracy", "gradient", "spread", "objective")
        return replace(self, **{name: getattr(self, name)[list(rows)] for name in names})


def build(
    settings: Settings, seeds: Sequence[int], arm: Arm, variant: Variant, inputs: int = 1, device="cpu"
) -> StackedHypernetwork:
    """Fresh hypernetworks of an arm, one per seed."""
    return StackedHypernetwork(
        seeds,
        settings.shapes,
        inputs,
        (*settings.hidden, *variant.more),
        encoding=arm.encoding,
        residual=arm.residual,
        activation=variant.activation,
        norm=arm.norm,
        biases=arm.biases,
        scale=arm.scale,
        device=device,
    )


def train(
    settings: Settings,
    data: Data,
    arm: str,
    tasks: Sequence[str],
    variant: str = "adam",
    rates: Sequence[float] | None = None,
    looks: Sequence[int] = (),
) -> Trained:
    """Train one arm on several tasks at once: one stack of len(tasks) x len(seeds) hypernetworks.

    Args:
        arm: a name in `ARMS`.
        tasks: names in `TASKS`, of equally many inputs; a name may occur several times.
        variant: a name in `VARIANTS`.
        rates: learning rate of each task; the tuned ones of this arm if not given.
        looks: steps after which the spread of θ(γ) is kept, besides the last.
    Raises:
        ValueError: an unknown name, tasks of different inputs, or no rates where none are tuned.
    """
    _check_names(arm, tasks, variant)
    form, how, (runs, seeds) = ARMS[arm], VARIANTS[variant], (len(tasks) * len(data.seeds), len(data.seeds))
    chosen = tuned(settings, variant, tasks, arm) if rates is None else rates
    device, inputs = data.labels.device, TASKS[tasks[0]].inputs
    net = build(settings, data.seeds * len(tasks), form, how, inputs, device)
    rate = torch.tensor(chosen, device=device).repeat_interleave(seeds)
    optimizer = FlatAdam(net.params, rate) if how.optimizer == "adam" else FlatSGD(net.params, rate, 0.9, True)

    gamma = even_inputs(data.seeds, settings.steps, form.gammas, inputs).to(device).repeat(len(tasks), 1, 1, 1)
    weight, smooth, version = (torch.cat(part) for part in zip(*_meaning(settings, data, tasks, gamma)))
    order = epochs(RunRNG(data.seeds, "order", device), settings.train, settings.batch)
    looks, spread = (*looks, settings.steps), []
    # allocated once: a thousand small tensors kept between large ones would fragment the memory
    measured = {name: torch.empty(runs, settings.steps, device=device) for name in ("loss", "accuracy", "gradient")}
    for step in range(settings.steps):
        if step in looks:
            spread.append(spread_of_weights(net))
        rows = data.train_rows.gather(1, next(order)).repeat(len(tasks), 1).view(runs * form.gammas, -1)
        net.params.zero_grad()
        theta = net.flat(gamma[:, step]).flatten(0, 1)
        logits = primary(unflatten(theta, net.shapes), data.versions[version[:, step].flatten()[:, None], rows])
        labels = data.labels[rows]
        loss = task_loss(logits, labels, theta, weight[:, step].flatten(), smooth[:, step].flatten())
        (loss.sum() / form.gammas).backward()
        optimizer.step()
        measured["loss"][:, step] = loss.detach().view(runs, -1).mean(1)
        measured["accuracy"][:, step] = (logits.argmax(-1) == labels).float().view(runs, -1).mean(1)
        measured["gradient"][:, step] = net.params.grad.norm(dim=1)
    spread.append(spread_of_weights(net))
    curves = {name: values.view(len(tasks), seeds, -1) for name, values in measured.items()}
    spreads = torch.stack(spread, 1).view(len(tasks), seeds, len(looks), -1)
    objective = objective_at_nine(settings, data, net, tasks)
    return Trained(net, **curves, spread=spreads, looks=looks, objective=objective)


def _meaning(settings: Settings, data: Data, tasks: Sequence[str], gamma: Tensor):
    """Penalty weight, smoothing and resolution of every run, step and input, task by task."""
    for name, own in zip(tasks, gamma.split(len(data.seeds))):
        task = TASKS[name]
        yield penalty_weight(task, own), smoothing(task, own), resolution(task, own, settings.side)


@torch.no_grad()
def objective_at_nine(
    settings: Settings, data: Data, net: StackedHypernetwork, tasks: Sequence[str]
) -> Float[Tensor, "tasks seeds 9"]:
    """Objective on the test images at each of the nine inputs of `nine_inputs`."""
    seeds, out = len(data.seeds), []
    gamma = torch.stack([nine_inputs(TASKS[name], data.labels.device) for name in tasks]).repeat_interleave(seeds, 0)
    theta = net.flat(gamma).view(len(tasks), seeds, *gamma.shape[1:2], -1)
    labels = data.labels[data.test_rows]
    for name, own in zip(tasks, theta):
        task, inputs = TASKS[name], nine_inputs(TASKS[name], data.labels.device)
        weight, smooth = penalty_weight(task, inputs), smoothing(task, inputs)
        for i, version in enumerate(resolution(task, inputs, settings.side)):
            logits = primary(unflatten(own[:, i], net.shapes), data.versions[version][data.test_rows])
            out.append(task_loss(logits, labels, own[:, i], weight[i].expand(seeds), smooth[i].expand(seeds)))
    return torch.stack(out, 1).view(seeds, len(tasks), -1).transpose(0, 1)


@torch.no_grad()
def spread_of_weights(net: StackedHypernetwork) -> Float[Tensor, "runs 11"]:
    """Standard deviation over all entries of θ(γ) at γ = 0, 0.1, ..., 1 (in every coordinate)."""
    gamma = torch.linspace(0, 1, 11, device=net.params.device)[None, :, None].expand(net.runs, -1, net.inputs)
    return net.flat(gamma).std(-1)


@torch.no_grad()
def look_inside(
    settings: Settings, seeds: Sequence[int], arm: str, gamma: float, x: Float[Tensor, "batch pixels"]
) -> tuple[Float[Tensor, "seeds count"], Float[Tensor, "seeds layers"]]:
    """Untrained hypernetworks at one scalar γ: their weights θ(γ), and the root mean square of every layer's signal."""
    net = build(settings, seeds, ARMS[arm], VARIANTS["adam"], device=x.device)
    theta = net.flat(torch.full((len(seeds), 1, 1), gamma, device=x.device))[:, 0]
    passed = signals(unflatten(theta, net.shapes), x.expand(len(seeds), -1, -1))
    return theta, torch.stack([v.square().mean((1, 2)).sqrt() for v in passed], 1)


# --- effects of the card, one number per seed ------------------------------------------------------


def proportionality_error(seeds: Sequence[int], hidden: Sequence[int] = (16, 32)) -> Float[Tensor, " seeds"]:
    """Claim exact-proportionality: largest max|h(aγ) - a h(γ)| / max|a h(γ)| over a in {0.1, 0.5, 2} and 100 γ.

    A random LeakyReLU hypernetwork with zero biases per seed, two-dimensional γ, in double precision.
    """
    shapes = {"0.weight": (64, 8), "1.weight": (8, 10)}
    net = StackedHypernetwork(seeds, shapes, 2, hidden, encoding="none", residual=False, dtype=torch.float64)
    gamma = RunRNG(seeds, "proportionality").uniform(100, 2).double()
    with torch.no_grad():
        base, worst = net.flat(gamma), torch.zeros(len(seeds), dtype=torch.float64)
        for a in (0.1, 0.5, 2.0):
            gap = (net.flat(a * gamma) - a * base).abs().amax(-1) / (a * base).abs().amax(-1)
            worst = torch.maximum(worst, gap.amax(-1))
    return worst


def decades(trained: Trained) -> Float[Tensor, "tasks seeds"]:
    """Claim persists-in-training: log10 of std θ(1) / std θ(0.1) after training; 1 if proportional, 0 if flat."""
    return (trained.spread[:, :, -1, 10] / trained.spread[:, :, -1, 1]).log10()


def gradient_variation(trained: Trained, steps: int = 200) -> Float[Tensor, "tasks seeds"]:
    """Claim unstable-gradients: standard deviation over mean of the gradient's norm in the first steps."""
    norms = trained.gradient[..., :steps]
    return norms.std(-1) / norms.mean(-1)


def learns(trained: Trained) -> Float[Tensor, "tasks seeds"]:
    """Claim sometimes-no-learning: 1 where training accuracy at steps 201 to 250 exceeds one half."""
    return (trained.accuracy[..., 200:250].mean(-1) > 0.5).float()


def time_share(method: Trained, reference: Trained) -> Float[Tensor, "tasks seeds"]:
    """Claim faster-convergence: t/T, t the first step by which the mean loss of `WINDOW` steps of `method` is at most
    that of the last `WINDOW` steps of `reference`; T, all steps, where that never happens."""
    steps = method.loss.shape[-1]
    smooth = method.loss.unfold(-1, WINDOW, 1).mean(-1)  # entry i ends with step i + WINDOW
    hit = smooth <= reference.loss[..., -WINDOW:].mean(-1, keepdim=True)
    first = hit.float().argmax(-1) + WINDOW
    return torch.where(hit.any(-1), first, steps) / steps


def mean_objective(trained: Trained) -> Float[Tensor, "tasks seeds"]:
    """Test objective averaged over the nine inputs, nats."""
    return trained.objective.mean(-1)


def gain_over_normalised(settings: Settings, data: Data) -> Float[Tensor, " seeds"]:
    """Claim normalisation-not-enough: lowest test objective (nats) of the normalised default forms, minus that of MIP.

    The lowest is taken for every seed and setting by itself, in favour of normalisation; averaged over inputs of one
    and two dimensions and hypernetworks of two and three hidden layers.
    """
    gains = []
    for task, variant in itertools.product(("rescaling", "penalty and smoothing"), ("adam", "deep")):
        arms = [mean_objective(train(settings, data, arm, [task], variant))[0] for arm in NORMALISED[1:]]
        gains.append(torch.stack(arms[:-1]).amin(0) - arms[-1])
    return torch.stack(gains).mean(0)


# --- tuning ----------------------------------------------------------------------------------------

MAIN = ("default", "encoding only", "residual only", "MIP", "default, scaled", "PyTorch biases", "no biases")
NORMALISED = ("default", "layer norm", "batch norm", "standardised", "MIP")
Plan = Sequence[tuple[str, Sequence[str], Sequence[str]]]  # variant, tasks, arms that are compared and so tuned
PLAN: Plan = (
    ("adam", ("penalty", "mirror", "rescaling"), MAIN),
    ("sgd", ("penalty", "mirror"), MAIN),
    *((name, ("penalty", "mirror"), ("default", "MIP")) for name in ACTIVATIONS if name != "leaky_relu"),
)
FULL_PLAN: Plan = (
    *PLAN,
    ("adam", ("rescaling",), NORMALISED[1:4]),
    ("deep", ("rescaling",), NORMALISED),
    ("adam", ("penalty and smoothing",), NORMALISED),
    ("deep", ("penalty and smoothing",), NORMALISED),
)


def tuned(settings: Settings, variant: str, tasks: Sequence[str], arm: str) -> list[float]:
    """The learning rates that `tune` chose."""
    try:
        return [settings.rates[variant][task][arm] for task in tasks]
    except (KeyError, TypeError):
        raise ValueError(
            f"no tuned rates of {arm!r} for {list(tasks)} under {variant!r}; pass rates, or add them to PLAN and tune"
        ) from None


def tune(
    settings: Settings,
    seeds: Sequence[int] = (0, 1),
    plan: Plan = PLAN,
    device: str | torch.device = "cpu",
) -> dict[str, dict[str, dict[str, dict[float, float]]]]:
    """Mean training loss of the last 50 steps (nats) of every variant, task, arm and learning rate.

    Equal grids for all arms; a rate at which any seed's loss is not finite counts as infinite. The rate with the
    smallest entry stands in the settings.
    """
    if max(seeds) >= 100:
        raise ValueError("tuning uses seeds 0 to 99; evidence starts at 100")
    data, table = load(settings, seeds, device), {}
    for variant, tasks, arms in plan:
        grid, rows = settings.grid(variant), table.setdefault(variant, {})
        for task, arm in itertools.product(tasks, arms):
            trained = train(settings, data, arm, [task] * len(grid), variant, grid)
            last = trained.loss[..., -50:].mean((1, 2)).nan_to_num(float("inf"))
            rows.setdefault(task, {})[arm] = dict(zip(grid, last.tolist()))
    return table


def choice(table: Mapping) -> dict[str, dict[str, dict[str, float]]]:
    """The best rates of a table made by `tune`, as `Settings.rates` holds them."""
    return {
        variant: {task: {arm: min(row, key=row.get) for arm, row in arms.items()} for task, arms in tasks.items()}
        for variant, tasks in table.items()
    }


def _check_names(arm: str, tasks: Sequence[str], variant: str) -> None:
    for name, known in ((arm, ARMS), (variant, VARIANTS), *((task, TASKS) for task in tasks)):
        if name not in known:
            raise ValueError(f"unknown name {name!r}; choose one of {', '.join(known)}")
    if len({TASKS[task].inputs for task in tasks}) != 1:
        raise ValueError("tasks trained together have equally many inputs; train the others in another call")


# chosen by `tune` on seeds 0 and 1: variant, task, arm
QUICK_RATES = {
    "adam": {
        "penalty": dict(zip(MAIN, (0.001, 0.001, 0.01, 0.003, 0.003, 0.01, 0.03))),
        "mirror": dict(zip(MAIN, (0.001, 0.001, 0.01, 0.003, 0.003, 0.001, 0.001))),
        "rescaling": dict(zip(MAIN, (0.01, 0.003, 0.003, 0.003, 0.003, 0.003, 0.001))),
    },
    "sgd": {
        "penalty": dict(zip(MAIN, (0.003, 0.01, 0.01, 0.01, 0.01, 0.03, 0.03))),
        "mirror": dict(zip(MAIN, (0.01, 0.01, 0.003, 0.01, 0.003, 0.03, 0.1))),
    },
    "relu": {
        "penalty": {"default": 0.03, "MIP": 0.003},
        "mirror": {"default": 0.001, "MIP": 0.003},
    },
    "tanh": {
        "penalty": {"default": 0.003, "MIP": 0.001},
        "mirror": {"default": 0.001, "MIP": 0.001},
    },
    "silu": {
        "penalty": {"default": 0.03, "MIP": 0.01},
        "mirror": {"default": 0.0003, "MIP": 0.003},
    },
    "gelu": {
        "penalty": {"default": 0.001, "MIP": 0.003},
        "mirror": {"default": 0.0003, "MIP": 0.003},
    },
}
SHALLOW_RATES = {
    "adam": {
        "penalty": dict(zip(MAIN[:4], (0.01, 0.003, 0.01, 0.01))),
        "mirror": dict(zip(MAIN[:4], (0.003, 0.003, 0.01, 0.003))),
        "rescaling": dict(zip(MAIN[:4], (0.003, 0.003, 0.003, 0.003))),
    },
}
FULL_RATES = {
    "adam": {
        "penalty": dict(zip(MAIN, (0.001, 0.001, 0.01, 0.003, 0.003, 0.003, 0.01))),
        "mirror": dict(zip(MAIN, (0.001, 0.001, 0.003, 0.003, 0.003, 0.003, 0.0003))),
        "rescaling": dict(zip(MAIN, (0.003, 0.001, 0.003, 0.001, 0.001, 0.001, 0.003)))
        | dict(zip(NORMALISED[1:4], (0.0003, 0.001, 0.001))),
        "penalty and smoothing": dict(zip(NORMALISED, (0.001, 0.001, 0.001, 0.001, 0.003))),
    },
    "sgd": {
        "penalty": dict(zip(MAIN, (0.003, 0.003, 0.01, 0.01, 0.003, 0.003, 0.03))),
        "mirror": dict(zip(MAIN, (0.003, 0.003, 0.03, 0.01, 0.003, 0.01, 0.1))),
    },
    "relu": {
        "penalty": {"default": 0.001, "MIP": 0.003},
        "mirror": {"default": 0.001, "MIP": 0.003},
    },
    "tanh": {
        "penalty": {"default": 0.001, "MIP": 0.001},
        "mirror": {"default": 0.001, "MIP": 0.001},
    },
    "silu": {
        "penalty": {"default": 0.0003, "MIP": 0.001},
        "mirror": {"default": 0.0003, "MIP": 0.003},
    },
    "gelu": {
        "penalty": {"default": 0.0003, "MIP": 0.003},
        "mirror": {"default": 0.0003, "MIP": 0.003},
    },
    "deep": {
        "rescaling": dict(zip(NORMALISED, (0.001, 0.0003, 0.0003, 0.001, 0.001))),
        "penalty and smoothing": dict(zip(NORMALISED, (0.003, 0.001, 0.001, 0.001, 0.003))),
    },
}

QUICK = Settings(rates=QUICK_RATES)
SHALLOW = replace(QUICK, layers=(8,), rates=SHALLOW_RATES)  # the primary network of the counter-example
FULL = Settings(
    dataset="mnist-5k", train=4000, test=1000, steps=500, adam_rates=(3e-4, 1e-3, 3e-3, 1e-2), rates=FULL_RATES
)
