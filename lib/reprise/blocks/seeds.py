"""Seeds as a batch dimension: many independent runs trained as one program.

Small networks are bound by the cost of starting an operation, not by arithmetic, so ten networks that share
every call cost little more than one. Everything here has the run axis first and never mixes runs:

- `generators`, `RunRNG`: random numbers that depend on (seed, stream), never on how many runs are stacked;
- `ParameterStore`: all parameters of all runs in one buffer (runs, parameters), with named leaves as views;
- `linear`, `conv2d`, `layer_norm`: layers as functions of explicit, stacked weights;
- `StackedLinear`, `StackedConv2d`, `StackedLayerNorm`, `StackedMLP`: the same with names and initial values;
- `FlatAdam`, `FlatSGD`: optimisers that act on the whole buffer, with masks, rates and clipping per run.

Loss convention of the library: mean over the batch, **sum over runs**, so that no run scales another's
gradient.
"""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional as F

Runs = int | Sequence[int] | Tensor | slice
Activation = str | Callable[[Tensor], Tensor] | None

ACTIVATIONS = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "silu": F.silu,
    "elu": F.elu,
    "softplus": F.softplus,
    "identity": lambda x: x,
}


# --- randomness -----------------------------------------------------------------------------------


def generators(seeds: Sequence[int], stream: str = "main", device: str | torch.device = "cpu") -> list[Generator]:
    """One independent generator per seed: the only place where the library turns seeds into randomness.

    Args:
        seeds: one integer per run.
        stream: what the numbers are for ("init", "order", ...); other streams give independent numbers.
        device: where the generators live. CPU generators give the same numbers on every machine.
    """
    made = []
    for seed in seeds:
        # a cryptographic hash, because Python's own hash() changes from process to process
        digest = hashlib.sha256(f"{int(seed)}/{stream}".encode()).digest()
        made.append(Generator(device=device).manual_seed(int.from_bytes(digest[:8], "little") >> 1))
    return made


