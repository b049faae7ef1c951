"""The batched drives against circuit laws, closed forms and an integrator of order eight."""

import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from reprise.blocks import drives
from reprise.blocks.drives import EXTERNAL, LOADS, MOTORS, PERMANENT, PMSM, SERIES, SHUNT, Drives, Load
from reprise.blocks.seeds import RunRNG

COPPER = {  # resistance and inductance of each current's circuit, and the factor of power for three phases
    "series": ([0.064], [5.419e-3], 1.0),
    "shunt": ([0.016, 0.4], [19e-6, 5.4e-3], 1.0),
    "externally excited": ([0.016, 0.16], [19e-6, 5.4e-3], 1.0),
    "permanently excited": ([0.016], [19e-6], 1.0),
    "PMSM": ([0.018, 0.018], [0.37e-3, 1.2e-3], 1.5),
}
named = pytest.mark.parametrize("motor", MOTORS, ids=[motor.name for motor in MOTORS])


def random(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, shape))


# --- motors


@named
def test_electrical_power_is_heat_plus_magnetic_storage_plus_shaft_power(motor):
    resistance, inductance, phases = COPPER[motor.name]
    omega, *i = (100 * random(1 + len(resistance), 50)).unbind(0)
    u = list((60 * random(len(motor.voltages), 50, seed=1)).unbind(0))
    rates = motor.rate(omega, i, u, motor.parameters)
    voltages = u * 2 if motor is SHUNT else u
    electrical = phases * sum(u * i for u, i in zip(voltages, i))
    heat = phases * sum(r * i**2 for r, i in zip(resistance, i))
    storage = phases * sum(inductance * i * rate for inductance, i, rate in zip(inductance, i, rates))
    shaft = motor.torque(i, motor.parameters) * omega
    assert torch.allclose(electrical, heat + storage + shaft, rtol=1e-9, atol=1e-6)


def test_energy_is_balanced_along_a_run_of_the_series_drive():
    plant, power, energy = Drives(), [], []
    for _ in range(2001):
        omega, i = plant.y[:, 0].tolist()
        drag = float(plant.load.torque(plant.y[0], plant.inertia))
        energy.append(0.5 * 5.419e-3 * i**2 + 0.5 * 0.0026 * omega**2)
        power.append(24.0 * i - 0.064 * i**2 - drag * omega)
        plant.step(torch.tensor([[0.4]], dtype=torch.float64))
    power = np.array(power)
    simpson = (power[:-1:2] + 4 * power[1::2] + power[2::2]).sum() * 1e-4 / 3
    assert energy[-1] - energy[0] == pytest.approx(simpson, rel=1e-6)


def test_steady_state_solves_the_two_balances():
    def lack(omega):  # torque at the current that the voltage drives, minus the load's
        return 1.7e-3 * (18 / (0.064 + 1.7e-3 * omega)) ** 2 - 0.01 - 0.05 * omega

    omega = brentq(lack, 1, 400)
    plant = Drives()
    for _ in range(5000):
        state = plant.step(torch.tensor([[0.3]], dtype=torch.float64))
    assert float(state[0, 0]) == pytest.approx(omega / 400, abs=1e-6)
    assert float(state[0, 2]) == pytest.approx(18 / (0.064 + 1.7e-3 * omega) / 210, abs=1e-6)
    assert float(state[0, 0]) == pytest.approx(0.330, abs=5e-4)  # what the toolbox's package shows
    assert float(state[0, 2]) == pytest.approx(0.297, abs=5e-4)


def test_current_of_a_blocked_rotor_rises_exponentially():
    plant = Drives(load=Load(speed=0.0))
    for _ in range(500):
        state = plant.step(torch.tensor([[0.1]], dtype=torch.float64))
    rise = 6 / 0.064 * (1 - np.exp(-0.064 * 0.05 / 5.419e-3))
    assert float(state[0, 2]) * 210 == pytest.approx(rise, rel=1e-9)
    assert float(state[0, 0]) == 0


