"""Winning tickets: sparse subnetworks that train as well as the whole, if they start from their own initial values.

Frankle & Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks", ICLR 2019
(arXiv 1803.03635); section numbers are the paper's. Symbols: θ0 initial values (`start`), θ0' a second draw
(`other`), m mask (`masks`, true = alive, weight matrices only), P_m share of weights kept (`kept`), p share of the
live weights cut per round (`fraction`), j training steps (`steps`). Runs (one per seed) are the first axis of
everything; each has its own data, network and data order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprise.blocks import data as datasets
from reprise.blocks import masks as pruning
from reprise.blocks.masks import Masks
from reprise.blocks.seeds import FlatAdam, RunRNG, StackedMLP, generators
from reprise.blocks.training import History, accuracy, best, cross_entropy, drops, epochs, gather, time_to_target
from reprise.blocks.training import train as train_stack


@dataclass(frozen=True)
class Settings:
    """Everything that decides a result, apart from the seeds."""

    dataset: str = "mnist-1d"  # or "mnist-5k", real images
    hidden: tuple[int, ...] = (64, 64, 64)
    init: str = "he_normal"
    learning_rate: float = 1e-2  # chosen by `tune` for the dense network; every arm of its size keeps it
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2)  # what `tune` chooses from, for every baseline alike
    small_rates: tuple[float, ...] = (1e-2, 1e-2, 3e-2)  # chosen for the small dense networks
    fine_rates: tuple[float, float] = (3e-3, 3e-3)  # while a trained network trains on: pruned, whole; by `tune_fine`
    batch: int = 50
    steps: int = 800  # of every arm and every round
    every: int = 20  # steps between looks at the validation loss
    uncut: float = 0.6  # share of training before the learning rate first drops
    validation: int = 500
    rounds: int = 8
    fraction: float = 0.35  # of the live weights, cut per round
    output_fraction: float | None = None  # None: one cut through all layers; else layer by layer, output at this
    control_rounds: tuple[int, ...] = (3, 4, 6)  # where controls and baselines are trained


QUICK = Settings()
FULL = Settings(hidden=(128, 128, 128), steps=2000, small_rates=(1e-2, 1e-2, 1e-2))
LENET = Settings(  # Lenet-300-100 of section 2, on the 5,000 images that need no download
    dataset="mnist-5k",
    hidden=(300, 100),
    init="glorot_normal",
    learning_rate=1.2e-3,
    rates=(4e-4, 1.2e-3, 3.6e-3, 1e-2),
    batch=60,
    steps=1500,
    rounds=10,
    fraction=0.2,
    output_fraction=0.1,
    control_rounds=(9,),
)


@dataclass(frozen=True)
class Data:
    """Standardised inputs and labels of every run; validation is cut off the training set, never off the test set."""

    seeds: tuple[int, ...]
    train_x: Float[Tensor, "runs train d"]
    train_y: Int[Tensor, "runs train"]
    validation_x: Float[Tensor, "runs validation d"]
    validation_y: Int[Tensor, "runs validation"]
    test_x: Float[Tensor, "runs test d"]
    test_y: Int[Tensor, "runs test"]


def load(settings: Settings, seeds: Sequence[int], device: str | torch.device = "cpu") -> Data:
    """Data of every run: MNIST-1D generated anew from its seed, or its own split of 5,000 MNIST images.

    Inputs are standardised with mean and deviation of the training part (per input for MNIST-1D; over all pixels
    for images, where many pixels never vary).
    """
    if settings.dataset == "mnist-1d":
        train_x, train_y, test_x, test_y = datasets.mnist_1d(seeds)
        axes = (1,)
    elif settings.dataset == "mnist-5k":
        images, labels = datasets.mnist_5k()
        pixels = images.flatten(1).float()
        rows, test_rows = datasets.split(labels, seeds, 4000, 1000)
        train_x, train_y, test_x, test_y = pixels[rows], labels[rows], pixels[test_rows], labels[test_rows]
        axes = (1, 2)
    else:
        raise ValueError(f"unknown dataset {settings.dataset!r}; choose 'mnist-1d' or 'mnist-5k'")
    cut = train_x.shape[1] - settings.validation
    mean, deviation = (f(train_x[:, :cut], dim=axes, keepdim=True) for f in (torch.mean, torch.std))
    train_x, test_x = (train_x - mean) / deviation, (test_x - mean) / deviation
    parts = (train_x[:, :cut], train_y[:, :cut], train_x[:, cut:], train_y[:, cut:], test_x, test_y)
    return Data(tuple(seeds), *(part.to(device) for part in parts))


def network(settings: Settings, data: Data, stream: str = "init") -> StackedMLP:
    """Freshly drawn networks f(x; θ) of all runs; another `stream` is another, independent draw."""
    sizes = (data.train_x.shape[-1], *settings.hidden, 10)
    return StackedMLP(generators(data.seeds, stream), sizes, "relu", init=settings.init, device=data.train_x.device)


def everything(start: StackedMLP) -> Masks:
    """The mask of the dense network: all weights alive; biases are never masked."""
    return pruning.full_masks(start.params, start.weight_names())


def masked(start: StackedMLP, masks: Masks) -> StackedMLP:
    """A copy of the networks with dead weights at zero: f(x; m ⊙ θ)."""
    params = start.params.select(slice(None))
    params.flat.mul_(pruning.flat_mask(params, masks))
    return start.with_params(params)


def first(count: int, data: Data, *networks: StackedMLP) -> tuple:
    """The first `count` runs of data and networks, for side questions that need fewer seeds than a verdict."""
    parts = {name: value[:count] for name, value in vars(data).items()}
    return Data(**parts), *(net.with_params(net.params.select(slice(count))) for net in networks)


@dataclass(frozen=True)
class Trained:
    """Networks after training, with what was measured; all tensors have the run axis first."""

    network: StackedMLP
    masks: Masks
    history: History  # "loss" and "accuracy" on the validation set
    test: Float[Tensor, " runs"]  # test accuracy (0-100) after the last step
    validation: Float[Tensor, " runs"]  # validation accuracy (0-100) after the last step

    @property
    def kept(self) -> float:
        """P_m, in percent; the same for every run."""
        return 100 * float(pruning.kept_share(self.masks)[0])

    @property
    def weights(self) -> int:
        """Live weights of one run."""
        return sum(int(count[0]) for count in pruning.alive_counts(self.masks).values())


def train(settings: Settings, start: StackedMLP, masks: Masks, data: Data) -> Trained:
    """Train m ⊙ θ from the values in `start`, which stays as it is, for exactly `settings.steps` steps.

    Gradients of dead weights are set to zero and the optimiser starts anew, so that a dead weight stays exactly zero.
    The data order depends on the seed alone: arms of one seed see the same batches.
    """
    net = masked(start, masks)
    order = epochs(RunRNG(data.seeds, "order", data.train_x.device), data.train_x.shape[1], settings.batch)

    def loss(step: int) -> Tensor:
        index = next(order)
        return cross_entropy(net(gather(data.train_x, index)), gather(data.train_y, index))

    def look() -> dict[str, Tensor]:
        logits = net(data.validation_x)
        return {
            "loss": cross_entropy(logits, data.validation_y),
            "accuracy": 100 * accuracy(logits, data.validation_y),
        }

    history = train_stack(
        FlatAdam(net.params, settings.learning_rate),
        loss,
        settings.steps,
        learning_rate=drops(settings.learning_rate, settings.steps, (settings.uncut, 0.85), 0.2),
        alive=pruning.flat_mask(net.params, masks),
        evaluate=look,
        every=settings.every,
    )
    with torch.no_grad():
        test = 100 * accuracy(net(data.test_x), data.test_y)
    return Trained(net, masks, history, test, history.last("accuracy"))


def prune(settings: Settings, trained: Trained, scores: Mapping[str, Tensor] | None = None) -> Masks:
    """One cut: of the weights still alive, those of smallest |θ_j| die (step 3 of the procedure in section 1).

    Args:
        settings: `fraction` through all layers together, or per layer if `output_fraction` is given.
        trained: whose weights are cut.
        scores: another criterion than the magnitude, larger is better.
    """
    names = list(trained.masks)
    scores = pruning.magnitudes(trained.network.params, names) if scores is None else scores
    alive = {name: int(count[0]) for name, count in pruning.alive_counts(trained.masks).items()}
    if settings.output_fraction is None:
        keep = pruning.remaining(sum(alive.values()), settings.fraction)
        return pruning.prune_global(scores, trained.masks, keep)
    fractions = {name: settings.fraction for name in names} | {names[-1]: settings.output_fraction}
    keep = {name: pruning.remaining(alive[name], fractions[name]) for name in names}
    return pruning.prune_layerwise(scores, trained.masks, keep)


def find_tickets(settings: Settings, start: StackedMLP, dense: Trained, data: Data) -> list[Trained]:
    """Iterative magnitude pruning: entry 0 is the dense network, entry r the ticket after r cuts, trained.

    Args:
        settings: `rounds` cuts are made.
        start: θ0, to which the survivors are put back after every cut.
        dense: the whole network, trained from θ0.
        data: of the same runs.
    """
    trained = [dense]
    for _ in range(settings.rounds):
        trained.append(train(settings, start, prune(settings, trained[-1]), data))
    return trained


def fine_tune(settings: Settings, dense: Trained, data: Data, rounds: int = 6, cut: bool = True) -> Trained:
    """Pruning without rewinding: survivors keep their trained values and train on between the cuts.

    This makes no tickets; it is the older practice from which the paper starts.

    Args:
        dense: the trained whole network.
        rounds: of `steps` steps each, at a rate of their own.
        cut: False trains the whole network on for as many steps, for comparison.
    """
    trained = dense
    for _ in range(rounds):
        gentle = replace(settings, learning_rate=settings.fine_rates[0 if cut else 1])
        masks = prune(settings, trained) if cut else trained.masks
        trained = train(gentle, trained.network, masks, data)
    return trained


def one_shot(dense: Trained, keep: int) -> Masks:
    """The mask of one single cut of the trained dense network, down to `keep` weights through all layers."""
    return pruning.prune_global(pruning.magnitudes(dense.network.params, dense.masks), dense.masks, keep)


def shuffle(masks: Masks, data: Data, level: int) -> Masks:
    """Random sparsity (control b): as many weights in every layer, elsewhere."""
    return pruning.shuffled(masks, generators(data.seeds, f"shuffle/{level}"))


def blend(start: StackedMLP, other: StackedMLP, share: float) -> StackedMLP:
    """Initial values of correlation `share` with θ0: share θ0 + sqrt(1 - share²) θ0', of unchanged variance.

    1 is the ticket, 0 is random reinitialisation (control a); a straight mixture would shrink the values halfway.
    """
    params = start.params.select(slice(None))
    params.flat.mul_(share).add_(other.params.flat, alpha=(1 - share**2) ** 0.5)
    return start.with_params(params)


def small_dense(settings: Settings, data: Data, level: int, rate: float | None = None) -> Trained:
    """The strong baseline: an unpruned network of equal hidden widths with about as many weights as a ticket.

    Args:
        level: position in `control_rounds` of the ticket to match.
        rate: learning rate; the tuned one of this level if not given.
    """
    width = small_width(settings, data.train_x.shape[-1], settings.control_rounds[level])
    rate = settings.small_rates[level] if rate is None else rate
    smaller = replace(settings, hidden=(width,) * len(settings.hidden), learning_rate=rate)
    start = network(smaller, data)
    return train(smaller, start, everything(start), data)


def small_width(settings: Settings, inputs: int, cuts: int) -> int:
    """Hidden width at which a dense network has about as many weights as the ticket after so many cuts."""
    sizes = (inputs, *settings.hidden, 10)
    target = pruning.remaining(sum(a * b for a, b in zip(sizes, sizes[1:])), settings.fraction, cuts)
    layers = len(settings.hidden)
    return min(range(1, max(settings.hidden) + 1), key=lambda h: abs(h * (inputs + 10 + (layers - 1) * h) - target))


# --- effects of the card, one number per run -------------------------------------------------------


def time_saved(settings: Settings, dense: Trained, tickets: Sequence[Trained]) -> Float[Tensor, " runs"]:
    """Claim tickets-learn-faster: 1 - time to target of ticket / dense, averaged over tickets.

    The target is the dense network's lowest validation loss before the learning rate first drops; a ticket that
    does not get there by then is given the last of these steps.
    """
    end = int(settings.uncut * settings.steps)
    steps = dense.history.steps
    target, dense_time = best(steps, dense.history["loss"], upto=end)
    times = [time_to_target(steps, t.history["loss"], target, censored_at=end)[0] for t in tickets]
    return 1 - torch.stack([time / dense_time for time in times]).mean(0)


def gain_of_best(dense: Trained, tickets: Sequence[Trained]) -> Float[Tensor, " runs"]:
    """Claim tickets-more-accurate: test accuracy over dense of the ticket with the best *validation* accuracy."""
    choice = torch.stack([t.validation for t in tickets]).argmax(0)
    test = torch.stack([t.test for t in tickets])
    return test.gather(0, choice[None])[0] - dense.test


def mean_gap(ours: Sequence[Trained], theirs: Sequence[Trained]) -> Float[Tensor, " runs"]:
    """Difference of test accuracies in points, averaged over levels."""
    return torch.stack([a.test - b.test for a, b in zip(ours, theirs, strict=True)]).mean(0)


# --- tuning ----------------------------------------------------------------------------------------


def tune(
    settings: Settings, seeds: Sequence[int] = tuple(range(10)), device: str | torch.device = "cpu"
) -> dict[str, dict[float, float]]:
    """Validation accuracy (0-100, mean over tuning seeds) of every learning rate for dense and small dense networks.

    The largest entries of each row stand in the settings. Tickets and controls are not tuned: they take the dense
    network's rate.
    """
    if max(seeds) >= 100:
        raise ValueError("tuning uses seeds 0 to 99; evidence starts at 100")
    data = load(settings, seeds, device)
    rows: dict[str, Callable[[float], Trained]] = {}
    start = network(settings, data)
    rows["dense"] = lambda rate: train(replace(settings, learning_rate=rate), start, everything(start), data)
    for level, cuts in enumerate(settings.control_rounds):
        width = small_width(settings, data.train_x.shape[-1], cuts)
        rows[f"small dense, {width} wide"] = lambda rate, level=level: small_dense(settings, data, level, rate)
    return {name: {rate: float(arm(rate).validation.mean()) for rate in settings.rates} for name, arm in rows.items()}


def tune_fine(
    settings: Settings = FULL, seeds: Sequence[int] = tuple(range(10)), device: str | torch.device = "cpu"
) -> dict[str, dict[float, float]]:
    """The same for networks that train on after their first training: pruned between rounds, or left whole."""
    if max(seeds) >= 100:
        raise ValueError("tuning uses seeds 0 to 99; evidence starts at 100")
    data = load(settings, seeds, device)
    start = network(settings, data)
    dense = train(settings, start, everything(start), data)
    return {
        name: {
            rate: float(fine_tune(replace(settings, fine_rates=(rate, rate)), dense, data, cut=cut).validation.mean())
            for rate in settings.rates
        }
        for name, cut in (("pruned, trained on", True), ("whole, trained on", False))
    }


# what `tune` found on seeds 0 to 9: one entry for each of `rates`; the largest of each row stands in the settings
TRIALS: dict[str, dict[str, tuple[float, ...]]] = {
    "quick": {
        "dense": (44.7, 55.1, 61.1, 49.7),
        "small dense, 29 wide": (35.8, 47.1, 54.1, 48.7),
        "small dense, 22 wide": (31.6, 43.3, 49.4, 48.4),
        "small dense, 12 wide": (27.8, 37.6, 45.8, 46.8),
    },
    "full": {
        "dense": (57.9, 64.2, 69.0, 49.1),
        "small dense, 62 wide": (51.9, 58.4, 64.5, 51.2),
        "small dense, 48 wide": (50.0, 54.7, 61.0, 51.4),
        "small dense, 28 wide": (44.0, 51.1, 54.7, 49.7),
    },
    "trained on": {  # by `tune_fine`, in the full profile
        "pruned, trained on": (54.8, 60.4, 51.7, 16.1),
        "whole, trained on": (68.6, 69.3, 67.9, 53.6),
    },
    "lenet": {"dense": (93.98, 94.70, 94.68, 94.52)},
}
