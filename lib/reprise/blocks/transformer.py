"""Tiny transformers, stacked over runs, in which every activation has a name and can be clamped while training.

One `StackedTransformer` is many independent networks of one shape, run axis first, on one `ParameterStore`.
Pre-norm blocks, causal or full attention, rotary, learned or no positions, optional MLP and norms, sampling with
cached keys and values. Inputs are tokens, or vectors that the caller has embedded.

Names of activations; i is the layer, shapes without the leading (runs, batch), q and k are positions:

    embedding                         (length, width)      what enters the first block, positions added
    i.pattern_input, i.value_input    (length, width)      the residual as queries and keys, and as values, read it
    i.query, i.key, i.value           (heads, length, head) after rotation
    i.score, i.pattern                (heads, q, k)        before the mask and the softmax; after them
    i.mix, i.head                     (heads, q, head or width) values gathered by a head; what it adds to the residual
    i.attention, i.middle             (q, width)           all heads together; the residual after them
    i.hidden, i.mlp                   (q, mlp or width)    only with an MLP
    i.residual                        (q, width)           the residual after the block
    final, logits                     (q, width or outputs)

A clamp replaces part of an activation in the forward pass: `clamp("1.pattern", mask, value)`. Where the mask is
true the computed activation gets no gradient; the value gets one if it carries a graph (detach it to stop that).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Generator, Tensor
from torch.nn import functional as F

from reprise.blocks.seeds import (
    ParameterStore,
    RunRNG,
    StackedLayerNorm,
    StackedLinear,
    build,
    fill,
)

Params = Mapping[str, Tensor] | ParameterStore
Value = Tensor | float | int | Callable[[Tensor, Mapping[str, Tensor]], Tensor]


# --- clamps ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clamp:
    """One replacement in the forward pass; made by `clamp`."""

    name: str
    mask: Tensor | None  # None: everywhere
    value: Value

    def apply(self, activation: Tensor, earlier: Mapping[str, Tensor]) -> Tensor:
        """The activation with its masked part replaced."""
        value = self.value(activation, earlier) if callable(self.value) else self.value
        value = torch.as_tensor(value, dtype=activation.dtype, device=activation.device)
        mask = torch.ones((), dtype=torch.bool, device=value.device) if self.mask is None else self.mask
        try:
            shape = torch.broadcast_shapes(activation.shape, mask.shape, value.shape)
        except RuntimeError:
            shape = None
        if shape != activation.shape:
            raise ValueError(
                f"clamp of {self.name!r}: mask {tuple(mask.shape)} and value {tuple(value.shape)} do not broadcast "
                f"to the activation {tuple(activation.shape)}; give both its axes, (runs, batch, ...), or ones"
            )
        return value.expand(shape) if self.mask is None else torch.where(mask, value, activation)


def clamp(name: str, mask: Tensor | bool, value: Value) -> Clamp:
    """A clamp for `StackedTransformer`: where `mask` is true, activation `name` becomes `value`.

    Args:
        name: one of `StackedTransformer.names()`.
        mask: boolean, broadcast against the activation (runs, batch, ...); True replaces everything.
        value: a number, a tensor, or a function (activation, earlier activations by name) -> tensor, broadcast alike.
    """
    if isinstance(mask, bool):
        mask = None if mask else torch.zeros((), dtype=torch.bool)
    elif mask.dtype != torch.bool:
        raise ValueError(f"the mask of a clamp is boolean, not {mask.dtype}; compare first, e.g. mask > 0")
    return Clamp(name, mask, value)


class Taps:
    """Where activations pass by on their way: applies clamps, remembers what was asked for.

    Args:
        clamps: applied in order; several may name one activation.
        keep: names to remember in `seen`. Clamps that are functions see all earlier activations.
    """

    def __init__(self, clamps: Iterable[Clamp] = (), keep: Iterable[str] = ()):
        self._clamps: dict[str, list[Clamp]] = {}
        for one in clamps:
            self._clamps.setdefault(one.name, []).append(one)
        self._remembers_all = any(callable(one.value) for own in self._clamps.values() for one in own)
        self._keep = set(keep)
        self.named = self._keep | set(self._clamps)
        self.seen: dict[str, Tensor] = {}

    def wants(self, *names: str) -> bool:
        """Whether one of these activations must be computed, even where a shortcut would not need it."""
        return self._remembers_all or any(name in self.named for name in names)

    def __call__(self, name: str, activation: Tensor) -> Tensor:
        for one in self._clamps.get(name, ()):
            activation = one.apply(activation, self.seen)
        if self._remembers_all or name in self._keep:
            self.seen[name] = activation
        return activation


# --- layers ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StackedRMSNorm:
    """A named root-mean-square norm; gain (runs, 1, width), starting at one."""

    name: str
    width: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, for a `ParameterStore`."""
        return {f"{self.name}.gain": (1, self.width)}

    def initialise(self, params: ParameterStore, generators: Sequence[Generator]) -> None:
        """Set gain to one; nothing is drawn."""
        with torch.no_grad():
            params[f"{self.name}.gain"].fill_(1.0)

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        gain = params[f"{self.name}.gain"]
        return F.rms_norm(x, x.shape[-1:], eps=1e-6) * gain.view(len(x), *[1] * (x.ndim - 2), -1)