class RunRNG:
    """Random numbers for a stack of runs: run i gets the same numbers whatever the number of runs.

    Numbers come from CPU generators (same values on CPU and GPU), drawn ahead in blocks so that a small
    request costs one slice. Each kind (normal, uniform, permutation) has a stream of its own.

    Args:
        seeds: one integer per run.
        stream: name of the stream, e.g. "order" or "exploration".
        device: where the drawn numbers are wanted.
        block: how many numbers per run are drawn ahead.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        stream: str = "main",
        device: str | torch.device = "cpu",
        block: int = 8192,
    ):
        self.runs, self.device, self.block = len(seeds), torch.device(device), block
        self._generators = {
            kind: generators(seeds, f"{stream}/{kind}") for kind in ("normal", "uniform", "permutation")
        }
        self._ahead = {kind: torch.empty(self.runs, 0) for kind in ("normal", "uniform")}
        self._used = {"normal": 0, "uniform": 0}

    def normal(self, *shape: int) -> Float[Tensor, "runs ..."]:
        """Standard normal numbers of shape (runs, *shape)."""
        return self._draw("normal", shape)

    def uniform(self, *shape: int) -> Float[Tensor, "runs ..."]:
        """Uniform numbers in [0, 1) of shape (runs, *shape)."""
        return self._draw("uniform", shape)

    def randint(self, high: int | Int[Tensor, " runs"], *shape: int) -> Int[Tensor, "runs ..."]:
        """Integers in [0, high) of shape (runs, *shape), as floor(u * high); `high` may differ per run.

        Uniforms carry 24 bits, so values are even to one part in 16 million divided by `high`.
        """
        u = self._draw("uniform", shape)
        if isinstance(high, Tensor):
            high = high.to(self.device).view(-1, *[1] * len(shape))
            return torch.minimum((u * high).long(), high.long() - 1)  # u * high may round up to high
        return (u * high).long().clamp_(max=high - 1)

    def permutation(self, n: int) -> Int[Tensor, "runs n"]:
        """One random order of 0..n-1 per run."""
        orders = [torch.randperm(n, generator=g) for g in self._generators["permutation"]]
        return torch.stack(orders).to(self.device)

    def _draw(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        count = math.prod(shape)
        start = self._used[kind]
        if start + count > self._ahead[kind].shape[1]:
            # a fresh block, not the old one's rest plus some: numbers then depend on the requests alone
            fresh = torch.empty(self.runs, max(self.block, count))
            for row, generator in zip(fresh, self._generators[kind]):
                row.normal_(generator=generator) if kind == "normal" else row.uniform_(generator=generator)
            self._ahead[kind], start = fresh.to(self.device), 0
        self._used[kind] = start + count
        # a copy: the caller may write into what it gets
        return self._ahead[kind][:, start : start + count].reshape(self.runs, *shape).clone()


# --- parameters -----------------------------------------------------------------------------------


class ParameterStore:
    """All parameters of a stack of runs in one buffer, with named leaves that are views of it.

    `params["w"]` has shape (runs, *shape), is a leaf that requires gradients and shares memory with
    `params.flat`; its `.grad` shares memory with `params.grad`, so `loss.backward()` fills the gradient
    buffer without copies. Row i of both buffers is run i. Use the store's own `zero_grad()` (never
    `set_to_none`); for gradients of gradients use `torch.autograd.grad`, since `backward(create_graph=True)`
    would detach the gradients from the buffer.

    Args:
        runs: number of stacked runs, at least 1.
        shapes: name -> shape of one run's parameter, in buffer order.
        device: where the buffers live.
        dtype: floating-point type.
    """

    def __init__(
        self,
        runs: int,
        shapes: Mapping[str, Sequence[int]],
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        if runs < 1 or not shapes:
            raise ValueError(f"a store needs at least one run and parameter; got {runs} runs, {list(shapes)}")
        _hear_layout_warning_once()
        self.runs = runs
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.count = sum(math.prod(shape) for shape in self.shapes.values())  # parameters of one run
        self.flat = torch.zeros(runs, self.count, device=device, dtype=dtype)
        self.grad = torch.zeros_like(self.flat)
        self._leaves = {name: view.detach().requires_grad_() for name, view in self.views(self.flat).items()}
        self._grads = self.views(self.grad)
        self.zero_grad()

    @property
    def device(self) -> torch.device:
        return self.flat.device

    def __getitem__(self, name: str) -> Float[Tensor, "runs ..."]:
        return self._leaves[name]

    def __contains__(self, name: str) -> bool:
        return name in self._leaves

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)

    def items(self):
        """Pairs of name and leaf, in buffer order."""
        return self._leaves.items()

    def keys(self):
        """Names, in buffer order; with `[]` this lets a store be passed wherever a mapping of tensors is."""
        return self._leaves.keys()

    def get(self, name: str, default: Tensor | None = None) -> Tensor | None:
        """The leaf of that name, or `default` if there is none."""
        return self._leaves.get(name, default)

    def views(self, buffer: Tensor) -> dict[str, Tensor]:
        """Named views (runs, *shape) into any buffer laid out as `flat`: masks, moments, directions."""
        if buffer.shape[-1] != self.count:
            raise ValueError(f"the buffer has {buffer.shape[-1]} columns for {self.count} parameters")
        pieces = buffer.split([math.prod(shape) for shape in self.shapes.values()], dim=1)
        return {name: piece.view(-1, *shape) for (name, shape), piece in zip(self.shapes.items(), pieces)}

    def zero_grad(self) -> None:
        """Set the gradient buffer to zero and make sure that every leaf's `.grad` still is a view of it."""
        self.grad.zero_()
        for name, leaf in self._leaves.items():
            if leaf.grad is not self._grads[name]:
                leaf.grad = self._grads[name]

    def select(self, runs: Runs) -> "ParameterStore":
        """A new store with copies of these runs (an index, indices, a slice or a boolean mask), in order."""
        rows = self.flat[[runs] if isinstance(runs, int) else runs]
        chosen = ParameterStore(len(rows), self.shapes, self.device, self.flat.dtype)
        chosen.flat.copy_(rows)
        return chosen

    def repeat(self, times: int) -> "ParameterStore":
        """A new store with every run `times` times, copies next to each other (run 0, run 0, run 1, ...)."""
        return self.select(torch.arange(self.runs).repeat_interleave(times))

    def run(self, i: int) -> dict[str, Tensor]:
        """Copies of one run's parameters, name -> tensor without the run axis."""
        return {name: leaf[i].detach().clone() for name, leaf in self._leaves.items()}

    def state(self) -> dict[str, Tensor]:
        """Copies of all parameters, name -> (runs, *shape), as `load` and safetensors take them."""
        return {name: leaf.detach().clone() for name, leaf in self._leaves.items()}

    def load(self, state: "Mapping[str, Tensor] | ParameterStore", mask: Tensor | None = None) -> None:
        """Overwrite the parameters in place; with `mask` (runs,) only those of the runs where it is true."""
        if set(state.keys()) != set(self._leaves):
            raise ValueError(f"the state names {sorted(state.keys())}, the store has {sorted(self._leaves)}")
        with torch.no_grad():
            for name, leaf in self._leaves.items():
                new = state[name].to(leaf)
                if mask is not None:
                    new = torch.where(mask.view(-1, *[1] * (leaf.ndim - 1)), new, leaf)
                leaf.copy_(new)


