"""Stacked transformers must be what ordinary ones are, and clamps must replace exactly what they name."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from reprise.blocks.seeds import FlatAdam, RunRNG, StackedLinear
from reprise.blocks.transformer import (
    Cache,
    Shape,
    StackedAttention,
    StackedTransformer,
    clamp,
    rotary_table,
    rotate,
    sample,
)

RUNS, BATCH, LENGTH, VOCABULARY = 3, 4, 6, 7
SHAPES = {
    "attention only, rotary": Shape(width=16, heads=2, vocabulary=VOCABULARY, context=8),
    "learned, mlp, bias": Shape(
        width=16,
        heads=4,
        vocabulary=VOCABULARY,
        context=8,
        positions="learned",
        mlp=24,
        output_bias=True,
        embedding_std=0.5,
    ),
    "rms, no positions, full": Shape(
        width=12,
        heads=3,
        vocabulary=VOCABULARY,
        context=8,
        positions="none",
        norm="rms",
        mlp=8,
        causal=False,
        layers=3,
    ),
    "no norm": Shape(width=16, heads=2, vocabulary=VOCABULARY, context=8, norm="none", residual_gain=0.5),
}
CAUSAL = [name for name, shape in SHAPES.items() if shape.causal]


def _model(name="attention only, rotary", seeds=(5, 6, 7), **kwargs):
    model = StackedTransformer(list(seeds), SHAPES[name], **kwargs)
    with torch.no_grad():  # gains and offsets that matter
        generator = torch.Generator().manual_seed(0)
        for leaf, value in model.params.items():
            if leaf.endswith(("gain", "offset", "bias")):
                value.add_(0.3 * torch.randn(value.shape[1:], generator=generator))
    return model


def _tokens(seed=0, runs=RUNS):
    return torch.randint(VOCABULARY, (runs, BATCH, LENGTH), generator=torch.Generator().manual_seed(seed))


class Reference(nn.Module):
    """One run, written with torch.nn and loops over positions for the rotation; shares nothing with the block."""

    def __init__(self, own, shape):
        super().__init__()
        self.own, self.shape = own, shape

    def norm(self, name, x):
        if self.shape.norm == "none":
            return x
        width = x.shape[-1]
        made = nn.LayerNorm(width) if self.shape.norm == "layer" else nn.RMSNorm(width, eps=1e-6)
        made.weight.data = self.own[f"{name}.gain"][0]
        if self.shape.norm == "layer":
            made.bias.data = self.own[f"{name}.offset"][0]
        return made(x)

    def turned(self, x):  # (batch, heads, length, head)
        out, head = x.clone(), x.shape[-1]
        for p in range(x.shape[-2]):
            for j in range(head // 2):
                angle = p * 10000 ** (-2 * j / head)
                a, b = x[..., p, 2 * j], x[..., p, 2 * j + 1]
                out[..., p, 2 * j] = a * math.cos(angle) - b * math.sin(angle)
                out[..., p, 2 * j + 1] = a * math.sin(angle) + b * math.cos(angle)
        return out

    def forward(self, tokens):
        own, shape = self.own, self.shape
        x = own["embed.weight"][tokens]
        if shape.positions == "learned":
            x = x + own["position.weight"][: tokens.shape[1]]
        for i in range(shape.layers):
            qkv = (self.norm(f"{i}.norm", x) @ own[f"{i}.qkv.weight"]).chunk(3, -1)
            q, k, v = (t.unflatten(-1, (shape.heads, -1)).transpose(1, 2) for t in qkv)
            if shape.positions == "rotary":
                q, k = self.turned(q), self.turned(k)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=shape.causal)
            x = x + mixed.transpose(1, 2).flatten(2) @ own[f"{i}.out.weight"]
            if shape.mlp:
                into, out_of = nn.Linear(shape.width, shape.mlp), nn.Linear(shape.mlp, shape.width)
                for layer, name in ((into, "in"), (out_of, "out")):
                    layer.weight.data = own[f"{i}.mlp.{name}.weight"].T
                    layer.bias.data = own[f"{i}.mlp.{name}.bias"][0]
                x = x + out_of(F.gelu(into(self.norm(f"{i}.mlp.norm", x))))
        logits = self.norm("final.norm", x) @ own["unembed.weight"]
        return logits + own["unembed.bias"][0] if shape.output_bias else logits


# --- the network


@pytest.mark.parametrize("name", SHAPES)
def test_each_run_equals_an_ordinary_single_transformer(name):
    model, tokens = _model(name), _tokens()
    logits = model(tokens)
    for run in range(RUNS):
        expected = Reference(model.params.run(run), SHAPES[name])(tokens[run])
        assert torch.allclose(logits[run], expected, atol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_recording_every_activation_changes_nothing(name):
    model, tokens = _model(name), _tokens()
    seen = model.record(tokens, model.names())
    assert list(seen) == model.names()
    assert torch.allclose(seen["logits"], model(tokens), atol=1e-5)
    assert torch.allclose(seen["0.pattern"].sum(-1), torch.ones(()), atol=1e-6)
    assert torch.allclose(seen["0.head"].sum(2), seen["0.attention"], atol=1e-5)
    assert torch.allclose(seen["embedding"] + seen["0.attention"], seen["0.middle"], atol=1e-6)


def test_a_run_does_not_depend_on_how_many_are_stacked():
    together, alone = _model(seeds=(5, 6, 7)), _model(seeds=(6,))
    assert torch.equal(together.params.flat[1], alone.params.flat[0])
    assert torch.allclose(together(_tokens())[1], alone(_tokens()[1:2])[0], atol=1e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_last_only_is_the_last_position(name):
    model, tokens = _model(name), _tokens()
    assert torch.allclose(model(tokens, last_only=True), model(tokens)[:, :, -1:], atol=1e-5)


@pytest.mark.parametrize("name", CAUSAL)
def test_future_tokens_do_not_matter(name):
    model, tokens = _model(name), _tokens()
    changed = tokens.clone()
    changed[:, :, 4:] = (changed[:, :, 4:] + 1) % VOCABULARY
    before, after = model(tokens), model(changed)
    assert torch.allclose(before[:, :, :4], after[:, :, :4], atol=1e-6)
    assert (before[:, :, 4:] - after[:, :, 4:]).abs().max() > 0.01


def test_without_a_causal_mask_the_future_matters():
    model, tokens = _model("rms, no positions, full"), _tokens()
    changed = tokens.clone()
    changed[:, :, -1] = (changed[:, :, -1] + 1) % VOCABULARY
    assert (model(tokens)[:, :, 0] - model(changed)[:, :, 0]).abs().max() > 0.001


def test_without_positions_a_full_transformer_does_not_know_the_order():
    model, tokens = _model("rms, no positions, full"), _tokens()
    order = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(model(tokens)[:, :, order], model(tokens[:, :, order]), atol=1e-5)


def test_hidden_keys_do_not_matter():
    model, tokens = _model(), _tokens()
    visible = torch.ones(1, 1, 1, LENGTH, LENGTH, dtype=torch.bool)
    visible[..., 1] = False
    visible[..., 1, 1] = True  # everybody sees itself
    changed = tokens.clone()
    changed[:, :, 1] = (changed[:, :, 1] + 1) % VOCABULARY
    others = [0, 2, 3, 4, 5]
    assert torch.allclose(
        model(tokens, visible=visible)[:, :, others], model(changed, visible=visible)[:, :, others], atol=1e-6
    )
    explicit = model.record(tokens, ["0.pattern", "logits"], visible=visible)
    assert explicit["0.pattern"][..., 2:, 1].abs().max() == 0
    assert torch.allclose(explicit["logits"], model(tokens, visible=visible), atol=1e-5)


def test_cross_attention_reads_keys_and_values_from_another_stream():
    layer = StackedAttention("x", 8, 2)
    params = {name: torch.randn(RUNS, *shape) for name, shape in layer.shapes().items()}
    x, memory = torch.randn(RUNS, 2, 3, 8), torch.randn(RUNS, 2, 5, 8)
    out = layer.attend(params, *layer.project(params, x, memory, memory))
    for run in range(RUNS):
        wq, wk, wv = params["x.qkv.weight"][run].chunk(3, -1)
        ordinary = nn.MultiheadAttention(8, 2, bias=False, batch_first=True)
        ordinary.in_proj_weight.data = torch.cat([wq.T, wk.T, wv.T])
        ordinary.out_proj.weight.data = params["x.out.weight"][run].T
        assert torch.allclose(out[run], ordinary(x[run], memory[run], memory[run])[0], atol=1e-4)


# --- positions


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_rotary_scores_depend_on_the_distance_only(p, q, shift, seed):
    table = rotary_table(64, 8).to(torch.complex128)
    x, y = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    here = rotate(x, table[p : p + 1]) @ rotate(y, table[q : q + 1]).T
    there = rotate(x, table[p + shift : p + shift + 1]) @ rotate(y, table[q + shift : q + shift + 1]).T
    assert torch.allclose(here, there, atol=1e-10)


def test_rotation_keeps_lengths_and_leaves_position_zero_alone():
    x = torch.randn(2, 5, 8)
    turned = rotate(x, rotary_table(5, 8))
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert torch.allclose(turned[:, 0], x[:, 0], atol=1e-6)


# --- cache and sampling


@pytest.mark.parametrize("name", CAUSAL)
def test_cached_logits_equal_the_full_forward_pass(name):
    model, tokens = _model(name), _tokens()
    cache = Cache()
    pieces = [model(part, cache=cache) for part in tokens.split([3, 1, 2], dim=2)]
    assert torch.allclose(torch.cat(pieces, 2), model(tokens), atol=1e-5)
    assert cache.length == LENGTH


def test_greedy_sampling_equals_repeated_full_passes():
    model, prompt = _model("learned, mlp, bias"), _tokens()[:, :, :2]
    tokens = prompt
    for _ in range(5):
        tokens = torch.cat([tokens, model(tokens)[:, :, -1:].argmax(-1)], 2)
    made = sample(model, prompt, 5, RunRNG([1, 2, 3], "sample"), temperature=0)
    assert torch.equal(made, tokens[:, :, 2:])


def test_sampled_frequencies_follow_the_softmax_at_the_given_temperature():
    model = _model("learned, mlp, bias", seeds=(5,))
    prompt = _tokens(runs=1)[:, :1, :2].expand(-1, 20000, -1)
    made = sample(model, prompt, 1, RunRNG([9], "sample"), temperature=0.7)[0, :, 0]
    expected = (model(prompt[:, :1])[0, 0, -1] / 0.7).softmax(-1)
    assert torch.allclose(torch.bincount(made, minlength=VOCABULARY) / 20000, expected, atol=0.015)


def test_samples_of_a_run_do_not_depend_on_the_stack_and_stay_stopped():
    prompt = _tokens()[:, :, :2]
    together = sample(_model(seeds=(5, 6, 7)), prompt, 6, RunRNG([1, 2, 3], "s"), stop=2)
    alone = sample(_model(seeds=(6,)), prompt[1:2], 6, RunRNG([2], "s"), stop=2)
    assert torch.equal(together[1:2], alone)
    ended = (together == 2).cumsum(-1) > 0
    assert ended.any()
    assert (together[ended] == 2).all()


# --- clamps


def _gradients(model, tokens, clamps):
    model.params.zero_grad()
    model(tokens, clamps=clamps).square().sum().backward()
    return {name: leaf.grad.clone() for name, leaf in model.params.items()}


@pytest.mark.parametrize(
    "name", ["1.pattern_input", "0.query", "1.key", "0.score", "1.pattern", "0.mix", "1.head", "0.residual"]
)
def test_a_clamp_to_the_value_it_has_anyway_keeps_the_logits(name):
    model, tokens = _model(), _tokens()
    value = model.record(tokens, [name])[name].detach()
    assert torch.allclose(model(tokens, clamps=[clamp(name, True, value)]), model(tokens), atol=1e-5)


def test_an_identity_clamp_cuts_gradients_upstream_and_leaves_the_others():
    model, tokens = _model(), _tokens()
    value = model.record(tokens, ["0.residual"])["0.residual"].detach()
    free, cut = _gradients(model, tokens, []), _gradients(model, tokens, [clamp("0.residual", True, value)])
    for name in model.params:
        if name.startswith(("1.", "final", "unembed")):
            assert torch.allclose(cut[name], free[name], atol=1e-4, rtol=1e-4), name
        else:
            assert cut[name].abs().max() == 0, name
            assert free[name].abs().max() > 0, name


def test_a_function_of_the_activation_lets_the_gradient_through():
    model, tokens = _model(), _tokens()
    through = clamp("0.residual", True, lambda now, earlier: 1.0 * now)
    stopped = clamp("0.residual", True, lambda now, earlier: now.detach())
    free, same, none = (_gradients(model, tokens, c) for c in ([], [through], [stopped]))
    assert torch.allclose(free["embed.weight"], same["embed.weight"], atol=1e-4, rtol=1e-4)
    assert none["embed.weight"].abs().max() == 0


def test_a_value_with_a_graph_receives_the_gradient():
    model, tokens = _model(), _tokens()
    value = torch.zeros(RUNS, 1, 1, 16, requires_grad=True)
    model(tokens, clamps=[clamp("0.residual", True, value)]).sum().backward()
    assert value.grad.abs().max() > 0


def test_a_function_sees_earlier_activations():
    model, tokens = _model(), _tokens()
    swapped = clamp("0.residual", True, lambda now, earlier: earlier["embedding"])
    silent = clamp("0.value", True, 0.0)
    assert torch.allclose(model(tokens, clamps=[swapped]), model(tokens, clamps=[silent]), atol=1e-5)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_clamp_replaces_exactly_what_it_names(data):
    model, tokens = _model(), _tokens()
    name = data.draw(st.sampled_from(model.names()))
    before = model.record(tokens, [name])[name]
    axes = [data.draw(st.booleans()) for _ in before.shape]
    size = [n if keep else 1 for n, keep in zip(before.shape, axes)]
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    mask = torch.rand(size, generator=generator) < 0.4
    after = model.record(tokens, [name], clamps=[clamp(name, mask, 7.5)])[name]
    mask = mask.expand(before.shape)
    assert (after[mask] == 7.5).all()
    assert torch.allclose(after[~mask], before[~mask], atol=1e-5)


def test_a_clamp_in_one_run_leaves_the_other_runs_alone():
    model, tokens = _model(), _tokens()
    mask = torch.tensor([False, True, False]).view(-1, 1, 1, 1, 1)
    free, clamped = model(tokens), model(tokens, clamps=[clamp("0.pattern", mask, 0.0)])
    assert torch.allclose(free[[0, 2]], clamped[[0, 2]], atol=1e-5)
    assert (free[1] - clamped[1]).abs().max() > 0.01


def test_clamps_hold_in_every_step_of_training():
    """With layer-1 values silent throughout, training equals training a network whose layer 1 cannot write."""
    tokens = _tokens()
    clamped, without = _model(), _model()
    with torch.no_grad():
        without.params["0.out.weight"].zero_()
    for model, clamps, frozen in (
        (clamped, [clamp("0.value", True, 0.0)], ()),
        (without, [], ("0.out.weight",)),
    ):
        optimizer = FlatAdam(model.params, 1e-2)
        for _ in range(5):
            model.params.zero_grad()
            F.cross_entropy(model(tokens, clamps=clamps)[:, :, -1].flatten(0, 1), tokens[:, :, 0].flatten()).backward()
            for name in frozen:
                model.params[name].grad.zero_()
            optimizer.step()
    ends = clamped(tokens, clamps=[clamp("0.value", True, 0.0)]), without(tokens)
    assert torch.allclose(*ends, atol=1e-4)
    assert (ends[0] - _model()(tokens)).abs().max() > 0.1


def test_without_final_norm_logits_are_the_sum_of_what_heads_and_embedding_contribute():
    model, tokens = _model("no norm"), _tokens()
    seen = model.record(tokens, ["embedding", "0.head", "1.head", "logits"])
    parts = [seen["embedding"], *seen["0.head"].unbind(2), *seen["1.head"].unbind(2)]
    total = sum(torch.einsum("rblw,rwo->rblo", part, model.params["unembed.weight"]) for part in parts)
    assert torch.allclose(total, seen["logits"], atol=1e-5)


# --- what is refused


def test_refusals_name_the_remedy():
    model, tokens = _model(), _tokens()
    with pytest.raises(ValueError, match="no activation is called 1.patern"):
        model(tokens, clamps=[clamp("1.patern", True, 0.0)])
    with pytest.raises(ValueError, match="do not broadcast"):
        model(tokens, clamps=[clamp("logits", True, torch.zeros(2, 2))])
    with pytest.raises(ValueError, match="boolean"):
        clamp("logits", torch.zeros(3), 0.0)
    with pytest.raises(ValueError, match="context of 8"):
        model(tokens.repeat(1, 1, 2))
    with pytest.raises(ValueError, match="multiple"):
        Shape(width=10, heads=4, outputs=2)
    with pytest.raises(ValueError, match="causal"):
        _model("rms, no positions, full")(tokens, cache=Cache())
    with pytest.raises(ValueError, match="no vocabulary"):
        StackedTransformer([0], Shape(outputs=2))(tokens[:1])


def test_layers_of_the_caller_share_the_store():
    model = _model(extra=[StackedLinear("own", 3, 16)])
    assert model.params["own.weight"].shape == (RUNS, 3, 16)
    plain = _model()
    assert all(torch.equal(model.params[name], plain.params[name]) for name in plain.params)  # drawn last
