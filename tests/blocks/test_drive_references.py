"""Reference generators against the distributions and shapes that define them."""

import numpy as np
import pytest
import torch
from scipy import stats

from reprise.blocks.drive_references import WALKS, WAVES, Reference, tracks
from reprise.blocks.seeds import RunRNG

STEADY = {"lengths": (400, 400), "frequency_hz": (50.0, 50.0)}  # one sub-episode, two periods of 200 steps


def rng(*seeds):
    return RunRNG(seeds or (0,), "t")


@pytest.mark.parametrize("kind", [*WALKS, *WAVES, "constant"])
def test_references_stay_within_their_margin(kind):
    made = tracks(Reference(kind, low=-0.2, high=0.6), rng(), 20, 3000)
    assert made.shape == (1, 20, 3000)
    assert float(made.min()) >= -0.2
    assert float(made.max()) <= 0.6


@pytest.mark.parametrize(("kind", "law"), [("wiener", stats.norm), ("laplace", stats.laplace)])
def test_increments_of_a_walk_have_the_drawn_scale(kind, law):
    made = tracks(Reference(kind, low=-1e3, high=1e3, sigma=(0.5, 0.5)), rng(), 10, 400)
    assert stats.kstest(made[0].diff(dim=1).flatten().numpy() / 0.5, law.cdf).pvalue > 0.01


def test_scales_are_uniform_in_their_logarithm():
    made = tracks(Reference("wiener", low=-1e3, high=1e3, lengths=(2000, 2000)), rng(), 300, 2000)
    scales = made[0].diff(dim=1).std(1).log10().numpy()
    assert stats.kstest(scales, stats.uniform(-3, np.log10(20)).cdf).pvalue > 0.01


def test_a_walk_begins_anywhere_in_the_margin_and_a_laplace_walk_at_zero():
    first = tracks(Reference("wiener", sigma=(1e-9, 1e-9)), rng(), 500, 2)[0, :, 0].numpy()
    assert stats.kstest(first, stats.uniform(0, 0.75).cdf).pvalue > 0.01
    assert float(tracks(Reference("laplace", sigma=(1e-9, 1e-9)), rng(), 5, 2).max()) < 1e-6


def test_lengths_of_sub_episodes_are_uniform():
    made = tracks(Reference("step", frequency_hz=(1e-9, 1e-9)), rng(), 200, 30_000)  # constant but for new draws
    lengths = np.concatenate([np.diff(np.flatnonzero(row)) for row in made[0].diff(dim=1).abs().numpy() > 1e-12])
    whole = lengths[(lengths > 0) & (lengths < 2000)]
    assert whole.min() >= 500
    assert np.mean(whole) == pytest.approx(1250, rel=0.03)


def test_sinusoids_are_sinusoids():
    made = tracks(Reference("sinusoid", low=-1.0, high=1.0, **STEADY), rng(), 50, 400)[0]
    t = torch.arange(400).double() * 1e-4 * 2 * np.pi * 50
    basis = torch.stack([t.sin(), t.cos(), torch.ones(400).double()], 1)
    fit = torch.linalg.lstsq(basis, made.T).solution
    assert torch.allclose(basis @ fit, made.T, atol=1e-9)
    amplitude = fit[:2].norm(dim=0).numpy()
    assert stats.kstest(amplitude, stats.uniform(0, 1).cdf).pvalue > 0.01


def test_steps_take_two_values_and_sawteeth_one_slope_up():
    made = tracks(Reference("step", low=-1.0, high=1.0, **STEADY), rng(), 20, 400)[0]
    assert all(len(row.unique()) <= 3 for row in made)  # the two values, and at an edge perhaps their middle
    rises = tracks(Reference("sawtooth", low=-1.0, high=1.0, **STEADY), rng(), 20, 400)[0].diff(dim=1)
    for row in rises:
        up = row[row > 0]
        assert len(up) > 390
        assert torch.allclose(up, up[:1].expand_as(up), atol=1e-9)


def test_triangles_rise_and_fall_with_two_slopes():
    rises = tracks(Reference("triangle", low=-1.0, high=1.0, **STEADY), rng(), 20, 400)[0].diff(dim=1)
    for row in rises:
        slopes = (row / row.abs().max() * 1e6).round().unique()
        assert len(slopes) <= 2 + 4  # two slopes, and one step across each of up to four kinks


def test_switching_plays_every_generator_and_walks_go_on_from_where_the_reference_was():
    kinds = [Reference("constant", value=0.7), Reference("wiener", sigma=(1e-4, 1e-4))]
    made = tracks(kinds, rng(), 50, 20_000, super_lengths=(100, 1000))[0]
    at_constant = made == 0.7
    assert 0.3 < float(at_constant.double().mean()) < 0.7
    leaves = at_constant[:, :-1] & ~at_constant[:, 1:]
    assert int(leaves.sum()) > 100
    assert float((made[:, 1:][leaves] - 0.7).abs().max()) < 1e-3  # no jump


def test_a_runs_references_do_not_depend_on_the_stack():
    kinds = [Reference(kind) for kind in (*WALKS, *WAVES)]
    both, alone = tracks(kinds, rng(3, 4), 4, 5000), tracks(kinds, rng(4), 4, 5000)
    assert torch.equal(both[1], alone[0])


def test_unknown_kinds_are_named():
    with pytest.raises(ValueError, match="wiener, laplace"):
        Reference("brown")