def stores_joined(stores: Sequence[ParameterStore]) -> ParameterStore:
    """One store with the runs of several stores of equal shapes, in order (conditions as more runs)."""
    first = stores[0]
    if any(store.shapes != first.shapes for store in stores):
        raise ValueError("only stores with the same names and shapes can be joined")
    joined = ParameterStore(sum(store.runs for store in stores), first.shapes, first.device, first.flat.dtype)
    joined.flat.copy_(torch.cat([store.flat for store in stores]))
    return joined


_layout_warning_heard = False


def _hear_layout_warning_once() -> None:
    """Let torch give its one warning per process about strided gradients where nobody has to read it.

    A parameter's rows are strided in the buffer; torch warns that this may be slow; measured, it is not.
    """
    global _layout_warning_heard
    if not _layout_warning_heard:
        _layout_warning_heard = True
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            leaf = torch.zeros(2, 2)[:, :1].detach().requires_grad_()
            leaf.grad = torch.zeros(2, 2)[:, :1]
            leaf.sum().backward()


# --- layers as functions --------------------------------------------------------------------------


def linear(
    x: Float[Tensor, "runs *batch inputs"],
    weight: Float[Tensor, "runs inputs outputs"],
    bias: Float[Tensor, "runs 1 outputs"] | None = None,
) -> Float[Tensor, "runs *batch outputs"]:
    """x W + b for every run at once; any axes between runs and inputs count as batch."""
    rows = x if x.ndim == 3 else x.flatten(1, -2)
    out = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias, rows, weight)
    return out if x.ndim == 3 else out.view(*x.shape[:-1], weight.shape[-1])


def conv2d(
    x: Float[Tensor, "runs batch inputs height width"],
    weight: Float[Tensor, "runs outputs inputs rows columns"],
    bias: Float[Tensor, "runs outputs"] | None = None,
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "runs batch outputs newheight newwidth"]:
    """Two-dimensional convolution with one set of filters per run, as one grouped convolution."""
    runs, batch, inputs = x.shape[:3]
    side_by_side = x.transpose(0, 1).reshape(batch, runs * inputs, *x.shape[3:])
    out = F.conv2d(
        side_by_side,
        weight.flatten(0, 1),
        None if bias is None else bias.flatten(),
        stride=stride,
        padding=padding,
        groups=runs,
    )
    return out.view(batch, runs, weight.shape[1], *out.shape[2:]).transpose(0, 1)


def layer_norm(
    x: Float[Tensor, "runs *batch d"],
    gain: Float[Tensor, "runs 1 d"],
    offset: Float[Tensor, "runs 1 d"],
    eps: float = 1e-5,
) -> Float[Tensor, "runs *batch d"]:
    """Layer normalisation of the last axis with one gain and offset per run."""
    shape = (len(x), *[1] * (x.ndim - 2), x.shape[-1])
    return F.layer_norm(x, x.shape[-1:], eps=eps) * gain.view(shape) + offset.view(shape)