@dataclass(frozen=True)
class StackedEmbedding:
    """A named table of vectors, one row per token and run; normal with the given standard deviation."""

    name: str
    rows: int
    width: int
    std: float = 0.02

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, for a `ParameterStore`."""
        return {f"{self.name}.weight": (self.rows, self.width)}

    def initialise(self, params: ParameterStore, generators: Sequence[Generator]) -> None:
        """Draw the initial values."""
        fill(params[f"{self.name}.weight"], generators, "lecun", 1, self.width, self.std)

    def __call__(self, params: Params, tokens: Int[Tensor, " runs *batch"]) -> Float[Tensor, "runs *batch width"]:
        table = params[f"{self.name}.weight"]
        shift = torch.arange(len(table), device=table.device).view(-1, *[1] * (tokens.ndim - 1)) * self.rows
        return F.embedding(tokens + shift, table.flatten(0, 1))


def rotary_table(length: int, head: int, base: float = 10000.0) -> Shaped[Tensor, "length half"]:
    """Rotations e^(i p θ_j), θ_j = base^(-2j/head), of position p and feature pair j (Su et al. 2021, eq. 15)."""
    if head % 2:
        raise ValueError(f"rotary positions turn pairs of features, so a head has an even width, not {head}")
    angles = torch.outer(torch.arange(length).double(), base ** (-torch.arange(0, head, 2).double() / head))
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Float[Tensor, "*batch length head"], table: Shaped[Tensor, "length half"]) -> Tensor:
    """Turn neighbouring pairs of features by their position's angles; lengths of vectors stay."""
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()  # there are no complex half types to speak of
    pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table.to(pairs.dtype)).flatten(-2).to(x.dtype)


@dataclass(frozen=True)
class StackedAttention:
    """Named multi-head attention without biases: queries from one stream, keys and values from the same or others.

    Parameters: `qkv.weight` (runs, width, 3 width), thirds in that order, and `out.weight` (runs, width, width).
    """

    name: str
    width: int
    heads: int
    init: str = "lecun"
    out_gain: float = 1.0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters, for a `ParameterStore`."""
        return {
            f"{self.name}.qkv.weight": (self.width, 3 * self.width),
            f"{self.name}.out.weight": (self.width, self.width),
        }

    def initialise(self, params: ParameterStore, generators: Sequence[Generator]) -> None:
        """Draw the initial values; the fan of a third is that of one matrix."""
        fans = self.width, self.width
        fill(params[f"{self.name}.qkv.weight"], generators, self.init, *fans)
        fill(params[f"{self.name}.out.weight"], generators, self.init, *fans, self.out_gain)

    def project(
        self,
        params: Params,
        queries_from: Float[Tensor, "runs batch q width"],
        keys_from: Float[Tensor, "runs batch k width"],
        values_from: Float[Tensor, "runs batch k width"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (runs, batch, heads, length, head); streams that are one object are read at once."""
        weight, width = params[f"{self.name}.qkv.weight"], self.width
        streams = [queries_from, keys_from, values_from]
        made: list[Tensor] = []
        while len(made) < 3:
            first = len(made)
            count = 1
            while first + count < 3 and streams[first + count] is streams[first]:
                count += 1
            part = weight[:, :, first * width : (first + count) * width]
            out = torch.bmm(streams[first].flatten(1, 2), part).view(*streams[first].shape[:3], count * width)
            made += out.split(width, dim=-1)
        return tuple(one.unflatten(-1, (self.heads, -1)).transpose(2, 3) for one in made)

    def attend(
        self,
        params: Params,
        query: Float[Tensor, "runs batch heads q head"],
        key: Float[Tensor, "runs batch heads k head"],
        value: Float[Tensor, "runs batch heads k head"],
        visible: Bool[Tensor, "..."] | None = None,
        taps: Taps | None = None,
    ) -> Float[Tensor, "runs batch q width"]:
        """What attention adds to the residual. `visible` (broadcast to heads, q, k) says who may look at whom."""
        taps, name = taps or Taps(), self.name
        weight = params[f"{name}.out.weight"]
        if taps.wants(f"{name}.score", f"{name}.pattern"):
            score = taps(f"{name}.score", query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]))
            if visible is not None:
                score = score.masked_fill(~visible, -torch.inf)
            mix = taps(f"{name}.pattern", score.softmax(-1)) @ value
        else:
            mask = None if visible is None else visible.expand(*query.shape[:-1], key.shape[-2]).flatten(0, 1)
            flat = F.scaled_dot_product_attention(*(t.flatten(0, 1) for t in (query, key, value)), attn_mask=mask)
            mix = flat.view(query.shape)
        mix = taps(f"{name}.mix", mix)
        if not taps.wants(f"{name}.head"):
            merged = mix.transpose(2, 3).flatten(3)
            return taps(f"{name}.attention", torch.bmm(merged.flatten(1, 2), weight).view(merged.shape))
        shares = weight.unflatten(1, (self.heads, -1))  # (runs, heads, head, width)
        added = taps(f"{name}.head", torch.einsum("rbhqd,rhdw->rbhqw", mix, shares))
        return taps(f"{name}.attention", added.sum(2))


