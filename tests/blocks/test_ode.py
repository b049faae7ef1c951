"""The solvers against exact solutions, scipy, finite differences, and against themselves run by run."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from reprise.blocks import ode
from reprise.blocks.seeds import RunRNG

PAIRS = pytest.mark.parametrize("tableau", [ode.TSIT5, ode.DOPRI5], ids=["tsit5", "dopri5"])
PLAIN = {"error_power": 0.2, "memory_power": 0.0}  # scipy's controller
SPAN = torch.tensor([0.0, 1.0])
# parameters of three runs of very different difficulty
STIFFNESS = torch.tensor([0.5, 3.0, 8.0], dtype=torch.float64)


def decay(t, z):
    return -z


def van_der_pol(mu):
    """One oscillator per run, state (runs, 2)."""
    return lambda t, z: torch.stack([z[:, 1], mu * (1 - z[:, 0] ** 2) * z[:, 1] - z[:, 0]], 1)


def start(runs):
    return torch.tensor([[2.0, 0.0]], dtype=torch.float64).repeat(runs, 1)


# --- one step


@PAIRS
def test_coefficients_are_consistent(tableau):
    for share, weights in zip(tableau.c, tableau.a):
        assert sum(weights) == pytest.approx(share, abs=1e-14)
    assert sum(tableau.error) == pytest.approx(0, abs=1e-15)
    ends = [sum(powers) for powers in tableau.dense]  # the interpolant at the end of a step is the solution
    assert ends == pytest.approx([*tableau.a[-1], 0.0], abs=1e-13)


@PAIRS
def test_solution_has_order_five_and_estimate_order_five_locally(tableau):
    wrong, estimate = [], []
    for count in (8, 16, 32):
        z, h = torch.ones(1, dtype=torch.float64), torch.tensor([1 / count], dtype=torch.float64)
        for _ in range(count):
            step = ode.rk_step(decay, torch.zeros(1), z, h, -z, tableau)
            z = step.end
        wrong.append(abs(float(z) - math.exp(-1)))
        estimate.append(
            float(
                ode.rk_step(decay, torch.zeros(1), torch.ones_like(z), h, -torch.ones_like(z), tableau).difference.abs()
            )
        )
    orders = np.log2(np.array(wrong[:-1]) / np.array(wrong[1:]))
    assert np.all((orders > 4.9) & (orders < 5.5))
    ratios = np.array(estimate[:-1]) / np.array(estimate[1:])
    assert np.all((ratios > 29) & (ratios < 37))  # 2^5 = 32


@PAIRS
def test_a_constant_field_has_no_error_and_no_gradient(tableau):
    slope = torch.full((2, 3), 0.7, dtype=torch.float64, requires_grad=True)
    step = ode.rk_step(
        lambda t, z: slope.expand_as(z),
        torch.zeros(2),
        torch.ones(2, 3, dtype=torch.float64),
        torch.full((2,), 0.3),
        slope,
        tableau,
    )
    error = ode.error_ratio(step, ode.Control())
    assert float(error.detach().max()) < 1e-9
    error.sum().backward()
    assert bool(slope.grad.isfinite().all())


@PAIRS
@pytest.mark.parametrize("h", [0.01, 0.3])
def test_stiffness_of_a_linear_equation_is_the_size_of_its_rate(tableau, h):
    rate = torch.tensor([[-0.5], [-7.0]], dtype=torch.float64)
    z = torch.ones(2, 4, dtype=torch.float64)
    step = ode.rk_step(lambda t, z: rate * z, torch.zeros(2), z, torch.full((2,), h), rate * z, tableau)
    assert ode.stiffness(step).tolist() == pytest.approx([0.5, 7.0], rel=1e-6)


@PAIRS
def test_interpolation_has_order_four(tableau):
    wrong = []
    for h in (0.4, 0.2, 0.1):
        size = torch.tensor([h], dtype=torch.float64)
        z = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        spin = lambda t, z: torch.stack([-z[:, 1], z[:, 0]], 1)  # noqa: E731
        step = ode.rk_step(spin, torch.zeros(1), z, size, spin(None, z), tableau)
        inside = ode.interpolated(step, size, torch.tensor([0.37], dtype=torch.float64), tableau)
        wrong.append(
            float((inside - torch.tensor([[math.cos(0.37 * h), math.sin(0.37 * h)]], dtype=torch.float64)).abs().max())
        )
    assert np.all(np.log2(np.array(wrong[:-1]) / np.array(wrong[1:])) > 4.5)  # local error: order plus one


# --- whole solutions


@pytest.mark.parametrize("mu", [0.5, 3.0])
def test_takes_the_very_steps_of_scipys_rk45(mu):
    field = van_der_pol(torch.tensor([mu], dtype=torch.float64))
    found = ode.solve(field, start(1), torch.tensor([0.0, 10.0]), ode.Control(1e-6, 1e-6, **PLAIN), ode.DOPRI5)
    scipy = solve_ivp(lambda t, y: [y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]], (0, 10), [2, 0], rtol=1e-6, atol=1e-6)
    assert int(found.evaluations) == scipy.nfev
    assert found.t[found.accepted].tolist() == pytest.approx(scipy.t[:-1].tolist(), abs=1e-8)
    assert found.last[0].tolist() == pytest.approx(scipy.y[:, -1].tolist(), abs=1e-9)


@PAIRS
@pytest.mark.parametrize("interpolate", [False, True])
def test_output_times_are_met_as_accurately_as_the_tolerance_asks(tableau, interpolate):
    times = torch.linspace(0, 10, 31, dtype=torch.float64)
    found = ode.solve(
        van_der_pol(STIFFNESS), start(3), times, ode.Control(1e-8, 1e-8), tableau, interpolate=interpolate
    )
    for run, mu in enumerate(STIFFNESS.tolist()):
        truth = solve_ivp(
            lambda t, y, mu=mu: [y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]],
            (0, 10),
            [2, 0],
            "DOP853",
            times.numpy(),
            rtol=1e-12,
            atol=1e-12,
        )
        assert np.abs(found.states[run].T.numpy() - truth.y).max() < 3e-6


def test_interpolating_costs_no_evaluations_but_stopping_does():
    control, field = ode.Control(1e-6, 1e-6), van_der_pol(STIFFNESS[:1])
    plain = ode.solve(field, start(1), torch.tensor([0.0, 5.0]), control).evaluations
    many = torch.linspace(0, 5, 101)
    assert torch.equal(ode.solve(field, start(1), many, control, interpolate=True).evaluations, plain)
    assert int(ode.solve(field, start(1), many, control).evaluations) > int(plain)


def test_every_run_in_a_stack_equals_the_run_alone():
    # elementwise fields, so that both ways do the very same arithmetic
    times = torch.tensor([[0.0, 1.0, 4.0], [0.0, 2.0, 9.0], [0.0, 0.5, 6.0]], dtype=torch.float64)
    control = ode.Control(1e-7, 1e-7)
    together = ode.solve(van_der_pol(STIFFNESS), start(3), times, control)
    assert len(set(together.evaluations.tolist())) == 3  # they do differ in difficulty
    for run in range(3):
        alone = ode.solve(van_der_pol(STIFFNESS[run : run + 1]), start(1), times[run], control)
        assert torch.equal(alone.states[0], together.states[run])
        assert int(alone.evaluations) == int(together.evaluations[run])
        taken = together.h[run][together.h[run] > 0]
        assert torch.equal(alone.h[0], taken)


def test_evaluations_are_two_and_six_per_attempt_and_equal_the_calls():
    calls = []

    def counted(t, z):
        calls.append(1)
        return van_der_pol(STIFFNESS[2:])(t, z)

    found = ode.solve(counted, start(1), torch.tensor([0.0, 10.0]), ode.Control(1e-5, 1e-5, **PLAIN))
    assert int((~found.accepted).sum()) > 0  # some attempts were rejected, and they count
    assert int(found.evaluations) == 2 + 6 * found.accepted.shape[1] == len(calls)


def test_a_step_cut_at_an_output_time_does_not_shrink_the_next():
    field = lambda t, z: torch.cos(t)[:, None].expand_as(z)  # noqa: E731
    z = torch.zeros(1, 1, dtype=torch.float64)
    free = ode.solve(field, z, torch.tensor([0.0, 4.0]), ode.Control(1e-6, 1e-6))
    at = float(free.t[0, 5]) + 1e-4  # a sliver after the start of a step
    cut = ode.solve(field, z, torch.tensor([0.0, at, 4.0], dtype=torch.float64), ode.Control(1e-6, 1e-6))
    place = int((cut.t[0] == at).nonzero()[0])  # the attempt after the sliver
    assert float(cut.h[0, place - 1]) < 2e-4
    assert float(cut.h[0, place]) >= 0.99 * float(free.h[0, 5])


def test_times_that_do_not_increase_are_refused():
    with pytest.raises(ValueError, match="must increase"):
        ode.solve(decay, torch.ones(2, 1), torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="fit|shape"):
        ode.solve(decay, torch.ones(2, 1), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="tolerances"):
        ode.Control(-1.0, 1e-3)


def test_a_field_that_explodes_ends_in_a_sentence():
    with pytest.raises(RuntimeError, match="attempts"):
        ode.solve(lambda t, z: z**2, torch.full((1, 1), 2.0), SPAN, ode.Control(1e-6, 1e-6, most_attempts=60))


# --- gradients


def _net(dtype=torch.float64):
    """Two runs with weights (runs, 3, 3), and their field."""
    torch.manual_seed(0)
    weight = (0.8 * torch.randn(2, 3, 3, dtype=dtype)).requires_grad_()
    z0 = torch.randn(2, 4, 3, dtype=dtype)
    return weight, z0, lambda t, z: torch.bmm(z, weight).tanh() + 0.1 * t.view(-1, 1, 1)


def _fd(function, weight, entry, eps=1e-6):
    with torch.no_grad():
        keep = weight[entry].item()
        values = []
        for sign in (1, -1):
            weight[entry] = keep + sign * eps
            values.append(float(function()))
        weight[entry] = keep
    return (values[0] - values[1]) / (2 * eps)


def test_gradient_through_the_steps_matches_finite_differences():
    weight, z0, field = _net()
    # a coarse fixed ladder of output times and a loose tolerance: step sizes do not move under the perturbation
    times = torch.linspace(0, 1, 6)
    value = lambda: ode.solve(field, z0, times, ode.Control(1e-1, 1e-1)).last.sin().sum()  # noqa: E731
    value().backward()
    for entry in ((0, 0, 1), (1, 2, 2)):
        assert float(weight.grad[entry]) == pytest.approx(_fd(value, weight, entry), rel=1e-5)


def test_continuous_adjoint_gives_the_gradient_of_the_steps_at_tight_tolerance():
    weight, z0, field = _net()
    times, control = torch.tensor([0.0, 0.4, 1.0]), ode.Control(1e-10, 1e-10)
    states = ode.solve(field, z0, times, control).states
    (states[:, 1].sin().sum() + states[:, 2].square().sum()).backward()
    through, weight.grad = weight.grad.clone(), None
    states, solution = ode.solve_adjoint(field, z0, times, [weight], control)
    (states[:, 1].sin().sum() + states[:, 2].square().sum()).backward()
    assert torch.allclose(weight.grad, through, rtol=1e-6, atol=1e-8)
    assert int(solution.evaluations.min()) > 2


def test_errors_of_accepted_steps_can_be_differentiated():
    weight, z0, field = _net()
    control, times = ode.Control(1e3, 1e3), torch.linspace(0, 1, 4)
    value = lambda: ode.solve(field, z0, times, control).errors.sum()  # noqa: E731
    assert ode.solve(field, z0, times, control).h.shape[1] == 3  # all steps are cut at output times: constants
    value().backward()
    assert float(weight.grad[0, 1, 1]) == pytest.approx(_fd(value, weight, (0, 1, 1)), rel=1e-4)


def test_an_attempt_that_overflows_leaves_the_gradient_finite():
    rate = torch.tensor([[3.0]], requires_grad=True)
    control = ode.Control(1e-3, 1e-3)

    def steep(t, z):  # infinite beyond the reach of the true solution
        return torch.where(z.abs() > 60, torch.full_like(z, float("inf")), rate * z)

    found = ode.solve(steep, torch.ones(1, 1), SPAN, control)
    found.last.sum().backward()
    assert float(rate.grad) == pytest.approx(math.exp(3), rel=2e-2)


# --- stochastic equations


def _ornstein_uhlenbeck(theta=2.0, sigma=0.7):
    return (lambda t, z: -theta * z), (lambda t, z: torch.full_like(z, sigma))


def test_ornstein_uhlenbeck_has_the_right_mean_and_variance():
    drift, diffusion = _ornstein_uhlenbeck()
    z = torch.full((4, 5000), 1.5)
    paths = ode.brownian(RunRNG([0, 1, 2, 3], "wiener"), 64, (5000,))
    last = ode.solve_sde(drift, diffusion, z, paths, ode.Control(1e-2, 1e-2)).last
    variance = 0.7**2 / 4 * (1 - math.exp(-4))
    assert float(last.mean()) == pytest.approx(1.5 * math.exp(-2), abs=4 * math.sqrt(variance / 20000) + 2e-3)
    assert float(last.var()) == pytest.approx(variance, rel=0.05)


def test_geometric_brownian_motion_converges_strongly_with_order_one_and_euler_with_half():
    mu, sigma, cells = 0.5, 1.0, 512
    paths = ode.brownian(RunRNG([5], "wiener"), cells, (4000,)).double()
    truth = torch.exp((mu - sigma**2 / 2) + sigma * paths[:, -1])
    ours, euler = [], []
    for count in (16, 32, 64, 128):
        both = {}
        for name in ("ours", "euler"):
            z, jump, h = (
                torch.ones(1, 4000, dtype=torch.float64),
                cells // count,
                torch.tensor([1 / count], dtype=torch.float64),
            )
            for i in range(count):
                noise = paths[:, (i + 1) * jump] - paths[:, i * jump]
                step = ode.sde_step(
                    lambda t, z: mu * z, lambda t, z: sigma * z, torch.zeros(1), z, h, noise, (mu * z, sigma * z)
                )
                z = step.end if name == "ours" else step.end - step.difference
            both[name] = float((z - truth).abs().mean())
        ours.append(both["ours"])
        euler.append(both["euler"])
    slope = lambda e: np.polyfit(np.log2([16, 32, 64, 128]), np.log2(e), 1)[0]  # noqa: E731
    assert -1.2 < slope(ours) < -0.85
    assert -0.65 < slope(euler) < -0.35


def test_stochastic_solve_counts_its_calls_and_each_run_equals_the_run_alone():
    calls, rates = [], torch.tensor([[0.2], [6.0]])

    def run(rate, paths):
        def drift(t, z):
            calls.append(1)
            return -rate * z

        def diffusion(t, z):
            calls.append(1)
            return 0.3 * z

        return ode.solve_sde(
            drift,
            diffusion,
            torch.ones(len(rate), 3),
            paths,
            ode.Control(1e-2, 1e-2),
            stop=torch.full((len(rate),), 37),
        )

    both = run(rates, ode.brownian(RunRNG([8, 9], "wiener"), 256, (3,)))
    for i in range(2):
        calls.clear()
        alone = run(rates[i : i + 1], ode.brownian(RunRNG([8 + i], "wiener"), 256, (3,)))
        assert int(alone.evaluations) == len(calls) == int(both.evaluations[i])
        assert torch.equal(alone.states[0], both.states[i])
    assert int(both.evaluations[1]) > int(both.evaluations[0])


def test_without_noise_a_stochastic_solve_is_an_ordinary_one():
    zero = lambda t, z: torch.zeros_like(z)  # noqa: E731
    last = ode.solve_sde(decay, zero, torch.ones(1, 2), torch.zeros(1, 513, 2), ode.Control(1e-4, 1e-4)).last
    assert last.flatten().tolist() == pytest.approx([math.exp(-1)] * 2, abs=2e-4)


def test_paths_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        ode.solve_sde(decay, decay, torch.ones(1, 2), torch.zeros(1, 9, 3), ode.Control())