# --- layers with names and initial values ---------------------------------------------------------


def fill(
    weight: Tensor, generators: Sequence[Generator], init: str, fan_in: int, fan_out: int, gain: float = 1.0
) -> None:
    """Draw initial weights in place, run by run, each from its own generator.

    Args:
        weight: (runs, ...).
        generators: one per run.
        init: "torch" (uniform, bound 1/sqrt(fan_in), as torch.nn.Linear), "he_normal" (variance 2/fan_in),
            "glorot_normal" (2/(fan_in+fan_out)), "lecun" (normal, 1/fan_in), "orthogonal" or "zeros".
        fan_in, fan_out: inputs and outputs that one weight matrix connects.
        gain: factor on every drawn value.
    """
    scale = {
        "torch": 1 / math.sqrt(3 * fan_in),
        "he_normal": math.sqrt(2 / fan_in),
        "glorot_normal": math.sqrt(2 / (fan_in + fan_out)),
        "lecun": 1 / math.sqrt(fan_in),
        "orthogonal": 1.0,
        "zeros": 0.0,
    }.get(init)
    if scale is None:
        raise ValueError(f"unknown init {init!r}; choose torch, he_normal, glorot_normal, lecun, orthogonal or zeros")
    with torch.no_grad():
        for own, generator in zip(weight, generators, strict=True):
            drawn = torch.empty(own.shape, dtype=own.dtype, device=generator.device)
            if init == "torch":
                drawn.uniform_(-scale * math.sqrt(3), scale * math.sqrt(3), generator=generator)
            elif init == "orthogonal":
                nn.init.orthogonal_(drawn, generator=generator)
            elif init == "zeros":
                drawn.zero_()
            else:
                drawn.normal_(0.0, scale, generator=generator)
            own.copy_(drawn * gain)


@dataclass(frozen=True)
class StackedLinear:
    """A named linear layer; weights (runs, inputs, outputs), bias (runs, 1, outputs).

    Under init "torch" the bias is drawn as torch does, under every other it is zero.
    """

    name: str
    inputs: int
    outputs: int
    bias: bool = True
    init: str = "torch"
    gain: float = 1.0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, for a `ParameterStore`."""
        weight = {f"{self.name}.weight": (self.inputs, self.outputs)}
        return weight | ({f"{self.name}.bias": (1, self.outputs)} if self.bias else {})

    def initialise(self, params: ParameterStore, generators: Sequence[Generator]) -> None:
        """Draw the initial values."""
        fill(params[f"{self.name}.weight"], generators, self.init, self.inputs, self.outputs, self.gain)
        if self.bias and self.init == "torch":
            fill(params[f"{self.name}.bias"], generators, "torch", self.inputs, self.outputs)

    def __call__(self, params: Mapping[str, Tensor] | ParameterStore, x: Tensor) -> Tensor:
        return linear(x, params[f"{self.name}.weight"], params.get(f"{self.name}.bias"))


@dataclass(frozen=True)
class StackedConv2d:
    """A named convolution; weights (runs, outputs, inputs, kernel, kernel), bias (runs, outputs)."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True
    init: str = "torch"
    gain: float = 1.0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, for a `ParameterStore`."""
        weight = {f"{self.name}.weight": (self.outputs, self.inputs, self.kernel, self.kernel)}
        return weight | ({f"{self.name}.bias": (self.outputs,)} if self.bias else {})

    def initialise(self, params: ParameterStore, generators: Sequence[Generator]) -> None:
        """Draw the initial values."""
        area = self.kernel**2
        fans = self.inputs * area, self.outputs * area
        fill(params[f"{self.name}.weight"], generators, self.init, *fans, self.gain)
        if self.bias and self.init == "torch":
            fill(params[f"{self.name}.bias"], generators, "torch", *fans)

    def __call__(self, params: Mapping[str, Tensor] | ParameterStore, x: Tensor) -> Tensor:
        weight, bias = params[f"{self.name}.weight"], params.get(f"{self.name}.bias")
        return conv2d(x, weight, bias, self.stride, self.padding)


@dataclass(frozen=True)
class StackedLayerNorm:
    """A named layer normalisation; gain and offset (runs, 1, width), starting at one and zero."""

    name: str
    width: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, for a `ParameterStore`."""
        return {f"{self.name}.gain": (1, self.width), f"{self.name}.offset": (1, self.width)}

    def initialise(self, params: ParameterStore, generators: Sequence[Generator]) -> None:
        """Set gain to one; nothing is drawn."""
        with torch.no_grad():
            params[f"{self.name}.gain"].fill_(1.0)

    def __call__(self, params: Mapping[str, Tensor] | ParameterStore, x: Tensor) -> Tensor:
        return layer_norm(x, params[f"{self.name}.gain"], params[f"{self.name}.offset"])


