"""Pruning masks on stacked weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from reprise.blocks import masks
from reprise.blocks.seeds import StackedMLP, generators

SHAPES = {"a": (3, 6, 8), "b": (3, 8, 5)}


def _scores(seed=0):
    g = torch.Generator().manual_seed(seed)
    return {name: torch.rand(shape, generator=g) for name, shape in SHAPES.items()}


def _full():
    return {name: torch.ones(shape, dtype=torch.bool) for name, shape in SHAPES.items()}


def _modules(scores, run):
    made = []
    for s in scores.values():
        module = nn.Linear(*s.shape[1:], bias=False)
        module.weight.data = s[run].T.contiguous()
        made.append(module)
    return made


def test_global_cuts_equal_torch_prune_round_after_round():
    scores, alive, count = _scores(), _full(), 6 * 8 + 8 * 5
    for run in range(3):
        modules = _modules(scores, run)
        ours, kept = alive, count
        for _ in range(4):
            kept = masks.remaining(kept, 0.35)
            ours = masks.prune_global(scores, ours, kept)
            prune.global_unstructured([(m, "weight") for m in modules], prune.L1Unstructured, amount=0.35)
            for module, mask in zip(modules, ours.values()):
                assert torch.equal(module.weight_mask.T.bool(), mask[run])


def test_layerwise_cuts_equal_torch_prune():
    scores = _scores(1)
    keep = {"a": masks.remaining(48, 0.2), "b": masks.remaining(40, 0.1)}
    ours = masks.prune_layerwise(scores, _full(), keep)
    for run in range(3):
        for name, module, amount in zip("ab", _modules(scores, run), (0.2, 0.1)):
            prune.l1_unstructured(module, "weight", amount=amount)
            assert torch.equal(module.weight_mask.T.bool(), ours[name][run])


@given(st.integers(0, 100), st.lists(st.floats(0.0, 0.9), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_masks_are_nested_and_counts_exact_whatever_the_scores(seed, fractions):
    alive, kept = _full(), 88
    for i, fraction in enumerate(fractions):
        kept = masks.remaining(kept, fraction)
        later = masks.prune_global(_scores(seed + i), alive, kept)
        assert all((later[n] <= alive[n]).all() for n in SHAPES)
        assert (sum(masks.alive_counts(later).values()) == kept).all()
        alive = later


def test_equal_scores_still_give_exact_counts():
    scores = {name: torch.ones(shape) for name, shape in SHAPES.items()}
    assert (sum(masks.alive_counts(masks.prune_global(scores, _full(), 13)).values()) == 13).all()


def test_runs_may_keep_different_counts():
    kept = masks.prune_global(_scores(), _full(), torch.tensor([1, 50, 88]))
    assert sum(masks.alive_counts(kept).values()).tolist() == [1, 50, 88]


def test_one_run_is_cut_as_it_would_be_alone():
    scores = _scores()
    together = masks.prune_global(scores, _full(), 20)
    alone = masks.prune_global({n: s[1:2] for n, s in scores.items()}, {n: m[1:2] for n, m in _full().items()}, 20)
    assert all(torch.equal(together[n][1:2], alone[n]) for n in SHAPES)


def test_reviving_dead_weights_is_refused():
    few = masks.prune_global(_scores(), _full(), 5)
    with pytest.raises(ValueError, match="never come back"):
        masks.prune_global(_scores(), few, 6)
    with pytest.raises(ValueError, match="fraction"):
        masks.remaining(10, 1.0)


def test_shuffling_keeps_every_layers_count_and_moves_the_rest():
    cut = masks.prune_global(_scores(), _full(), 30)
    mixed = masks.shuffled(cut, generators([0, 1, 2], "shuffle"))
    for name in SHAPES:
        assert torch.equal(masks.alive_counts(cut)[name], masks.alive_counts(mixed)[name])
        assert not torch.equal(cut[name], mixed[name])
    alone = masks.shuffled({n: m[2:] for n, m in cut.items()}, generators([2], "shuffle"))
    assert all(torch.equal(mixed[n][2:], alone[n]) for n in SHAPES)


def test_shuffled_positions_are_uniform():
    mask = {"w": torch.zeros(2000, 2, 3, dtype=torch.bool)}
    mask["w"][:, 0, 0] = True
    share = masks.shuffled(mask, generators(list(range(2000)), "u"))["w"].float().mean(0)
    assert (share - 1 / 6).abs().max() < 0.035


def test_flat_masks_cover_weights_and_leave_biases_alive():
    mlp = StackedMLP([0, 1], [4, 6, 3])
    full = masks.full_masks(mlp.params, mlp.weight_names())
    cut = masks.prune_global(masks.magnitudes(mlp.params, full), full, 10)
    flat = masks.flat_mask(mlp.params, cut)
    assert (flat.sum(1) == 10 + 6 + 3).all()
    named = mlp.params.views(flat)
    assert torch.equal(named["1.weight"], cut["1.weight"])
    assert named["0.bias"].all()
    assert torch.allclose(masks.kept_share(cut), torch.tensor(10 / 42))
