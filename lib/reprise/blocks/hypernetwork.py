"""Hypernetworks as functions, stacked over runs: shapes of the wanted tensors in, tensors out.

A hypernetwork is a small network whose output, cut into pieces, is the weights of another one (the primary
network). The parts here:

- `encode`: how an input γ enters the network, as it is or with a length that does not depend on γ;
- `StackedHypernetwork`: one multilayer perceptron per run, in the default parametrisation (encoding "none",
  `residual=False`) or the magnitude-invariant one (encoding "cos|sin", `residual=True`);
- `unflatten`: cuts flat vectors into named tensors; a generator of another kind (chunked, recurrent) can use it too.

Ortiz, Guttag & Dalca, "Magnitude Invariant Parametrizations Improve Hypernetwork Learning", ICLR 2024
(arXiv 2304.07645). Tensors are laid out as everywhere in `blocks`: matrices (inputs, outputs), biases (1, outputs),
convolutions (outputs, inputs, k, k).
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from reprise.blocks.seeds import ACTIVATIONS, ParameterStore, generators, linear

ENCODINGS = ("none", "cos|sin", "complement", "shifted", "standardised", "unit")
NORMS = (None, "layer", "batch")
BIASES = ("zero", "torch", "none")
SCALES = ("fan_out", "primary")

# Kaiming gains by activation; the smooth ones take ReLU's, as the paper's library does
GAINS = {"tanh": 5 / 3, "identity": 1.0}
RECTIFIER_GAIN = math.sqrt(2)


def encode(gamma: Float[Tensor, "*batch d"], kind: str = "cos|sin") -> Float[Tensor, "*batch e"]:
    """What the first layer sees of an input γ whose coordinates lie in [0, 1].

    Args:
        gamma: γ, last axis the coordinates.
        kind: "none": γ itself (e = d).
            "cos|sin": cosines, then sines, of πγ/2 (e = 2d): Euclidean length √d for every γ; the paper's choice.
            "complement": γ, then 1 - γ (e = 2d): sum of absolute values d for every γ.
            "shifted": 2γ - 1, in [-1, 1]. "standardised": mean 0, variance 1 for uniform γ.
            "unit": γ divided by its length, which is all that normalising the input can do (e = d).
    Raises:
        ValueError: unknown kind, or a coordinate outside [0, 1].
    """
    if kind not in ENCODINGS:
        raise ValueError(f"unknown encoding {kind!r}; choose one of {', '.join(ENCODINGS)}")
    if kind == "none":
        return gamma
    # outside this range cos and sin repeat themselves, and two inputs would get one code
    if gamma.numel() and not (gamma.min() >= 0 and gamma.max() <= 1):
        raise ValueError(
            f"the encoding {kind!r} takes inputs in [0, 1], not {float(gamma.min()):.3g} to "
            f"{float(gamma.max()):.3g}; map them there first"
        )
    if kind == "cos|sin":
        return torch.cat([torch.cos(math.pi / 2 * gamma), torch.sin(math.pi / 2 * gamma)], -1)
    if kind == "complement":
        return torch.cat([gamma, 1 - gamma], -1)
    if kind == "unit":
        return gamma / gamma.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return 2 * gamma - 1 if kind == "shifted" else math.sqrt(12) * (gamma - 0.5)


def unflatten(
    flat: Float[Tensor, "*batch count"], shapes: Mapping[str, Sequence[int]]
) -> dict[str, Float[Tensor, "..."]]:
    """Cut flat vectors into named tensors, in the order of `shapes`.

    Returns:
        name -> (*batch, *shape), views where possible.
    Raises:
        ValueError: the vectors are not as long as the shapes ask for.
    """
    sizes = [math.prod(shape) for shape in shapes.values()]
    if flat.shape[-1] != sum(sizes):
        raise ValueError(f"{flat.shape[-1]} numbers cannot fill shapes of {sum(sizes)}; give one number per entry")
    pieces = flat.split(sizes, dim=-1)
    return {name: piece.unflatten(-1, tuple(shape)) for (name, shape), piece in zip(shapes.items(), pieces)}


class StackedHypernetwork:
    """θ = h(γ; ω), one h per run: a multilayer perceptron whose output is all tensors of a primary network.

    Parameters ω live in `self.params`: "0.weight", "0.bias", ... for the hidden layers, "output.weight"
    (last hidden width, count) and "output.bias" (1, count). The output bias is θ₀, the part of the weights that
    does not depend on γ: learned always, zero at the start unless `residual`.

    Initial values follow the paper: weights normal with variance gain²/fan_out, where each generated tensor counts as
    a layer of its own; biases zero; columns that generate biases zero. Every parameter tensor has a random stream of
    its own, so that arms which differ in one ingredient share all other initial values.

    Args:
        seeds: one integer per run.
        shapes: name -> shape of each generated tensor; names that end in "bias" are biases.
        inputs: coordinates of γ.
        hidden: widths of the hidden layers.
        encoding: see `encode`.
        residual: start θ₀ as the primary network itself would start (Kaiming normal, biases zero).
        activation: "leaky_relu", a name in `seeds.ACTIVATIONS` or a function (which takes ReLU's gain).
        norm: None; "layer": layer normalisation before each activation; "batch": normalisation over the inputs that
            are given together, in training and evaluation alike.
        biases: how they start, θ₀ included: "zero"; "torch", uniform as torch.nn.Linear draws them; "none": there
            are no biases, and h stays homogeneous whatever is learned.
        scale: of the last layer's initial weights: "fan_out", the paper's; "primary", so that generated weights have
            the Kaiming variance of the primary network where the encoded input has length 1 (after Chang et al.,
            "Principled Weight Initialization for Hypernetworks", ICLR 2020).
        device, dtype: of the parameters.
    Raises:
        ValueError: no shapes, an unknown encoding, activation, norm, kind of biases or scale, or residual without
            biases.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shapes: Mapping[str, Sequence[int]],
        inputs: int = 1,
        hidden: Sequence[int] = (16, 32),
        *,
        encoding: str = "cos|sin",
        residual: bool = True,
        activation: str | Callable[[Tensor], Tensor] = "leaky_relu",
        norm: str | None = None,
        biases: str = "zero",
        scale: str = "fan_out",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        if not shapes:
            raise ValueError("a hypernetwork needs the shape of at least one tensor to generate")
        if norm not in NORMS or biases not in BIASES:
            raise ValueError(f"norm is one of {NORMS}, not {norm!r}; biases one of {BIASES}, not {biases!r}")
        if scale not in SCALES:
            raise ValueError(f"scale is one of {SCALES}, not {scale!r}")
        if biases == "none" and residual:
            raise ValueError("θ₀ is the bias of the last layer; residual needs biases 'zero' or 'torch'")
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.count = sum(math.prod(shape) for shape in self.shapes.values())  # generated numbers per input
        self.inputs, self.hidden, self.encoding, self.norm = inputs, tuple(hidden), encoding, norm
        self.activation, gain = _activation(activation)
        width = encode(torch.zeros(1, inputs), encoding).shape[-1]
        wanted: dict[str, tuple[int, ...]] = {}
        for i, (before, after) in enumerate(zip((width, *self.hidden), self.hidden)):
            wanted |= {f"{i}.weight": (before, after), f"{i}.bias": (1, after)}
            wanted |= {f"{i}.gain": (1, after), f"{i}.offset": (1, after)} if norm else {}
        last = self.hidden[-1] if self.hidden else width
        wanted |= {"output.weight": (last, self.count), "output.bias": (1, self.count)}
        if biases == "none":
            wanted = {name: shape for name, shape in wanted.items() if not name.endswith("bias")}
        self.params = ParameterStore(len(seeds), wanted, device, dtype)
        self._initialise(seeds, gain, biases, scale)
        if residual:
            self.set_start(kaiming_start(seeds, self.shapes))

    @property
    def runs(self) -> int:
        return self.params.runs

    def flat(
        self, gamma: Float[Tensor, "runs inputs d"], params: Mapping[str, Tensor] | ParameterStore | None = None
    ) -> Float[Tensor, "runs inputs count"]:
        """θ(γ) as flat vectors.

        Args:
            gamma: any number of inputs per run.
            params: other values of ω than the network's own.
        """
        if gamma.shape[-1] != self.inputs:
            raise ValueError(f"γ has {gamma.shape[-1]} coordinates; this hypernetwork was built for {self.inputs}")
        params = self.params if params is None else params
        v = encode(gamma, self.encoding)
        for i in range(len(self.hidden)):
            v = linear(v, params[f"{i}.weight"], params.get(f"{i}.bias"))
            if self.norm:
                v = _normalised(v, -1 if self.norm == "layer" else 1) * params[f"{i}.gain"] + params[f"{i}.offset"]
            v = self.activation(v)
        return linear(v, params["output.weight"], params.get("output.bias"))

    def __call__(
        self, gamma: Float[Tensor, "runs inputs d"], params: Mapping[str, Tensor] | ParameterStore | None = None
    ) -> dict[str, Float[Tensor, "runs inputs ..."]]:
        """θ(γ) as named tensors, name -> (runs, inputs, *shape)."""
        return unflatten(self.flat(gamma, params), self.shapes)

    @torch.no_grad()
    def set_start(self, tensors: Mapping[str, Tensor] | ParameterStore) -> None:
        """Overwrite θ₀ with the tensors (name -> (runs, *shape)) of an existing stack of networks.

        Raises:
            ValueError: other names, or numbers of entries, than those of the generated tensors.
        """
        if set(tensors.keys()) != set(self.shapes):
            raise ValueError(f"the start names {sorted(tensors.keys())}; generated are {sorted(self.shapes)}")
        flat = torch.cat([tensors[name].flatten(1) for name in self.shapes], 1)
        self.params["output.bias"].copy_(flat[:, None])

    @torch.no_grad()
    def _initialise(self, seeds: Sequence[int], gain: float, biases: str, scale: str) -> None:
        columns = unflatten(self.params["output.weight"], {n: (math.prod(s),) for n, s in self.shapes.items()})
        for name, leaf in self.params.items():
            if name == "output.weight":
                for tensor, part in columns.items():
                    if not tensor.endswith("bias"):
                        kaiming = scale == "primary"  # hidden layers keep the expected length of the encoded input
                        deviation = (
                            _kaiming(tensor, self.shapes[tensor]) if kaiming else gain / math.sqrt(part.shape[-1])
                        )
                        _normal(part, seeds, f"init/output/{tensor}", deviation)
            elif name.endswith("weight"):
                _normal(leaf, seeds, f"init/{name}", gain / math.sqrt(leaf.shape[-1]))
            elif name.endswith("gain"):
                leaf.fill_(1.0)
            elif name.endswith("bias") and biases == "torch":
                bound = 1 / math.sqrt(self.params[name.replace("bias", "weight")].shape[1])
                for own, generator in zip(leaf, generators(seeds, f"init/{name}"), strict=True):
                    own.copy_(torch.empty(own.shape).uniform_(-bound, bound, generator=generator))


def kaiming_start(seeds: Sequence[int], shapes: Mapping[str, Sequence[int]]) -> dict[str, Float[Tensor, "runs ..."]]:
    """θ₀ as a primary network with rectifiers would start: weights of variance 2/fan_in, biases zero.

    Raises:
        ValueError: a tensor is neither a bias nor a matrix nor a convolution, so that its fan_in is not known.
    """
    start = {}
    for name, shape in shapes.items():
        start[name] = torch.zeros(len(seeds), *shape)
        if not name.endswith("bias"):
            _normal(start[name], seeds, f"init/start/{name}", _kaiming(name, shape))
    return start


def _kaiming(name: str, shape: Sequence[int]) -> float:
    if len(shape) not in (2, 4):
        raise ValueError(f"{name} of shape {tuple(shape)} has no fan_in; give θ₀ with set_start, residual=False")
    return math.sqrt(2 / (shape[0] if len(shape) == 2 else math.prod(shape[1:])))


def _normal(target: Tensor, seeds: Sequence[int], stream: str, deviation: float) -> None:
    for own, generator in zip(target, generators(seeds, stream), strict=True):
        own.copy_(torch.empty(own.shape).normal_(0.0, deviation, generator=generator))


def _normalised(v: Tensor, axis: int, eps: float = 1e-5) -> Tensor:
    centred = v - v.mean(axis, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(axis, keepdim=True) + eps)


def _activation(choice: str | Callable[[Tensor], Tensor]) -> tuple[Callable[[Tensor], Tensor], float]:
    if callable(choice):
        return choice, RECTIFIER_GAIN
    known = ACTIVATIONS | {"leaky_relu": F.leaky_relu}
    if choice not in known:
        raise ValueError(f"unknown activation {choice!r}; choose {', '.join(known)} or pass a function")
    return known[choice], GAINS.get(choice, RECTIFIER_GAIN)