def by_hand(motor, t, y, u):
    """The equations once more, one drive, plain numbers, written from the chapter's text."""
    load, p = LOADS[motor.name], motor.parameters
    omega, i, inertia = y[0], y[1:], p["j_rotor"] + LOADS[motor.name].j_load
    if motor is SERIES:
        rates, torque = [(u[0] - 0.064 * i[0] - 1.7e-3 * i[0] * omega) / 5.419e-3], 1.7e-3 * i[0] ** 2
    elif motor is PERMANENT:
        rates, torque = [(u[0] - 0.016 * i[0] - 0.165 * omega) / 19e-6], 0.165 * i[0]
    elif motor is PMSM:
        w = 3 * omega
        rates = [
            (u[0] - 0.018 * i[0] + w * 1.2e-3 * i[1]) / 0.37e-3,
            (u[1] - 0.018 * i[1] - w * (0.37e-3 * i[0] + 0.066)) / 1.2e-3,
            w,
        ]
        torque = 1.5 * 3 * (0.066 + (0.37e-3 - 1.2e-3) * i[0]) * i[1]
    else:
        field = (u[-1] - (0.4 if motor is SHUNT else 0.16) * i[1]) / 5.4e-3
        rates = [(u[0] - 0.016 * i[0] - 1.7e-3 * omega * i[1]) / 19e-6, field]
        torque = 1.7e-3 * i[0] * i[1]
    edge = load.a * 1e-3 / inertia
    friction = np.sign(omega) * load.a if abs(omega) > edge else omega * inertia / 1e-3
    drag = friction + load.b * omega + np.sign(omega) * load.c * omega**2
    return [(torque - drag) / inertia, *rates]


@named
def test_a_step_agrees_with_order_eight_on_equations_written_anew(motor):
    plant = Drives(motor, LOADS[motor.name], shape=(20,), supply_v=300.0 if motor is PMSM else 60.0)
    limits = [motor.limits["omega"], *(motor.limits[c] for c in motor.currents), np.pi]
    before = random(*plant.y.shape) * torch.tensor(limits[: len(plant.y)])[:, None]
    before[0].abs_()
    plant.y = before
    plant.step(random(20, plant.actions, seed=2))
    for drive in range(20):
        u = [float(voltage[drive]) for voltage in plant.u]
        exact = solve_ivp(
            lambda t, y, u=u: by_hand(motor, t, y, u), (0, 1e-4), before[:, drive], "DOP853", rtol=1e-11, atol=1e-11
        )
        gap = np.abs(exact.y[:, -1] - plant.y[:, drive].numpy()) / limits[: len(plant.y)]
        assert gap.max() < 1e-6


def test_error_falls_sixteenfold_when_the_step_is_halved():
    ends = []
    for substeps in (1, 2, 64):
        plant = Drives(replace(PERMANENT, substeps=substeps), LOADS["permanently excited"])
        for _ in range(20):
            plant.step(torch.tensor([[0.5]]))
        ends.append(plant.y[1, 0])
    assert float((ends[0] - ends[2]) / (ends[1] - ends[2])) == pytest.approx(16, rel=0.15)


def test_drives_in_a_batch_do_not_know_of_each_other():
    inertia = torch.tensor([0.0025, 0.005, 0.01], dtype=torch.float64)
    together = Drives(SERIES.with_parameters(j_rotor=inertia), shape=(3,))
    alone = [Drives(SERIES.with_parameters(j_rotor=float(value))) for value in inertia]
    for action in random(50, 3, 1):
        state = together.step(action)
        for drive, one in enumerate(alone):
            assert torch.equal(one.step(action[drive : drive + 1])[0], state[drive])


def test_reset_of_some_leaves_the_others():
    plant = Drives(shape=(2,), dead_steps=1)
    for _ in range(5):
        plant.step(torch.ones(2, 1))
    before = plant.state()
    after = plant.reset(torch.tensor([True, False]))
    assert torch.equal(after[1], before[1])
    assert float(after[0].abs().max()) == 0
    assert plant.waiting[0].flatten().tolist() == [0, 1]


# --- load, converters, effects of real drives


def test_load_is_odd_and_continuous_with_the_stated_coefficients():
    load, omega = Load(a=0.3, b=0.02, c=1e-4), torch.linspace(-400, 400, 2001, dtype=torch.float64)
    torque = load.torque(omega, 0.0026)
    assert torch.allclose(torque, -load.torque(-omega, 0.0026))
    far = omega.abs() > 0.3 * 1e-3 / 0.0026
    expected = omega.sign() * 0.3 + 0.02 * omega + omega.sign() * 1e-4 * omega**2
    assert torch.allclose(torque[far], expected[far])
    edge = 0.3 * 1e-3 / 0.0026
    sides = load.torque(torch.tensor([edge - 1e-9, edge + 1e-9]).double(), 0.0026)
    assert float(sides.diff().abs()) < 1e-6


def test_interlocking_costs_a_half_bridge_duty_against_the_sign_of_the_current():
    duty, current = torch.tensor([0.5, 0.5, 0.5, 0.01, 0.99]), torch.tensor([1.0, -1.0, 0.0, 1.0, -1.0])
    assert drives.two_quadrant(duty, current, 0.04).tolist() == pytest.approx([0.46, 0.54, 0.5, 0.0, 1.0])


