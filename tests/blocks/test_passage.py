"""Oracles of passage times."""

import pytest
import torch

from reprise.blocks import passage


def test_passage_is_the_first_logged_step_below_the_target():
    steps = torch.tensor([0, 1, 2, 4, 8])
    losses = torch.tensor([[[2.0, 1.5, 0.1, 0.3, 0.05], [2.0, 2.0, 2.0, 2.0, 1.0]]])
    first, reached = passage.first_below(steps, losses, torch.tensor([[0.2, 0.2]]))
    assert first.tolist() == [[2, 8]]
    assert reached.tolist() == [[True, False]]
    assert passage.value_at(steps, losses, first).tolist() == [[pytest.approx(0.1), 1.0]]


def test_slope_recovers_a_line():
    x = torch.tensor([0.0, 1.0, 3.0])
    torch.testing.assert_close(passage.slope(x, torch.stack([2 * x + 1, -x])), torch.tensor([2.0, -1.0]))


def test_logged_steps_grow_geometrically_and_hit_both_ends():
    steps = passage.log_spaced(1000)
    assert steps[0] == 0
    assert steps[-1] == 1000
    assert (steps.diff() > 0).all()
    late = steps[-20:-1].double()
    assert ((late[1:] / late[:-1]) < 1.06).all()
