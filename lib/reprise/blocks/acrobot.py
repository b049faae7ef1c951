"""Acrobot, many at once: swing the free end of a two-link pendulum above a line by a torque at the joint between.

The task of Sutton (1996) as gymnasium's Acrobot-v1 has it (equations of Sutton & Barto's book, one Runge-Kutta step
of 0.2 s, at most 500 steps): reward -1 per step, 0 for the step that arrives; three actions, torque -1, 0 or 1 N m.
A state is (θ1, θ2, dθ1/dt, dθ2/dt) in rad and rad/s, θ1 = 0 hanging down, θ2 relative to the first link.
Links have mass 1 kg, length 1 m, centre of mass in the middle, moment of inertia 1 kg m².
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TIME_STEP_S = 0.2
MOST_STEPS = 500
ACTIONS = 3
_FASTEST = (4 * math.pi, 9 * math.pi)  # rad/s
_GRAVITY = 9.8  # m/s²


def start(uniforms: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """First states: hanging down, each coordinate uniform in [-0.1, 0.1), from uniforms in [0, 1)."""
    return 0.2 * uniforms - 0.1


def observe(state: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 6"]:
    """cos θ1, sin θ1, cos θ2, sin θ2 and the two velocities in rad/s."""
    angles, velocities = state[..., :2], state[..., 2:]
    return torch.cat([torch.stack([angles.cos(), angles.sin()], -1).flatten(-2), velocities], -1)


def step(
    state: Float[Tensor, "*batch 4"], action: Int[Tensor, "*batch"]
) -> tuple[Float[Tensor, "*batch 4"], Bool[Tensor, "*batch"]]:
    """The state 0.2 s later under torque action - 1, and whether the free end is above the line (the episode's end)."""
    torque, dt = (action - 1).to(state.dtype), TIME_STEP_S
    k1 = _derivative(state, torque)
    k2 = _derivative(state + dt / 2 * k1, torque)
    k3 = _derivative(state + dt / 2 * k2, torque)
    k4 = _derivative(state + dt * k3, torque)
    new = state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    angles = (new[..., :2] + math.pi).remainder(2 * math.pi) - math.pi
    velocities = [new[..., 2 + i].clamp(-fastest, fastest) for i, fastest in enumerate(_FASTEST)]
    new = torch.cat([angles, torch.stack(velocities, -1)], -1)
    height = -angles[..., 0].cos() - angles.sum(-1).cos()
    return new, height > 1.0


def _derivative(state: Tensor, torque: Tensor) -> Tensor:
    """Equations of motion (Sutton & Barto, Reinforcement Learning, ch. 11 of the first edition), numbers put in."""
    theta1, theta2, speed1, speed2 = state.unbind(-1)
    cos2, sin2 = theta2.cos(), theta2.sin()
    inertia1, coupling = 3.5 + cos2, 1.25 + 0.5 * cos2
    gravity2 = 0.5 * _GRAVITY * (theta1 + theta2).sin()  # cos(x - π/2) = sin x
    gravity1 = 1.5 * _GRAVITY * theta1.sin() + gravity2 - 0.5 * sin2 * speed2 * (speed2 + 2 * speed1)
    ratio = coupling / inertia1
    push2 = torque + ratio * gravity1 - 0.5 * speed1.square() * sin2 - gravity2
    acceleration2 = push2 / (1.25 - coupling * ratio)
    acceleration1 = -(coupling * acceleration2 + gravity1) / inertia1
    return torch.stack([speed1, speed2, acceleration1, acceleration2], -1)