def test_interlocking_cancels_in_four_quadrants_but_at_the_ends():
    action, current = torch.tensor([0.0, 0.5, 1.0, -1.0]), torch.tensor([5.0, 5.0, 5.0, 5.0])
    # at an end one leg is clipped: duties 1 - 0.04 and 0 - 0.04 -> 0
    assert drives.four_quadrant(action, current, 0.04).tolist() == pytest.approx([0.0, 0.5, 0.96, -0.96])


def test_a_single_transistor_has_nothing_to_interlock_and_its_diode_carries_negative_currents():
    action, current = torch.tensor([0.3, 0.3, 2.0]), torch.tensor([1.0, -1.0, 1.0])
    assert drives.one_quadrant(action, current, 0.04).tolist() == pytest.approx([0.3, 1.0, 1.0])


def test_phases_and_axes_are_inverse_and_keep_amplitudes():
    d, q, angle = random(3, 100).unbind(0)
    phases = drives._phases(d, q, 3 * angle)
    assert torch.allclose(sum(phases), torch.zeros(100).double(), atol=1e-12)
    assert torch.allclose(torch.stack(drives._axes(phases, 3 * angle)), torch.stack([d, q]))
    turning = drives._phases(torch.ones(1000), torch.zeros(1000), torch.linspace(0, 6.28, 1000))
    assert float(turning[0].max()) == pytest.approx(1, abs=1e-4)


def test_a_bridge_gives_the_voltages_that_the_axes_ask_for():
    plant = Drives(PMSM, Load(speed=100.0), supply_v=300.0, action_frame="dq", shape=(4,))
    plant.y[3] = torch.tensor([0.0, 1.0, 2.0, -2.0])
    plant.step(torch.tensor([[0.2, -0.4]]).expand(4, 2))
    assert torch.allclose(torch.stack(plant.u), torch.tensor([[30.0], [-60.0]]).expand(2, 4).double())


@pytest.mark.parametrize("steps", [1, 4])
def test_dead_time_delays_actions_by_so_many_steps(steps):
    late, now = Drives(dead_steps=steps), Drives()
    actions = random(50, 1, 1).abs()
    delayed = torch.cat([torch.zeros(steps, 1, 1), actions])[:50]
    for action, other in zip(actions, delayed):
        assert torch.equal(late.step(action), now.step(other))


def test_noise_is_on_what_is_measured_and_not_on_what_is():
    noisy = Drives(shape=(2, 500), noise=0.01, noise_rng=RunRNG([3, 4], "noise"))
    clean = Drives(shape=(2, 500))
    action = torch.full((2, 500, 1), 0.5)
    gap = noisy.step(action) - clean.step(action)
    assert torch.equal(noisy.y, clean.y)
    assert float(gap.std()) == pytest.approx(0.01, rel=0.05)
    assert abs(float(gap.mean())) < 4 * 0.01 / 4000**0.5
    fresh = Drives(shape=(1, 500), noise=0.01, noise_rng=RunRNG([4], "noise"))
    stacked = Drives(shape=(2, 500), noise=0.01, noise_rng=RunRNG([3, 4], "noise"))
    assert torch.equal(fresh.step(action[:1])[0], stacked.step(action)[1])


# --- one drive for gymnasium, bad input


def test_gymnasium_accepts_the_single_drive():
    env = drives.SingleDrive(steps=50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would like bounds; states may leave their limits in the last step
        check_env(env, skip_render_check=True)
    assert isinstance(env, gymnasium.Env)


def test_single_drive_rewards_perfect_tracking_with_zero_and_a_violation_with_minus_ten():
    heavy = SERIES.with_parameters(j_rotor=0.0125)  # at five times the inertia, full voltage breaks the limit
    env = drives.SingleDrive(references=torch.zeros(1, 1, 1000).double(), motor=heavy)
    env.reset(seed=0)
    assert env.step([0.0])[1] == 0
    for _ in range(1000):
        (state, _), reward, terminated, truncated, _ = env.step([1.0])
        if terminated:
            break
        assert reward == pytest.approx(-state[0])
    assert reward == pytest.approx(-10)
    assert state[2] > 1
    assert not truncated


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="noise_rng"):
        Drives(noise=0.1)
    with pytest.raises(ValueError, match="its parameters are"):
        EXTERNAL.with_parameters(psi=1.0)
    with pytest.raises(ValueError, match="action_frame"):
        Drives(action_frame="alpha")
