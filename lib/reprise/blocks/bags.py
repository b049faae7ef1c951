"""Multiple-instance learning: a bag of instances has one label; data, the usual poolers, training, AUC. Runs first.

A pooling is anything with `layers(width, budget)`, its trained layers spending about `budget` parameters on features
of that width, and `pooling(params, x, absent)`, logits (runs, bags) from x (runs, bags, n, width) and the places that
hold no instance, (runs, bags, n) or None. `BagNetwork` puts an encoder of instances before it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional as F

from reprise.blocks.seeds import FlatAdam, ParameterStore, RunRNG, StackedConv2d, StackedLinear, build, linear
from reprise.blocks.training import epochs, gather, train

Parameters = Mapping[str, Tensor] | ParameterStore


@dataclass(frozen=True)
class Bags:
    """Bags for every run: instances or their numbers, places without one (None: no such place), and the label."""

    instances: Float[Tensor, "runs bags n features"] | Int[Tensor, "runs bags n"]
    absent: Bool[Tensor, "runs bags n"] | None
    positive: Float[Tensor, "runs bags"]


def bit_bags(seeds: Sequence[int], bags: int, stream: str, instances: int, bits: int, signals: int) -> Bags:
    """Bags of random bit patterns (-1, 1), half of them with exactly one of the run's secret signals.

    Signals are distinct and never all-zero; no other instance is a signal or all-zero. Streams share the signals.

    Raises:
        ValueError: there are fewer patterns than signals need.
    """
    codes = 2**bits - 1  # 1 to codes: zero is left out
    if not 0 < signals < codes:
        raise ValueError(f"{signals} signals and something else need more than the {codes} patterns of {bits} bits")
    names = 1 + RunRNG(seeds, "signals").permutation(codes)  # the last `signals` of this order are the signals
    rng = RunRNG(seeds, stream)
    place = rng.randint(codes - signals, bags, instances)
    positive = rng.permutation(bags) < bags // 2
    signal = codes - signals + rng.randint(signals, bags)
    here = F.one_hot(rng.randint(instances, bags), instances).bool() & positive[..., None]
    code = gather(names, torch.where(here, signal[..., None], place).flatten(1))
    x = (code[..., None] >> torch.arange(bits)) % 2
    return Bags(2.0 * x.view(*place.shape, bits) - 1, None, positive.float())


def digit_bags(
    seeds: Sequence[int], bags: int, stream: str, labels: Int[Tensor, "runs images"], target: int = 9
) -> Bags:
    """Bags of 10 image numbers on average (standard deviation 2, from 4 to 16), positive with a target digit."""
    rng = RunRNG(seeds, stream)
    absent = torch.arange(16) >= (10 + 2 * rng.normal(bags, 1)).round().clamp(4, 16)
    picks = rng.randint(labels.shape[1], bags, 16)
    found = gather(labels, picks.flatten(1)).view(picks.shape) == target
    return Bags(picks, absent, (found & ~absent).any(-1).float())


@dataclass(frozen=True)
class FixedPooling:
    """Mean, max or sum over the bag, with one trained hidden layer before it or (`late`) after it.

    A sum with a late layer is DeepSets (Zaheer et al. 2017).
    """

    kind: str
    late: bool = False

    def layers(self, width: int, budget: int) -> list[StackedLinear]:
        if self.kind not in ("mean", "max", "sum"):
            raise ValueError(f"unknown pooling {self.kind!r}; choose mean, max or sum")
        size = round((budget - 1) / (width + 2))
        return [StackedLinear("hidden", width, size), StackedLinear("out", size, 1)]

    def __call__(self, params: Parameters, x: Tensor, absent: Tensor | None = None) -> Float[Tensor, "runs bags"]:
        if not self.late:
            x = torch.relu(_linear(params, "hidden", x))
        count = x.shape[2] if absent is None else x.shape[2] - absent.sum(2, keepdim=True)
        if absent is not None:
            x = x.masked_fill(absent[..., None], -torch.inf if self.kind == "max" else 0.0)
        x = x.amax(2) if self.kind == "max" else x.sum(2) / (count if self.kind == "mean" else 1)
        if self.late:
            x = torch.relu(_linear(params, "hidden", x))
        return _linear(params, "out", x)[..., 0]


@dataclass(frozen=True)
class AttentionPooling:
    """Attention-based pooling (Ilse, Tomczak & Welling 2018, eqs. 7-9), `gated` or not, one softmax per head."""

    heads: int = 1
    gated: bool = False

    def layers(self, width: int, budget: int) -> list[StackedLinear]:
        names = ("hidden", "gate") if self.gated else ("hidden",)
        read_out = width * self.heads + 1
        size = round((budget - read_out) / (len(names) * (width + 1) + self.heads))
        score = StackedLinear("score", size, self.heads, bias=False)
        return [*(StackedLinear(name, width, size) for name in names), score, StackedLinear("out", read_out - 1, 1)]

    def __call__(self, params: Parameters, x: Tensor, absent: Tensor | None = None) -> Float[Tensor, "runs bags"]:
        hidden = torch.tanh(_linear(params, "hidden", x))
        if self.gated:
            hidden = hidden * torch.sigmoid(_linear(params, "gate", x))
        scores = linear(hidden, params["score.weight"])  # (runs, bags, n, heads)
        scores = scores if absent is None else scores.masked_fill(absent[..., None], -torch.inf)
        pooled = scores.softmax(2).transpose(2, 3) @ x  # (runs, bags, heads, width)
        return _linear(params, "out", pooled.flatten(2))[..., 0]


def _linear(params: Parameters, name: str, x: Tensor) -> Tensor:
    return linear(x, params[f"{name}.weight"], params[f"{name}.bias"])


@dataclass(frozen=True)
class BagNetwork:
    """An encoder of instances and a pooling; called with parameters, instances and absent places, it returns logits."""

    encoder: Sequence
    encode: Callable[[Parameters, Tensor], Float[Tensor, "runs bags n width"]]
    pooling: Callable
    pooling_layers: Sequence

    def start(self, seeds: Sequence[int]) -> ParameterStore:
        """Initial parameters; the encoder of a seed is the same under every pooling."""
        return build([*self.encoder, *self.pooling_layers], seeds)

    def __call__(
        self, params: Parameters, instances: Tensor, absent: Tensor | None = None
    ) -> Float[Tensor, "runs bags"]:
        return self.pooling(params, self.encode(params, instances), absent)


def bit_network(pooling: Callable, bits: int, width: int, budget: int) -> BagNetwork:
    """Instances of bits pass two hidden layers."""
    layers = [StackedLinear("bits.0", bits, width), StackedLinear("bits.1", width, width)]

    def encode(params: Parameters, x: Tensor) -> Tensor:
        for layer in layers:
            x = torch.relu(layer(params, x))
        return x

    return BagNetwork(layers, encode, pooling, pooling.layers(width, budget))


def digit_network(
    pooling: Callable, images: Float[Tensor, "runs images 1 28 28"], width: int, budget: int
) -> BagNetwork:
    """Instances are numbers of images, which a small convolutional network encodes."""
    filters = [StackedConv2d("conv.0", 1, 8, 5, stride=2), StackedConv2d("conv.1", 8, 16, 5, stride=2)]
    dense = StackedLinear("dense", 16 * 4 * 4, width)

    def encode(params: Parameters, picks: Tensor) -> Tensor:
        x = gather(images, picks.flatten(1))
        for layer in filters:
            x = torch.relu(layer(params, x))
        return torch.relu(dense(params, x.flatten(2))).unflatten(1, picks.shape[1:])

    return BagNetwork([*filters, dense], encode, pooling, pooling.layers(width, budget))


def train_bags(
    network: BagNetwork, bags: Bags, seeds: Sequence[int], learning_rate: float | Tensor, steps: int, batch: int
) -> ParameterStore:
    """AdamW (decay 0.01, gradients clipped at norm 1) on the binary cross-entropy; all runs at once."""
    params, order = network.start(seeds), epochs(RunRNG(seeds, "order"), bags.positive.shape[1], batch)

    def loss(_: int) -> Tensor:
        rows = next(order)
        absent = None if bags.absent is None else gather(bags.absent, rows)
        logits = network(params, gather(bags.instances, rows), absent)
        return F.binary_cross_entropy_with_logits(logits, gather(bags.positive, rows), reduction="none").mean(1)

    train(FlatAdam(params, learning_rate, weight_decay=0.01, decoupled=True), loss, steps, max_norm=1.0)
    return params


def score_bags(network: BagNetwork, params: Parameters, bags: Bags, part: int = 200) -> Float[Tensor, " runs"]:
    """AUC on these bags, `part` of them at a time."""
    absent = (None,) * len(bags.instances.split(part, 1)) if bags.absent is None else bags.absent.split(part, 1)
    with torch.no_grad():
        logits = [network(params, *both) for both in zip(bags.instances.split(part, 1), absent)]
    return auc(torch.cat(logits, 1), bags.positive)


def auc(scores: Float[Tensor, "runs bags"], positive: Float[Tensor, "runs bags"]) -> Float[Tensor, " runs"]:
    """Area under the ROC curve in points (0-100): how often a positive bag outranks a negative one, ties half."""
    ranks = torch.from_numpy(rankdata(scores.detach().cpu().numpy(), axis=1))
    wanted = positive.cpu().double()
    hits, misses = wanted.sum(1), (1 - wanted).sum(1)
    return (100 * ((ranks * wanted).sum(1) - hits * (hits + 1) / 2) / (hits * misses)).float()
