"""Batched drives against PyPI's gym-electric-motor, the paper's own toolbox, step by step."""

import warnings

import numpy as np
import pytest
import torch
from scipy import stats

gem = pytest.importorskip("gym_electric_motor", reason="the peer toolbox is in tests/peers/requirements.txt")

from gym_electric_motor import physical_systems as parts  # noqa: E402
from gym_electric_motor import reference_generators as theirs  # noqa: E402
from gym_electric_motor.physical_system_wrappers import DeadTimeProcessor  # noqa: E402

from reprise.blocks import drive_references  # noqa: E402
from reprise.blocks import drives as ours  # noqa: E402
from reprise.blocks.seeds import RunRNG  # noqa: E402

SERIES_LOAD = ours.Load(a=0.01, b=0.05, j_load=1e-4)
FREE = ours.Load(j_load=1e-4)
SPEED_CONTROL = {
    "Cont-SC-SeriesDc-v0": (ours.SERIES, SERIES_LOAD),
    "Cont-SC-ShuntDc-v0": (ours.SHUNT, ours.Load(a=0.05, b=0.01, j_load=1e-4)),
    "Cont-SC-ExtExDc-v0": (ours.EXTERNAL, FREE),
    "Cont-SC-PermExDc-v0": (ours.PERMANENT, FREE),
}


