"""Hypernetworks: encodings, proportionality, initial scales, the residual form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from reprise.blocks.hypernetwork import ENCODINGS, StackedHypernetwork, encode, kaiming_start, unflatten
from reprise.blocks.seeds import StackedMLP

SHAPES = {"0.weight": (12, 6), "0.bias": (1, 6), "1.weight": (6, 4), "1.bias": (1, 4)}
MATRICES = {name: shape for name, shape in SHAPES.items() if name.endswith("weight")}
DEFAULT = {"encoding": "none", "residual": False}


def _net(seeds=(1, 2), shapes=SHAPES, **kwargs):
    return StackedHypernetwork(list(seeds), shapes, dtype=torch.float64, **kwargs)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_cos_sin_encoding_has_length_root_d_for_every_input(gamma):
    gamma = torch.tensor(gamma, dtype=torch.float64)
    assert encode(gamma).norm().item() == pytest.approx(math.sqrt(len(gamma)), abs=1e-12)
    assert encode(gamma, "complement").abs().sum().item() == pytest.approx(len(gamma), abs=1e-12)


def test_cos_sin_encoding_is_injective_and_moves_at_constant_speed():
    gamma = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None].requires_grad_()
    angle = torch.atan2(encode(gamma)[:, 1], encode(gamma)[:, 0])  # strictly increasing, so no two codes coincide
    assert (angle.diff() > 0).all()
    parts = [torch.autograd.grad(encode(gamma)[:, i].sum(), gamma)[0] for i in (0, 1)]
    torch.testing.assert_close(torch.cat(parts, 1).norm(dim=1), torch.full((201,), math.pi / 2, dtype=torch.float64))


def test_standardised_and_unit_encodings_do_what_their_names_say():
    gamma = torch.linspace(0, 1, 100_001, dtype=torch.float64)[:, None]
    code = encode(gamma, "standardised")
    assert code.mean().abs() < 1e-9
    assert code.var().item() == pytest.approx(1, abs=1e-4)
    # in one dimension dividing by the length leaves nothing of γ but its sign
    assert torch.equal(encode(gamma[1:], "unit"), torch.ones_like(gamma[1:]))


@pytest.mark.parametrize("kind", [kind for kind in ENCODINGS if kind != "none"])
def test_encodings_reject_inputs_outside_the_unit_interval_by_name_of_the_range(kind):
    with pytest.raises(ValueError, match=r"\[0, 1\], not 0.5 to 1.5"):
        encode(torch.tensor([0.5, 1.5]), kind)


def test_default_outputs_are_proportional_to_the_input_and_magnitude_invariant_ones_are_not():
    gamma = torch.rand(2, 20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = _net(inputs=3, **DEFAULT)
    for a in (0.1, 0.5, 2.0):
        torch.testing.assert_close(plain.flat(a * gamma), a * plain.flat(gamma), rtol=1e-9, atol=1e-12)
    invariant = _net(inputs=3)
    gap = (invariant.flat(0.5 * gamma) - 0.5 * invariant.flat(gamma)).abs().max()
    assert gap > 0.1


@pytest.mark.parametrize("activation", ["tanh", "silu", "gelu"])
def test_smooth_activations_make_it_proportional_near_zero_only(activation):
    net = _net(inputs=1, shapes=MATRICES, activation=activation, **DEFAULT)
    one = torch.ones(2, 1, 1, dtype=torch.float64)
    slope = net.flat(1e-7 * one) / 1e-7

    def gap(size):
        return ((net.flat(size * one) / size - slope).norm() / slope.norm()).item()

    assert gap(1e-4) < 1e-3
    assert gap(1.0) > 100 * gap(1e-4)


def test_initial_variance_follows_the_fan_out_formula_and_grows_with_the_square_of_the_input():
    # by hand: each hidden layer passes on (width in / width out) of the mean square, so 2γ²/n is left for n weights
    seeds = list(range(3000))
    gamma = torch.tensor([0.1, 0.5, 1.0])[None, :, None].expand(len(seeds), -1, -1)
    for encoding, expected in (("none", 2 / 20 * gamma[0, :, 0] ** 2), ("cos|sin", torch.full((3,), 2 / 20))):
        net = StackedHypernetwork(
            seeds, {"w": (5, 4)}, hidden=(8, 12), activation="relu", encoding=encoding, residual=False
        )
        with torch.no_grad():
            squares = net.flat(gamma).square().mean(-1)
        error = squares.std(0) / math.sqrt(len(seeds))
        assert ((squares.mean(0) - expected).abs() < 3 * error).all()
        assert (error < 0.05 * expected).all()


def test_outputs_of_a_homogeneous_primary_network_scale_as_the_power_of_its_depth():
    for depth in (2, 3, 4):
        shapes = {f"{i}.weight": (7, 7) for i in range(depth)}
        net = _net(shapes=shapes, **DEFAULT)
        sizes = torch.tensor([0.1, 0.3, 1.0], dtype=torch.float64)
        weights = net(sizes[None, :, None].expand(2, -1, -1))
        v = torch.randn(2, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))[:, :1]
        for i in range(depth):
            v = v @ weights[f"{i}.weight"]
            v = F.relu(v) if i < depth - 1 else v
        logs = v.flatten(2).norm(dim=-1).log()
        slopes = (logs[:, 2] - logs[:, 0]) / math.log(10)
        torch.testing.assert_close(slopes, torch.full((2,), float(depth), dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_with_the_generator_silenced_mip_is_an_ordinary_network_with_the_same_gradients():
    seeds = [3, 4]
    ordinary = StackedMLP(seeds, [12, 6, 4], "relu", init="he_normal")
    net = StackedHypernetwork(seeds, SHAPES)
    net.set_start(ordinary.params)
    net.params.views(net.params.flat)["output.weight"].zero_()
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 9, 12, generator=g), torch.randint(4, (18,), generator=g)
    weights = {name: tensor[:, 0] for name, tensor in net(torch.full((2, 1, 1), 0.4)).items()}
    logits = ordinary(x, params=weights)
    torch.testing.assert_close(logits, ordinary(x), rtol=0, atol=0)
    F.cross_entropy(logits.flatten(0, 1), y).backward()
    F.cross_entropy(ordinary(x).flatten(0, 1), y).backward()
    torch.testing.assert_close(net.params["output.bias"].grad[:, 0], ordinary.params.grad, rtol=1e-5, atol=1e-7)


def test_a_stack_is_its_runs_one_by_one_and_arms_share_initial_values():
    both, second = _net((5, 6)), _net((6,))
    gamma = torch.rand(2, 3, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(both.flat(gamma)[1:], second.flat(gamma[1:]), rtol=1e-12, atol=1e-12)
    plain = _net((5, 6), **DEFAULT)
    assert torch.equal(plain.params["output.weight"], both.params["output.weight"])
    assert torch.equal(plain.params["1.weight"], both.params["1.weight"])


def test_the_start_is_kaiming_with_zero_biases():
    start = kaiming_start(range(200), {"dense.weight": (50, 8), "conv.weight": (8, 3, 3, 3), "dense.bias": (1, 8)})
    assert start["dense.weight"].var().item() == pytest.approx(2 / 50, rel=0.02)
    assert start["conv.weight"].var().item() == pytest.approx(2 / 27, rel=0.03)
    assert not start["dense.bias"].any()


def test_primary_scale_generates_kaiming_weights_at_unit_length():
    net = StackedHypernetwork(list(range(1000)), SHAPES, activation="relu", scale="primary", **DEFAULT)
    with torch.no_grad():
        generated = net(torch.ones(1000, 1, 1))
    for name, fan_in in (("0.weight", 12), ("1.weight", 6)):
        assert generated[name].square().mean().item() == pytest.approx(2 / fan_in, rel=0.1)
    assert not generated["0.bias"].any()


def test_pytorch_biases_have_the_bounds_of_nn_linear():
    net = StackedHypernetwork(list(range(300)), SHAPES, biases="torch", **DEFAULT)
    for name, fan_in in (("0.bias", 1), ("1.bias", 16), ("output.bias", 32)):
        layer = nn.Linear(fan_in, 1000)
        assert net.params[name].abs().max() <= 1 / math.sqrt(fan_in)
        assert net.params[name].std().item() == pytest.approx(layer.bias.std().item(), rel=0.1)


def test_without_biases_it_stays_proportional_whatever_is_learned():
    net = _net(biases="none", **DEFAULT)
    with torch.no_grad():
        net.params.flat.copy_(torch.randn(net.params.flat.shape, generator=torch.Generator().manual_seed(0)).double())
    gamma = torch.rand(2, 5, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net.flat(0.1 * gamma), 0.1 * net.flat(gamma), rtol=1e-9, atol=1e-12)


def test_layer_norm_of_a_scalar_input_forgets_its_size():  # zero biases, so only the sign of γ is left
    net = _net(norm="layer", **DEFAULT)
    a, b = (net.flat(torch.full((2, 1, 1), size, dtype=torch.float64)) for size in (0.2, 1.0))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_batch_norm_is_torchs_over_the_inputs_given_together():
    net = _net(hidden=(16,), norm="batch", **DEFAULT)
    gamma = torch.rand(2, 8, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for run in range(2):
        own = net.params.run(run)
        hidden = F.leaky_relu(nn.BatchNorm1d(16).double()(gamma[run] @ own["0.weight"]))
        torch.testing.assert_close(net.flat(gamma)[run], hidden @ own["output.weight"])


def test_unflatten_fills_the_shapes_in_order():
    flat = torch.arange(2 * 106.0).view(2, 106)
    pieces = unflatten(flat, SHAPES)
    assert {name: tuple(piece.shape[1:]) for name, piece in pieces.items()} == SHAPES
    assert torch.equal(torch.cat([piece.flatten(1) for piece in pieces.values()], 1), flat)
    with pytest.raises(ValueError, match="105 numbers cannot fill shapes of 106"):
        unflatten(flat[:, 1:], SHAPES)


def test_rejects_what_it_cannot_build_or_take():
    with pytest.raises(ValueError, match="unknown activation 'swish'"):
        _net(activation="swish")
    with pytest.raises(ValueError, match="θ₀ is the bias of the last layer"):
        _net(biases="none")
    with pytest.raises(ValueError, match=r"norm is one of \(None, 'layer', 'batch'\), not 'instance'"):
        _net(norm="instance")
    with pytest.raises(ValueError, match="γ has 2 coordinates; this hypernetwork was built for 1"):
        _net().flat(torch.rand(2, 1, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="no fan_in"):
        _net(shapes={"embedding": (5,)})
    with pytest.raises(ValueError, match="the start names"):
        _net().set_start({"0.weight": torch.zeros(2, 12, 6)})
