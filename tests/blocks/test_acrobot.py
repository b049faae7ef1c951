"""Acrobot: mechanics that hold apart from the code (parity with gymnasium is in tests/peers)."""

import math

import torch

from reprise.blocks import acrobot


def _energy(state):
    """Kinetic and potential energy in J of two links of 1 kg and 1 m, moment of inertia 1 kg m² about their centre."""
    theta1, theta2, w1, w2 = state.unbind(-1)
    both = w1 + w2
    speed2 = w1**2 + 0.25 * both**2 + w1 * both * theta2.cos()  # squared speed of the second link's centre
    kinetic = 0.5 * (0.25 * w1**2 + w1**2) + 0.5 * (speed2 + both**2)
    return kinetic - 9.8 * (0.5 * theta1.cos() + theta1.cos() + 0.5 * (theta1 + theta2).cos())


def test_energy_is_conserved_without_torque_in_short_steps(monkeypatch):
    monkeypatch.setattr(acrobot, "TIME_STEP_S", 0.005)
    state = torch.tensor([[0.5, -0.3, 0.2, 0.1], [1.0, 0.5, -0.5, 0.3]], dtype=torch.float64)
    before = _energy(state)
    for _ in range(400):
        state, _ = acrobot.step(state, torch.ones(2, dtype=torch.long))
    assert torch.allclose(_energy(state), before, atol=1e-6)


def test_hanging_still_is_at_rest_and_mirror_images_stay_mirrored():
    rest, _ = acrobot.step(torch.zeros(1, 4), torch.tensor([1]))
    assert torch.equal(rest, torch.zeros(1, 4))
    state = torch.tensor([[0.3, -0.2, 1.0, 0.4]], dtype=torch.float64)
    pushed, _ = acrobot.step(state, torch.tensor([2]))
    mirrored, _ = acrobot.step(-state, torch.tensor([0]))
    assert torch.allclose(pushed, -mirrored, atol=1e-12)


def test_the_episode_ends_above_the_line():
    high = torch.tensor([[math.pi, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    _, arrived = acrobot.step(high, torch.tensor([1, 1]))
    assert arrived.tolist() == [True, False]


def test_observations_are_cosines_sines_and_speeds():
    seen = acrobot.observe(torch.tensor([[0.1, 0.2, 3.0, 4.0]]))
    expected = [math.cos(0.1), math.sin(0.1), math.cos(0.2), math.sin(0.2), 3.0, 4.0]
    assert torch.allclose(seen[0], torch.tensor(expected))