def make(name, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gem.make(name, **settings).unwrapped


def largest_difference(system, drives, actions):
    """Over all steps and all states that both name, between their system and ours."""
    system.reset()
    places = [(system.state_names.index(name), ours_at) for ours_at, name in enumerate(drives.state_names)]
    worst = 0.0
    for action in actions:
        seen, mine = system.simulate(action), drives.step(torch.as_tensor(action)[None])[0].numpy()
        gaps = [(seen[there] - mine[here], name) for (there, here), name in zip(places, drives.state_names)]
        # angles of π and -π are the same
        worst = max(worst, *(min(abs(g), abs(abs(g) - 2)) if n == "epsilon" else abs(g) for g, n in gaps))
    return worst


@pytest.mark.parametrize("name", SPEED_CONTROL)
def test_dc_drives_agree_step_by_step(name):
    motor, load = SPEED_CONTROL[name]
    drives = ours.Drives(motor, load)
    actions = np.random.default_rng(0).uniform(-0.1, 1, (1000, drives.actions))
    assert largest_difference(make(name).physical_system, drives, actions) < 1e-6


@pytest.mark.parametrize("frame", ["abc", "dq"])
def test_synchronous_drives_agree_step_by_step(frame):
    system = parts.SynchronousMotorSystem(
        control_space=frame, supply=parts.IdealVoltageSupply(u_nominal=300.0), converter=parts.ContB6BridgeConverter(),
        motor=parts.PermanentMagnetSynchronousMotor(), load=parts.ConstantSpeedLoad(omega_fixed=100.0),
        ode_solver=parts.ScipyOdeSolver(),
    )  # fmt: skip
    drives = ours.Drives(ours.PMSM, ours.Load(speed=100.0), supply_v=300.0, action_frame=frame)
    actions = np.random.default_rng(1).uniform(-0.3, 0.3, (800, drives.actions))
    assert largest_difference(system, drives, actions) < 1e-6


def test_a_synchronous_drive_that_is_free_to_turn_agrees():
    drives = ours.Drives(ours.PMSM, ours.Load(a=0.01, b=0.01, j_load=1e-5), supply_v=420.0)
    actions = np.random.default_rng(2).uniform(-0.2, 0.2, (800, 3))
    assert largest_difference(make("Cont-SC-PMSM-v0").physical_system, drives, actions) < 1e-6


CONVERTERS = {
    "1QC": parts.ContOneQuadrantConverter,
    "2QC": parts.ContTwoQuadrantConverter,
    "4QC": parts.ContFourQuadrantConverter,
}


@pytest.mark.parametrize("quadrants", CONVERTERS)
def test_converters_with_interlocking_time_agree(quadrants):
    converter = ours.CONVERTERS[quadrants]
    system = make("Cont-SC-SeriesDc-v0", converter=CONVERTERS[quadrants](interlocking_time=4e-6)).physical_system
    drives = ours.Drives(load=SERIES_LOAD, converter=converter, interlocking_s=4e-6)
    actions = np.random.default_rng(3).uniform(converter.low, converter.high, (800, 1))
    assert largest_difference(system, drives, actions) < 1e-6


def test_a_b6_bridge_with_interlocking_time_agrees():
    system = make("Cont-CC-PMSM-v0", converter=parts.ContB6BridgeConverter(interlocking_time=4e-6)).physical_system
    drives = ours.Drives(ours.PMSM, ours.Load(speed=100.0), supply_v=300.0, interlocking_s=4e-6)
    actions = np.random.default_rng(4).uniform(-0.3, 0.3, (1000, 3))
    assert largest_difference(system, drives, actions) < 1e-6


@pytest.mark.parametrize("steps", [1, 3])
def test_dead_time_agrees(steps):
    system = make("Cont-SC-SeriesDc-v0", physical_system_wrappers=(DeadTimeProcessor(steps=steps),)).physical_system
    drives = ours.Drives(load=SERIES_LOAD, dead_steps=steps)
    actions = np.random.default_rng(5).uniform(-0.1, 1, (500, 1))
    assert largest_difference(system, drives, actions) < 1e-6


def test_environment_gives_the_same_observations_rewards_and_ends():
    heavy = parts.mechanical_loads.PolynomialStaticLoad(load_parameter={"a": 0.01, "b": 0.05, "c": 0.0, "j_load": 0.02})
    peer = make("Cont-SC-SeriesDc-v0", load=heavy)
    (state, reference), _ = peer.reset(seed=0)
    wanted, actions, found = [float(reference[0])], np.random.default_rng(6).uniform(0.8, 1, (3000, 1)), []
    for action in actions:  # with this inertia, nearly full voltage drives the current out of its limit
        (state, reference), reward, ended, _, _ = peer.step(action)
        found.append((*state[:4], float(reference[0]), reward, ended))
        wanted.append(float(reference[0]))
        if ended:
            break
    assert ended
    single = ours.SingleDrive(torch.tensor(wanted)[None, None], load=ours.Load(a=0.01, b=0.05, j_load=0.02))
    (state, reference), _ = single.reset()
    assert reference[0] == pytest.approx(wanted[0])
    for action, theirs_now in zip(actions, found):
        (state, reference), reward, ended, _, _ = single.step(action)
        assert np.allclose([*state, reference[0], reward], theirs_now[:-1], atol=1e-6)
        assert ended == theirs_now[-1]


GENERATORS = {
    "wiener": theirs.WienerProcessReferenceGenerator, "laplace": theirs.LaplaceProcessReferenceGenerator,
    "sinusoid": theirs.SinusoidalReferenceGenerator, "triangle": theirs.TriangularReferenceGenerator,
    "sawtooth": theirs.SawtoothReferenceGenerator, "step": theirs.StepReferenceGenerator,
}  # fmt: skip


STEPS_DIFFER = pytest.mark.xfail(strict=True, reason="their steps begin at other values; why is not known yet")


@pytest.mark.parametrize("kind", [pytest.param(k, marks=STEPS_DIFFER if k == "step" else ()) for k in GENERATORS])
def test_references_have_the_same_distribution(kind):
    settings = {"sigma_range": (1e-3, 2e-2)} if kind in drive_references.WALKS else {}
    generator = GENERATORS[kind](reference_state="omega", **settings)
    make("Cont-SC-SeriesDc-v0", reference_generator=generator).reset(seed=0)
    start, seen = 0.75 * np.random.default_rng(0).random(1000), []
    for value in start:  # one sub-episode after another
        generator._current_episode_length, generator._reference_value = 400, value if kind == "wiener" else 0.0
        generator._reset_reference()
        seen.append(generator._reference)
    seen = np.stack(seen)
    mine = drive_references.tracks(drive_references.Reference(kind), RunRNG([0], "t"), 1000, 400)[0].numpy()
    for measure in (lambda x: x[:, 0], lambda x: x[:, -1], lambda x: np.abs(np.diff(x)).mean(1), lambda x: x.std(1)):
        assert stats.ks_2samp(measure(seen), measure(mine)).pvalue > 0.002  # 24 comparisons in all
    assert seen.min() >= 0
    assert mine.max() <= 0.75


def test_sub_episodes_have_the_same_lengths_and_scales():
    generator = theirs.WienerProcessReferenceGenerator(reference_state="omega", sigma_range=(1e-3, 2e-2))
    peer = make("Cont-SC-SeriesDc-v0", reference_generator=generator)
    peer.reset(seed=0)
    lengths, scales = [], []
    for _ in range(400):
        generator._k = generator._current_episode_length
        generator.get_reference_observation(None)
        lengths.append(generator._current_episode_length)
        scales.append(generator._current_sigma)
    rng = RunRNG([0], "t")
    drawn = drive_references._draw(drive_references.Reference("wiener"), rng.uniform(10, 400).double().unbind(1))
    assert stats.ks_2samp(np.log(scales), drawn["sigma"][0].log().numpy()).pvalue > 0.01
    assert stats.ks_2samp(lengths, drawn["length"][0].numpy()).pvalue > 0.01