def build(
    layers: Sequence, seeds: Sequence[int] | Sequence[Generator], device: str | torch.device = "cpu"
) -> ParameterStore:
    """One store with the initialised parameters of several layers (anything with `shapes` and `initialise`).

    Args:
        layers: in the order in which their values are drawn.
        seeds: one seed (stream "init" is used) or one generator per run.
        device: where the parameters live; values are drawn where the generators live, so devices agree.
    """
    own = [s if isinstance(s, Generator) else generators([s], "init")[0] for s in seeds]
    shapes = {name: shape for layer in layers for name, shape in layer.shapes().items()}
    params = ParameterStore(len(own), shapes, device)
    for layer in layers:
        layer.initialise(params, own)
    return params


class StackedMLP:
    """Fully-connected networks, one per run: (runs, batch, sizes[0]) -> (runs, batch, sizes[-1]).

    Parameters live in `self.params` as "0.weight", "0.bias", "1.weight", ...; norms as "0.norm.gain", ...

    Args:
        seeds: one seed or one generator per run.
        sizes: inputs, hidden widths, outputs.
        activation: a name in `ACTIVATIONS` or a function, after every layer but the last.
        init: see `fill`.
        gain: factor on the initial weights of the hidden layers.
        last_gain: the same for the last layer; `gain` if not given.
        layer_norm: normalise each hidden layer before its activation.
        bias: whether linear layers have biases.
        output_activation: applied to the output.
        device: where the parameters live.
    """

    def __init__(
        self,
        seeds: Sequence[int] | Sequence[Generator],
        sizes: Sequence[int],
        activation: Activation = "relu",
        init: str = "torch",
        gain: float = 1.0,
        last_gain: float | None = None,
        layer_norm: bool = False,
        bias: bool = True,
        output_activation: Activation = None,
        device: str | torch.device = "cpu",
    ):
        if len(sizes) < 2:
            raise ValueError(f"sizes must name at least inputs and outputs; got {list(sizes)}")
        self.sizes = tuple(sizes)
        self.activation, self.output_activation = _activation(activation), _activation(output_activation)
        last = len(sizes) - 2
        gains = [gain] * last + [gain if last_gain is None else last_gain]
        self.layers = [StackedLinear(str(i), sizes[i], sizes[i + 1], bias, init, gains[i]) for i in range(last + 1)]
        self.norms = [StackedLayerNorm(f"{i}.norm", sizes[i + 1]) for i in range(last)] if layer_norm else []
        self.params = build([*self.layers, *self.norms], seeds, device)

    @property
    def runs(self) -> int:
        return self.params.runs

    def forward(
        self,
        x: Float[Tensor, "runs *batch inputs"],
        features: bool = False,
        params: Mapping[str, Tensor] | ParameterStore | None = None,
    ):
        """Outputs (runs, *batch, outputs); with `features` also the list of hidden activations.

        Args:
            x: one batch per run; `x.expand(runs, -1, -1)` shows all runs the same one.
            features: return (outputs, [hidden activations (runs, *batch, width)]).
            params: use these values instead of the network's own (masked, perturbed or generated weights).
        """
        params = self.params if params is None else params
        hidden = []
        for i, layer in enumerate(self.layers[:-1]):
            x = layer(params, x)
            x = self.activation(self.norms[i](params, x) if self.norms else x)
            hidden.append(x)
        x = self.output_activation(self.layers[-1](params, x))
        return (x, hidden) if features else x

    __call__ = forward

    def with_params(self, params: ParameterStore) -> "StackedMLP":
        """The same architecture around another store (e.g. `mlp.params.select(runs)` or a target copy)."""
        twin = object.__new__(StackedMLP)
        twin.__dict__.update(self.__dict__, params=params)
        return twin

    def weight_names(self) -> list[str]:
        """Names of the weight matrices, first layer first (what pruning acts on)."""
        return [f"{layer.name}.weight" for layer in self.layers]

    def module(self, run: int) -> nn.Sequential:
        """One run as an ordinary torch module with copied weights, for saving, plotting and comparison."""
        parts, own = [], self.params.run(run)
        for i, layer in enumerate(self.layers):
            ordinary = nn.Linear(layer.inputs, layer.outputs, bias=layer.bias)
            ordinary.weight.data.copy_(own[f"{i}.weight"].T)
            if layer.bias:
                ordinary.bias.data.copy_(own[f"{i}.bias"][0])
            parts.append(ordinary)
            if i < len(self.layers) - 1:
                if self.norms:
                    norm = nn.LayerNorm(layer.outputs)
                    norm.weight.data.copy_(own[f"{i}.norm.gain"][0])
                    norm.bias.data.copy_(own[f"{i}.norm.offset"][0])
                    parts.append(norm)
                parts.append(_Function(self.activation))
        return nn.Sequential(*parts, _Function(self.output_activation)).to(self.params.device)


