"""Stacked runs must be what separate runs would have been."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from reprise.blocks import seeds as blocks
from reprise.blocks.seeds import (
    FlatAdam,
    FlatSGD,
    ParameterStore,
    RunRNG,
    StackedConv2d,
    StackedLayerNorm,
    StackedLinear,
    StackedMLP,
    build,
    generators,
)
from reprise.blocks.training import cross_entropy

SEEDS = [3, 1, 4, 1, 5]


@pytest.fixture(autouse=True)
def _same_numbers_every_time():
    torch.manual_seed(0)


# --- randomness


def test_generators_agree_across_processes_and_differ_between_seeds_and_streams():
    draw = "import torch;from reprise.blocks.seeds import generators;"
    draw += "print(torch.randint(2**62,(3,),generator=generators([7],'init')[0]).tolist())"
    elsewhere = subprocess.run([sys.executable, "-c", draw], capture_output=True, text=True, check=True).stdout
    here = torch.randint(2**62, (3,), generator=generators([7], "init")[0]).tolist()
    assert str(here) == elsewhere.strip()
    initial = {g.initial_seed() for s in range(50) for g in generators([s], "init") + generators([s], "order")}
    assert len(initial) == 100


def test_neighboring_seeds_give_uncorrelated_numbers():
    x = RunRNG(list(range(40)), "noise").normal(5000)
    correlations = torch.corrcoef(x) - torch.eye(40)
    assert correlations.abs().max() < 5 / math.sqrt(5000)
    assert abs(x.mean()) < 0.01
    assert abs(x.std() - 1) < 0.01


def test_a_run_gets_the_same_numbers_in_any_stack():
    def play(own):
        rng = RunRNG(own, "play", block=64)
        return [
            rng.normal(3),
            rng.uniform(2, 5),
            rng.normal(100),  # larger than a block
            rng.randint(7, 4),
            rng.permutation(9),
            rng.normal(40),
            rng.normal(40),  # crosses a block's end
            rng.uniform(),
        ]

    together, alone = play([8, 2, 9]), play([2])
    for many, one in zip(together, alone):
        assert torch.equal(many[1:2], one)


def test_randint_is_the_floor_of_scaled_uniforms_and_covers_every_value():
    u, k = RunRNG([0, 1], "s").uniform(4000), RunRNG([0, 1], "s").randint(10, 4000)
    assert torch.equal(k, (u * 10).floor().long())
    assert (k.flatten().bincount(minlength=10) / 8000 - 0.1).abs().max() < 0.015
    per_run = RunRNG([0, 1], "s").randint(torch.tensor([3, 1000]), 4000)
    assert per_run[0].max() == 2
    assert per_run[1].max() > 990
    assert per_run.max() < 1000


def test_randint_stays_below_its_bound_even_when_a_product_rounds_up():
    rng = RunRNG([0], "edge")
    rng.uniform(1)
    rng._ahead["uniform"].fill_(1 - 2**-24)  # the largest number a uniform can be
    assert rng.randint(1000, 5).max() == 999
    assert rng.randint(torch.tensor([1000]), 5).max() == 999


def test_permutations_hold_every_index_once_and_differ_between_calls():
    rng = RunRNG([0, 1], "order")
    first, second = rng.permutation(50), rng.permutation(50)
    assert torch.equal(first.sort(1).values, torch.arange(50).expand(2, 50))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_writing_into_drawn_numbers_does_not_change_later_ones():
    rng, other = RunRNG([0], "s"), RunRNG([0], "s")
    rng.normal(4).zero_()
    other.normal(4)
    assert torch.equal(rng.normal(4), other.normal(4))


# --- parameters


def test_leaves_and_gradients_share_memory_with_the_buffers():
    params = ParameterStore(3, {"w": (2, 4), "b": (1, 4)})
    params.flat.copy_(torch.arange(36.0).view(3, 12))
    assert torch.equal(params["w"][1], torch.arange(12.0, 20.0).view(2, 4))
    assert all(leaf.is_leaf and leaf.requires_grad for _, leaf in params.items())
    ((params["w"].sum((1, 2)) * torch.tensor([1.0, 2.0, 3.0])).sum() + params["b"][2].sum()).backward()
    assert torch.equal(params.grad[:, :8], torch.tensor([1.0, 2.0, 3.0]).view(3, 1).expand(3, 8))
    assert torch.equal(params.grad[:, 8:], torch.tensor([0.0, 0.0, 1.0]).view(3, 1).expand(3, 4))


def test_zero_grad_repairs_gradients_that_were_detached_from_the_buffer():
    params = ParameterStore(2, {"w": (3,)})
    params["w"].grad = None
    params.zero_grad()
    params["w"].sum().backward()
    assert torch.equal(params.grad, torch.ones(2, 3))


def test_first_store_of_a_process_raises_no_layout_warning():
    code = "import warnings;warnings.simplefilter('error');from reprise.blocks.seeds import StackedMLP;"
    code += "import torch;m=StackedMLP([0,1],[2,3,1]);m(torch.ones(2,1,2)).sum().backward()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_select_load_and_state_move_runs_and_nothing_else():
    mlp = StackedMLP(SEEDS, [3, 4, 2])
    params = mlp.params
    part = params.select([2, 0])
    assert torch.equal(part.flat, params.flat[[2, 0]])
    assert part.flat.data_ptr() != params.flat.data_ptr()
    assert torch.equal(params.select(torch.tensor([False, True, False, False, True])).flat, params.flat[[1, 4]])
    assert torch.equal(params.select(3).flat[0], params.flat[3])
    assert torch.equal(params.repeat(2).flat, params.flat.repeat_interleave(2, 0))
    assert torch.equal(blocks.stores_joined([params, part]).flat, torch.cat([params.flat, part.flat]))
    saved, mask = params.state(), torch.tensor([True, False, True, False, False])
    params.flat.zero_()
    params.load(saved, mask)
    assert params.flat[~mask].abs().max() == 0
    params.load(saved)
    assert all(torch.equal(saved[name], leaf) for name, leaf in params.items())
    assert torch.equal(params.run(1)["0.weight"], saved["0.weight"][1])


def test_a_state_with_other_names_is_refused():
    params = ParameterStore(2, {"w": (3,)})
    with pytest.raises(ValueError, match="names"):
        params.load({"v": torch.zeros(2, 3)})
    with pytest.raises(ValueError, match="at least one run"):
        ParameterStore(0, {"w": (3,)})


# --- layers


@pytest.mark.parametrize("layer_norm", [False, True])
def test_every_run_computes_what_its_ordinary_module_computes(layer_norm):
    mlp = StackedMLP(SEEDS, [6, 8, 7, 3], "tanh", layer_norm=layer_norm, output_activation="sigmoid")
    x = torch.randn(5, 11, 6)
    out, hidden = mlp(x, features=True)
    assert [h.shape[-1] for h in hidden] == [8, 7]
    for i in range(5):
        torch.testing.assert_close(out[i], mlp.module(i)(x[i]), rtol=1e-5, atol=1e-6)


def test_any_number_of_batch_axes_gives_the_same_values():
    mlp = StackedMLP(SEEDS, [6, 8, 3], layer_norm=True)
    x = torch.randn(5, 4, 7, 6)
    torch.testing.assert_close(mlp(x), mlp(x.flatten(1, 2)).view(5, 4, 7, 3))


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
def test_stacked_convolution_equals_one_convolution_per_run(stride, padding):
    layer = StackedConv2d("conv", 3, 5, 3, stride, padding)
    params = build([layer], SEEDS)
    x = torch.randn(5, 2, 3, 9, 8)
    out = layer(params, x)
    for i in range(5):
        one = nn.functional.conv2d(
            x[i], params["conv.weight"][i], params["conv.bias"][i], stride=stride, padding=padding
        )
        torch.testing.assert_close(out[i], one, rtol=1e-5, atol=1e-5)


def test_gradients_equal_those_of_each_run_taken_alone():
    # reference: torch.func over ordinary modules, one network per slice of the leading axis
    mlp = StackedMLP(SEEDS, [6, 8, 3], "gelu", layer_norm=True)
    x, labels = torch.randn(5, 11, 6), torch.randint(3, (5, 11))
    mlp.params.zero_grad()
    cross_entropy(mlp(x), labels).sum().backward()
    modules = [mlp.module(i) for i in range(5)]
    stacked = {k: torch.stack([dict(m.named_parameters())[k].detach() for m in modules]) for k, _ in
               modules[0].named_parameters()}  # fmt: skip

    def loss(own, x, y):
        return nn.functional.cross_entropy(functional_call(modules[0], own, x), y)

    reference = vmap(grad(loss))(stacked, x, labels)
    ours = mlp.params.views(mlp.params.grad)
    torch.testing.assert_close(ours["0.weight"], reference["0.weight"].mT, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours["0.norm.gain"][:, 0], reference["1.weight"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours["1.bias"][:, 0], reference["3.bias"], rtol=1e-4, atol=1e-6)
    assert len(reference) == len(ours)


def test_outside_parameters_take_the_place_of_the_networks_own():
    mlp = StackedMLP(SEEDS, [4, 5, 2])
    x = torch.randn(5, 3, 4)
    doubled = {name: 2 * leaf for name, leaf in mlp.params.items()}
    twin = mlp.with_params(mlp.params.select(slice(None)))
    twin.params.flat.mul_(2)
    torch.testing.assert_close(mlp(x, params=doubled), twin(x))
    assert not torch.allclose(mlp(x), twin(x))


@pytest.mark.parametrize(
    ("init", "variance"),
    [("torch", 1 / 1200), ("he_normal", 2 / 400), ("glorot_normal", 2 / 700), ("lecun", 1 / 400)],
)
def test_initial_weights_have_the_named_variance(init, variance):
    params = build([StackedLinear("l", 400, 300, init=init)], [0, 1])
    weight = params["l.weight"]
    assert abs(weight.var() / variance - 1) < 0.02
    assert weight.mean().abs() < 0.01 * math.sqrt(variance)
    if init == "torch":
        assert weight.abs().max() <= 1 / 20
        assert params["l.bias"].abs().max() > 0
    else:
        assert params["l.bias"].abs().max() == 0


def test_orthogonal_weights_are_orthogonal_and_scaled_by_the_gain():
    params = build([StackedLinear("l", 20, 8, init="orthogonal", gain=3.0)], [0, 1])
    products = params["l.weight"].mT @ params["l.weight"]
    torch.testing.assert_close(products, 9 * torch.eye(8).expand(2, 8, 8), rtol=1e-4, atol=1e-4)


def test_initial_values_of_a_seed_do_not_depend_on_its_neighbors():
    together, alone = StackedMLP([5, 6, 7], [4, 8, 2]), StackedMLP([6], [4, 8, 2])
    assert torch.equal(together.params.flat[1], alone.params.flat[0])
    assert not torch.equal(together.params.flat[0], together.params.flat[1])


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(ValueError, match="choose"):
        StackedMLP([0], [2, 2], init="magic")
    with pytest.raises(ValueError, match="choose"):
        StackedMLP([0], [2, 2], activation="magic")
    with pytest.raises(ValueError, match="inputs and outputs"):
        StackedMLP([0], [2])


# --- optimisers


def _descend(optimizer, mlp, x, y, steps):
    for t in range(steps):
        mlp.params.zero_grad()
        (mlp(x[:, t]) - y[:, t]).square().mean((1, 2)).sum().backward()
        optimizer.step()


def test_a_stack_equals_its_runs_one_by_one():
    x, y = RunRNG(SEEDS, "x").normal(200, 16, 6), RunRNG(SEEDS, "y").normal(200, 16, 2)
    stacked = StackedMLP(SEEDS, [6, 16, 16, 2])
    _descend(FlatAdam(stacked.params, 3e-3), stacked, x, y, 200)
    for i, seed in enumerate(SEEDS):
        alone = StackedMLP([seed], [6, 16, 16, 2])
        _descend(FlatAdam(alone.params, 3e-3), alone, x[i : i + 1], y[i : i + 1], 200)
        torch.testing.assert_close(stacked.params.flat[i], alone.params.flat[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda p: FlatAdam(p, 3e-3), lambda p: torch.optim.Adam(p, 3e-3)),
        (
            lambda p: FlatAdam(p, 1e-2, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1),
            lambda p: torch.optim.Adam(p, 1e-2, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1),
        ),
        (
            lambda p: FlatAdam(p, 1e-2, weight_decay=0.1, decoupled=True),
            lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1),
        ),
        (lambda p: FlatSGD(p, 1e-2), lambda p: torch.optim.SGD(p, 1e-2)),
        (
            lambda p: FlatSGD(p, 1e-2, momentum=0.9, weight_decay=0.01),
            lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9, weight_decay=0.01),
        ),
        (
            lambda p: FlatSGD(p, 1e-2, momentum=0.9, nesterov=True),
            lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9, nesterov=True),
        ),
    ],
)
@pytest.mark.parametrize("max_norm", [None, 0.05])
def test_flat_optimizers_equal_torch_optim_on_ordinary_modules(ours, theirs, max_norm):
    x, y = RunRNG([0, 1], "x").normal(100, 8, 3), RunRNG([0, 1], "y").normal(100, 8, 2)
    mlp = StackedMLP([0, 1], [3, 5, 2], "tanh")
    modules = [mlp.module(i) for i in range(2)]
    optimizer = ours(mlp.params)
    for t in range(100):
        mlp.params.zero_grad()
        (mlp(x[:, t]) - y[:, t]).square().mean((1, 2)).sum().backward()
        optimizer.step(max_norm=max_norm)
    for i, module in enumerate(modules):
        reference = theirs(module.parameters())
        for t in range(100):
            reference.zero_grad()
            (module(x[i, t]) - y[i, t]).square().mean().backward()
            if max_norm:
                nn.utils.clip_grad_norm_(module.parameters(), max_norm)
            reference.step()
        torch.testing.assert_close(mlp.params["0.weight"][i], module[0].weight.T, rtol=0, atol=1e-6)
        torch.testing.assert_close(mlp.params["1.bias"][i, 0], module[2].bias, rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [FlatAdam, lambda p, r: FlatSGD(p, r, momentum=0.9)])
def test_a_masked_step_leaves_the_other_runs_as_if_it_had_not_happened(make):
    params, reference = ParameterStore(3, {"w": (4,)}), ParameterStore(3, {"w": (4,)})
    optimizer, plain = make(params, 0.1), make(reference, 0.1)
    mask = torch.tensor([True, False, True])
    gradients = torch.randn(7, 3, 4)
    for t, g in enumerate(gradients):
        params.grad.copy_(g)
        reference.grad.copy_(g)
        if t == 3:
            params.grad[1] = torch.nan  # even a broken gradient of a masked run must not leak
            before = params.flat[1].clone()
            optimizer.step(mask)
            assert torch.equal(params.flat[1], before)
            plain.step()
            kept = reference.flat[mask].clone()
            assert torch.equal(params.flat[mask], kept)
        else:
            optimizer.step()
            plain.step()
    assert torch.equal(params.flat[mask], reference.flat[mask])
    # the masked run equals one that never saw step 3
    skipped = ParameterStore(3, {"w": (4,)})
    short = make(skipped, 0.1)
    for t, g in enumerate(gradients):
        if t != 3:
            skipped.grad.copy_(g)
            short.step()
    assert torch.equal(params.flat[1], skipped.flat[1])


def test_learning_rates_may_differ_per_run_and_change_between_steps():
    params = ParameterStore(2, {"w": (3,)})
    optimizer = FlatSGD(params, torch.tensor([1.0, 0.0]))
    params.grad.fill_(1.0)
    optimizer.step()
    optimizer.learning_rate = 0.5
    optimizer.step()
    assert torch.equal(params.flat, torch.tensor([[-1.5] * 3, [-0.5] * 3]))


def test_clipping_acts_on_each_run_alone():
    params = ParameterStore(2, {"w": (4,)})
    optimizer = FlatSGD(params, 1.0)
    params.grad[0], params.grad[1] = 10.0, 0.1
    optimizer.step(max_norm=1.0)
    torch.testing.assert_close(params.flat[0], torch.full((4,), -0.5), rtol=1e-4, atol=0)
    torch.testing.assert_close(params.flat[1], torch.full((4,), -0.1))


def test_reset_makes_an_optimizer_like_new_for_the_chosen_runs():
    params = ParameterStore(2, {"w": (3,)})
    optimizer = FlatAdam(params, 0.1)
    for _ in range(5):
        params.grad.copy_(torch.randn(2, 3))
        optimizer.step()
    optimizer.reset(torch.tensor([False, True]))
    before = params.flat.clone()
    params.grad.fill_(7.0)
    optimizer.step()
    # Adam's first step has the length of the learning rate, whatever the gradient
    torch.testing.assert_close(before[1] - params.flat[1], torch.full((3,), 0.1), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(before[0] - params.flat[0], torch.full((3,), 0.1), atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu_agrees_with_the_cpu():
    x, y = RunRNG([0, 1], "x").normal(50, 8, 3), RunRNG([0, 1], "y").normal(50, 8, 2)
    ends = []
    for device in ("cpu", "cuda"):
        mlp = StackedMLP([0, 1], [3, 5, 2], "tanh", device=device)
        optimizer = FlatAdam(mlp.params, torch.tensor([1e-2, 1e-3]))
        _descend(optimizer, mlp, x.to(device), y.to(device), 50)
        ends.append(mlp.params.flat.cpu())
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-4)


def test_a_layer_norm_layer_starts_as_plain_normalisation():
    layer = StackedLayerNorm("n", 6)
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(layer(build([layer], [0, 1]), x), nn.functional.layer_norm(x, (6,)))


def test_a_rate_of_zero_keeps_a_run_where_it_is_while_others_move():
    params = ParameterStore(2, {"w": (3,)})
    optimizer = FlatAdam(params, torch.tensor([0.0, 0.1]))
    for _ in range(3):
        params.grad.copy_(torch.randn(2, 3))
        params.grad[:, 1] = 0.0  # nor may 0 / 0 arise
        optimizer.step()
    assert (params.flat[0] == 0).all()
    assert (params.flat[1] != 0).tolist() == [True, False, True]


def test_parameters_without_gradient_do_not_move_under_adam():
    params = ParameterStore(1, {"w": (3,)})
    optimizer = FlatAdam(params, 0.1)
    for _ in range(3):
        params.grad[0, 0] = 1.0
        optimizer.step()
    assert (params.flat[0, 1:] == 0).all()
    assert params.flat[0, 0] < -0.2