# --- the network ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """What one network of the stack looks like.

    Attributes:
        width: of the residual stream, split evenly over heads.
        outputs: logits per position; 0 takes the size of the vocabulary.
        vocabulary: tokens with learned embeddings; 0 where the caller brings vectors.
        context: longest sequence.
        positions: "rotary", "learned" or "none".
        mlp: hidden units (GELU) after each attention; 0 for attention-only blocks.
        norm: "layer", "rms" or "none", before attention, MLP and the read-out.
        causal: whether a position sees only itself and the past.
        init: of all matrices, see `reprise.blocks.seeds.fill`.
        residual_gain: factor on the initial weights of what writes to the residual.
        embedding_std: standard deviation of initial token and position vectors.
        output_bias: whether the read-out has a bias.
    """

    width: int = 32
    heads: int = 4
    layers: int = 2
    outputs: int = 0
    vocabulary: int = 0
    context: int = 64
    positions: str = "rotary"
    mlp: int = 0
    norm: str = "layer"
    causal: bool = True
    init: str = "lecun"
    residual_gain: float = 1.0
    embedding_std: float = 0.02
    output_bias: bool = False

    def __post_init__(self):
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"a width of {self.width} cannot be split over {self.heads} heads; choose a multiple")
        if self.positions not in ("rotary", "learned", "none"):
            raise ValueError(f"unknown positions {self.positions!r}; choose rotary, learned or none")
        if self.norm not in ("layer", "rms", "none"):
            raise ValueError(f"unknown norm {self.norm!r}; choose layer, rms or none")
        if not (self.outputs or self.vocabulary):
            raise ValueError("a transformer needs outputs or a vocabulary; both are 0")


@dataclass
class Cache:
    """Keys and values of the positions seen so far, per layer; start with `Cache()` and pass it to every call."""

    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Number of positions seen."""
        return self.keys[0].shape[-2] if self.keys else 0

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append new positions of one layer; returns all of its keys and values."""
        for store, new in ((self.keys, key), (self.values, value)):
            store[layer] = torch.cat([store[layer], new], -2) if layer in store else new
        return self.keys[layer], self.values[layer]


class StackedTransformer:
    """Transformers of one shape, one per run; parameters in `self.params`.

    Args:
        seeds: one seed or one generator per run.
        shape: of every network.
        extra: layers of the caller (e.g. a `StackedLinear` that embeds inputs) whose parameters share the store.
        device: where the parameters live.
    """

    def __init__(
        self,
        seeds: Sequence[int] | Sequence[Generator],
        shape: Shape,
        extra: Sequence = (),
        device: str | torch.device = "cpu",
    ):
        self.shape, width = shape, shape.width
        self.outputs = shape.outputs or shape.vocabulary
        self.table = rotary_table(shape.context, width // shape.heads) if shape.positions == "rotary" else None
        std, gain, init = shape.embedding_std, shape.residual_gain, shape.init
        self.embedding = StackedEmbedding("embed", shape.vocabulary, width, std) if shape.vocabulary else None
        self.position = (
            StackedEmbedding("position", shape.context, width, std) if shape.positions == "learned" else None
        )
        norm = {"layer": StackedLayerNorm, "rms": StackedRMSNorm, "none": lambda *_: None}[shape.norm]
        self.blocks = []
        for i in range(shape.layers):
            mlp = shape.mlp and (
                norm(f"{i}.mlp.norm", width),
                StackedLinear(f"{i}.mlp.in", width, shape.mlp, init=init),
                StackedLinear(f"{i}.mlp.out", shape.mlp, width, init=init, gain=gain),
            )
            self.blocks.append(
                (norm(f"{i}.norm", width), StackedAttention(str(i), width, shape.heads, init, gain), mlp)
            )
        self.final_norm = norm("final.norm", width)
        self.unembed = StackedLinear("unembed", width, self.outputs, bias=shape.output_bias, init=init)
        layers = [self.embedding, self.position]
        layers += [layer for norm, attention, mlp in self.blocks for layer in (norm, attention, *(mlp or ()))]
        layers += [self.final_norm, self.unembed, *extra]
        self.params = build([layer for layer in layers if layer is not None], seeds, device)
        if self.table is not None:
            self.table = self.table.to(self.params.device, torch.complex64)

    @property
    def runs(self) -> int:
        return self.params.runs

    def names(self) -> list[str]:
        """Names of all activations, in the order in which they are computed."""
        parts = [
            "pattern_input",
            "value_input",
            "query",
            "key",
            "value",
            "score",
            "pattern",
            "mix",
            "head",
            "attention",
            "middle",
        ]
        parts += ["hidden", "mlp"] * bool(self.shape.mlp) + ["residual"]
        blocks = [f"{i}.{part}" for i in range(self.shape.layers) for part in parts]
        return ["embedding", *blocks, "final", "logits"]

    def forward(
        self,
        x: Shaped[Tensor, "runs batch length *width"],
        *,
        clamps: Sequence[Clamp] = (),
        last_only: bool = False,
        visible: Bool[Tensor, "..."] | None = None,
        cache: Cache | None = None,
        params: Params | None = None,
    ) -> Float[Tensor, "runs batch q outputs"]:
        """Logits of every position.

        Args:
            x: tokens (runs, batch, length), or vectors (runs, batch, length, width).
            clamps: replacements of activations, see `clamp`.
            last_only: the last block computes only the last position (q = 1), which is exact and cheaper.
            visible: who may look at whom, broadcast to (runs, batch, heads, q, k), in addition to causality.
            cache: keys and values of earlier positions; x holds the positions that follow, and the cache grows.
            params: use these values instead of the network's own.
        Raises:
            ValueError: wrong width, a sequence longer than the context, an unknown activation.
        """
        taps = self._taps(clamps, ())
        return self._flow(x, taps, last_only, visible, cache, self.params if params is None else params)

    __call__ = forward

    def record(
        self,
        x: Shaped[Tensor, "runs batch length *width"],
        names: Iterable[str],
        *,
        clamps: Sequence[Clamp] = (),
        **kwargs,
    ) -> dict[str, Tensor]:
        """The named activations of a forward pass, after their clamps; arguments as for `forward`."""
        taps = self._taps(clamps, names)
        params = kwargs.pop("params", None)
        arguments = {"last_only": False, "visible": None, "cache": None} | kwargs
        self._flow(x, taps, **arguments, params=self.params if params is None else params)
        return {name: taps.seen[name] for name in names}

    def with_params(self, params: ParameterStore) -> "StackedTransformer":
        """The same architecture around another store (e.g. `model.params.select(runs)`)."""
        twin = object.__new__(StackedTransformer)
        twin.__dict__.update(self.__dict__, params=params)
        return twin

    def _taps(self, clamps: Sequence[Clamp], keep: Iterable[str]) -> Taps:
        taps = Taps(clamps, keep)
        unknown = taps.named - set(self.names())
        if unknown:
            raise ValueError(
                f"no activation is called {', '.join(sorted(unknown))}; there are {', '.join(self.names())}"
            )
        return taps

    def _embed(self, x: Tensor, start: int, params: Params) -> Tensor:
        """Vectors with positions; tokens are looked up first."""
        if not x.is_floating_point():
            if self.embedding is None:
                raise ValueError("this transformer has no vocabulary; bring vectors (runs, batch, length, width)")
            x = self.embedding(params, x)
        if x.ndim != 4 or x.shape[-1] != self.shape.width:
            raise ValueError(f"vectors are (runs, batch, length, {self.shape.width}), not {tuple(x.shape)}")
        stop = start + x.shape[2]
        if stop > self.shape.context:
            raise ValueError(
                f"a sequence of {stop} exceeds the context of {self.shape.context}; build with a longer one"
            )
        return x if self.position is None else x + params["position.weight"][:, None, start:stop]

    def _flow(
        self, x, taps: Taps, last_only: bool, visible: Tensor | None, cache: Cache | None, params: Params
    ) -> Tensor:
        if cache is not None and not self.shape.causal:
            raise ValueError("only a causal transformer can cache: in a full one the past sees the future")
        start = cache.length if cache is not None else 0
        x = taps("embedding", self._embed(x, start, params))
        for i, (norm, attention, mlp) in enumerate(self.blocks):
            only = slice(-1, None) if last_only and i == len(self.blocks) - 1 else slice(None)
            pattern_from, value_from = taps(f"{i}.pattern_input", x), taps(f"{i}.value_input", x)
            same = value_from is pattern_from
            pattern_from = norm(params, pattern_from) if norm else pattern_from
            value_from = pattern_from if same else norm(params, value_from) if norm else value_from
            query_from = pattern_from if only == slice(None) else pattern_from[:, :, only]
            query, key, value = attention.project(params, query_from, pattern_from, value_from)
            if self.table is not None:
                places = self.table[start : start + key.shape[-2]]
                query, key = rotate(query, places[only]), rotate(key, places)
            query, key, value = taps(f"{i}.query", query), taps(f"{i}.key", key), taps(f"{i}.value", value)
            if cache is not None:
                key, value = cache.extend(i, key, value)
            seen = self._visible(query.shape[-2], key.shape[-2], visible, x.device)
            x = taps(f"{i}.middle", x[:, :, only] + attention.attend(params, query, key, value, seen, taps))
            if mlp:
                before, into, out_of = mlp
                hidden = taps(f"{i}.hidden", F.gelu(into(params, before(params, x) if before else x)))
                x = x + taps(f"{i}.mlp", out_of(params, hidden))
            x = taps(f"{i}.residual", x)
        x = taps("final", self.final_norm(params, x) if self.final_norm else x)
        return taps("logits", self.unembed(params, x))

    def _visible(self, queries: int, keys: int, visible: Tensor | None, device: torch.device) -> Tensor | None:
        """Queries stand at the last positions of the keys; one query sees everything that there is."""
        if not self.shape.causal or queries == 1:
            return visible
        causal = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
        return causal if visible is None else causal & visible


@torch.no_grad()
def sample(
    model: StackedTransformer,
    prompt: Int[Tensor, "runs batch length"],
    steps: int,
    rng: RunRNG,
    temperature: float | int = 1.0,
    stop: int | None = None,
) -> Int[Tensor, "runs batch steps"]:
    """Continuations of prompts, token by token, each position computed once.

    Args:
        prompt: tokens, at least one per sequence.
        steps: tokens to draw.
        rng: of the runs; the same number of draws is taken whatever is sampled.
        temperature: divides the logits; 0 takes the most likely token.
        stop: after this token a sequence repeats it.
    """
    if temperature < 0 or not prompt.shape[-1]:
        raise ValueError("sampling needs a temperature of at least 0 and prompts of at least one token")
    draws = rng.uniform(prompt.shape[1], steps)  # all at once: a run's numbers must not depend on when others stop
    cache, tokens, made, ended = Cache(), prompt, [], torch.zeros_like(prompt[..., 0], dtype=torch.bool)
    for step in range(steps):
        logits = model(tokens, cache=cache, last_only=True)[:, :, -1]
        if temperature == 0:
            token = logits.argmax(-1)
        else:
            mass = (logits / temperature).softmax(-1).cumsum(-1)
            token = (mass <= draws[..., step, None] * mass[..., -1:]).sum(-1).clamp(max=model.outputs - 1)
        if stop is not None:
            token = torch.where(ended, stop, token)
            ended = ended | (token == stop)
        made.append(token)
        tokens = token.unsqueeze(-1)
    return torch.stack(made, -1)