class _Function(nn.Module):
    """A function as a module, so that it fits into `nn.Sequential`."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _activation(choice: Activation) -> Callable[[Tensor], Tensor]:
    if callable(choice):
        return choice
    if (choice or "identity") not in ACTIVATIONS:
        raise ValueError(f"unknown activation {choice!r}; choose {', '.join(ACTIVATIONS)} or pass a function")
    return ACTIVATIONS[choice or "identity"]


# --- optimisers -----------------------------------------------------------------------------------

PerRun = float | Tensor  # one value for all runs, or (runs,), or one per parameter (runs, parameters)


class FlatAdam:
    """Adam (Kingma & Ba 2015) and AdamW (decoupled decay) on a whole `ParameterStore`, step counts per run.

    Agrees with torch.optim.Adam and AdamW. `learning_rate` may be changed between steps.

    Args:
        params: the store whose `grad` is used and whose `flat` is changed.
        learning_rate: a number, one per run (runs,), or one per parameter (runs, parameters).
        betas: decay of the first and second moment per step.
        eps: added to the root of the second moment.
        weight_decay: as `learning_rate`; a (1, parameters) tensor of zeros and values spares e.g. biases.
        decoupled: False adds decay to the gradient (Adam), True shrinks the weights directly (AdamW).
    """

    def __init__(
        self,
        params: ParameterStore,
        learning_rate: PerRun,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: PerRun = 0.0,
        decoupled: bool = False,
    ):
        self.params, self.learning_rate, self.betas, self.eps = params, learning_rate, betas, eps
        self.weight_decay, self.decoupled = weight_decay, decoupled
        self.first, self.second = torch.zeros_like(params.flat), torch.zeros_like(params.flat)
        # double, because 1 - beta2**steps loses four digits in single precision during the first steps
        self.steps = torch.zeros(params.runs, 1, device=params.device, dtype=torch.float64)
        self._scratch = torch.empty_like(params.flat)

    @torch.no_grad()
    def step(self, mask: Bool[Tensor, " runs"] | None = None, max_norm: float | None = None) -> None:
        """One update from `params.grad`.

        Args:
            mask: runs to update; the others keep parameters, moments and step count untouched.
            max_norm: clip each run's gradient to this Euclidean norm, as torch's clip_grad_norm_ per network.
        """
        if mask is not None:
            before = [t.clone() for t in (self.params.flat, self.first, self.second, self.steps)]
        flat, (beta1, beta2) = self.params.flat, self.betas
        rate = _per_row(self.learning_rate, flat)
        gradient = _gradient(self.params, max_norm, self.weight_decay, self.decoupled, rate)
        self.steps += 1
        self.first.lerp_(gradient, 1 - beta1)
        self.second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        # rate * first_hat / (sqrt(second_hat) + eps), with the factors that are one number per run gathered, so
        # that few passes over the whole buffer remain
        correction = (1 - beta2**self.steps).sqrt()
        scale = (rate * correction / (1 - beta1**self.steps)).to(flat.dtype)
        torch.sqrt(self.second, out=self._scratch)
        self._scratch.add_((self.eps * correction).to(flat.dtype))
        torch.div(self.first, self._scratch, out=self._scratch)
        flat.addcmul_(self._scratch, scale, value=-1)
        if mask is not None:
            _undo(mask, before, (flat, self.first, self.second, self.steps))

    def reset(self, mask: Bool[Tensor, " runs"] | None = None) -> None:
        """Forget moments and step counts, of all runs or of those where `mask` is true."""
        rows = slice(None) if mask is None else mask
        for tensor in (self.first, self.second, self.steps):
            tensor[rows] = 0


class FlatSGD:
    """Gradient descent with (Nesterov) momentum on a whole `ParameterStore`; agrees with torch.optim.SGD.

    Args:
        params: the store whose `grad` is used and whose `flat` is changed.
        learning_rate: a number, one per run (runs,), or one per parameter (runs, parameters).
        momentum: share of the last update that is kept.
        nesterov: look ahead along the momentum.
        weight_decay: as `learning_rate`; added to the gradient.
    """

    def __init__(
        self,
        params: ParameterStore,
        learning_rate: PerRun,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: PerRun = 0.0,
    ):
        self.params, self.learning_rate, self.momentum = params, learning_rate, momentum
        self.nesterov, self.weight_decay = nesterov, weight_decay
        self.velocity = torch.zeros_like(params.flat)

    @torch.no_grad()
    def step(self, mask: Bool[Tensor, " runs"] | None = None, max_norm: float | None = None) -> None:
        """One update from `params.grad`; `mask` and `max_norm` as in `FlatAdam.step`."""
        if mask is not None:
            before = [t.clone() for t in (self.params.flat, self.velocity)]
        flat = self.params.flat
        rate = _per_row(self.learning_rate, flat)
        direction = _gradient(self.params, max_norm, self.weight_decay, False, rate)
        if self.momentum:
            self.velocity.mul_(self.momentum).add_(direction)
            direction = direction + self.momentum * self.velocity if self.nesterov else self.velocity
        flat.sub_(direction * rate)
        if mask is not None:
            _undo(mask, before, (flat, self.velocity))

    def reset(self, mask: Bool[Tensor, " runs"] | None = None) -> None:
        """Forget the momentum, of all runs or of those where `mask` is true."""
        self.velocity[slice(None) if mask is None else mask] = 0


def _per_row(value: PerRun, like: Tensor) -> PerRun:
    """A number as it is; one value per run as a column that multiplies rows."""
    if not isinstance(value, Tensor):
        return value
    value = value.to(like)
    return value.view(-1, 1) if value.ndim == 1 else value


def _gradient(
    params: ParameterStore, max_norm: float | None, weight_decay: PerRun, decoupled: bool, rate: PerRun
) -> Tensor:
    """The gradient after clipping and decay; decoupled decay shrinks the parameters here and now."""
    gradient = params.grad
    if max_norm is not None:
        norms = gradient.norm(dim=1, keepdim=True)
        gradient = gradient * (max_norm / (norms + 1e-6)).clamp(max=1.0)
    if isinstance(weight_decay, Tensor) or weight_decay:
        decay = _per_row(weight_decay, params.flat)
        if decoupled:
            params.flat.mul_(1 - rate * decay)
        else:
            gradient = gradient + decay * params.flat
    return gradient


def _undo(mask: Tensor, before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
    """Put back the rows of the runs that were not to be updated, whatever their gradients held (even NaN)."""
    keep = mask.view(-1, 1)
    for old, new in zip(before, after):
        torch.where(keep, new, old, out=new)
