"""Adaptive Runge–Kutta solvers for a stack of runs, each with a step size of its own.

The run axis is first everywhere. Every run has its own time, step size, error control and count of function
evaluations, accepts or rejects its own attempts and finishes by itself; the runs only share the calls to the
vector field, so run i solved alone gives what run i gives in a stack. A finished run waits with steps of size
zero, which change nothing and are not counted.

- `TSIT5`, `DOPRI5`: embedded pairs of order 5(4) whose seventh stage is the next step's first;
- `rk_step`, `error_ratio`, `stiffness`, `initial_step`: what one step consists of;
- `solve`: gradients by back-propagation through the accepted steps, their sizes being constants;
- `solve_adjoint`: gradients by the continuous adjoint equation, which never looks inside the solver;
- `brownian`, `sde_step`, `solve_sde`: the same for stochastic equations with diagonal noise.

A field is a function of time (runs,) and state (runs, ...) and returns the state's rate of change. Times and
step sizes are kept in double precision whatever the state's type. Sources: Hairer, Norsett & Wanner, "Solving
Ordinary Differential Equations I" (II.4); Tsitouras (2011); Dormand & Prince (1980); Kidger et al. (2021,
adjoint without the parameters in the norm); Kloeden & Platen (1992, section 11.1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprise.blocks.seeds import RunRNG

Field = Callable[[Tensor, Tensor], Tensor]


# --- pairs of formulas ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Tableau:
    """An embedded pair with seven stages whose last row of `a` is the solution, so that k7 is the next k1."""

    c: tuple[float, ...]  # time of each stage, as a share of the step
    a: tuple[tuple[float, ...], ...]  # row i: weights of the stages before stage i
    error: tuple[float, ...]  # order-5 weights minus order-4 weights
    dense: tuple[tuple[float, ...], ...]  # per stage: coefficients of θ, θ², θ³, θ⁴ inside a step
    stability: float  # how far the stability region reaches along the negative axis
    order: int = 5


def _powers(factor: float, *roots: float, middle: tuple[float, float] | None = None) -> tuple[float, ...]:
    """Coefficients of θ..θ⁴ of factor·θ²(θ² + pθ + q), or of factor·θ(θ - root)(θ² + pθ + q)."""
    p, q = middle if middle else (-(roots[0] + roots[1]), roots[0] * roots[1])
    if middle and roots:
        r = roots[0]
        return (-r * q * factor, (q - r * p) * factor, (p - r) * factor, factor)
    return (0.0, q * factor, p * factor, factor)


TSIT5 = Tableau(
    c=(0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
    a=(
        (),
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
        (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
    ),
    error=(
        -0.00178001105222577714, -0.0008164344596567469, 0.007880878010261995, -0.1447110071732629,
        0.5823571654525552, -0.45808210592918697, 1 / 66,
    ),
    dense=(
        _powers(-1.0530884977290216, 1.3299890189751412, middle=(-1.4364028541716351, 0.7139816917074209)),
        _powers(0.1017, middle=(-2.1966568338249754, 1.2949852507374631)),
        _powers(2.490627285651252793, middle=(-2.38535645472061657, 1.57803468208092486)),
        _powers(-16.54810288924490272, 1.21712927295533244, 0.61620406037800089),
        _powers(47.37952196281928122, 1.203071208372362603, 0.658047292653547382),
        _powers(-34.87065786149660974, 1.2, 2 / 3),
        _powers(2.5, 1.0, 0.6),
    ),
    stability=3.5068,
)  # fmt: skip

DOPRI5 = Tableau(
    c=(0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    dense=(
        (1.0, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799),
        (0.0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072),
        (0.0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632),
        (0.0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
        (0.0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423),
    ),
    stability=3.3066,
)  # fmt: skip


@dataclass(frozen=True)
class Control:
    """When a step is accepted, and how large the next one is.

    The next step is h · safety · E^(-error_power) · (previous E)^memory_power, within the limits on growth and
    shrinkage; memory_power = 0 with error_power = 1/5 is the plain controller of scipy's RK45.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    safety: float = 0.9
    shrink: float = 0.2
    grow: float = 10.0
    error_power: float = 0.14
    memory_power: float = 0.08
    most_attempts: int = 2000

    def __post_init__(self):
        if self.rtol < 0 or self.atol < 0 or self.rtol + self.atol == 0:
            raise ValueError(f"tolerances are not negative and not both zero; got {self.rtol} and {self.atol}")


# --- one step -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One attempted step of every run: where it started and ended, its stages and the embedded difference."""

    start: Float[Tensor, " runs *shape"]
    end: Float[Tensor, " runs *shape"]
    before: Float[Tensor, " runs *shape"]  # the state at which the last stage but one was evaluated
    stages: tuple[Float[Tensor, " runs *shape"], ...]
    difference: Float[Tensor, " runs *shape"]  # order-5 minus order-4 solution


def rk_step(
    field: Field,
    t: Float[Tensor, " runs"],
    state: Float[Tensor, " runs *shape"],
    h: Float[Tensor, " runs"],
    first: Float[Tensor, " runs *shape"],
    tableau: Tableau = TSIT5,
) -> Step:
    """One Runge–Kutta step of size h from (t, state): six new evaluations of the field.

    Args:
        first: k1, the field at (t, state).
    """
    size = _wide(h.to(state.dtype), state)
    stages, at, before = [first], state, state
    for share, weights in zip(tableau.c[1:], tableau.a[1:]):
        before, at = at, torch.addcmul(state, size, _combine(weights, stages))
        stages.append(field((t + share * h).to(state.dtype), at))
    return Step(state, at, before, tuple(stages), size * _combine(tableau.error, stages))


def error_ratio(step: "Step | SDEStep", control: Control) -> Float[Tensor, " runs"]:
    """E: the embedded difference over what the tolerances allow, root mean square per run; 1 is just allowed."""
    allowed = control.atol + control.rtol * torch.maximum(step.start.abs(), step.end.abs())
    return rms(step.difference / allowed)


def stiffness(step: Step) -> Float[Tensor, " runs"]:
    """Change of the field over change of the state between the last two stages: about |λ|, per unit of time."""
    moved = rms(step.end - step.before)
    return rms(step.stages[-1] - step.stages[-2]) / (moved + torch.finfo(moved.dtype).tiny)


def initial_step(
    field: Field,
    t: Float[Tensor, " runs"],
    state: Float[Tensor, " runs *shape"],
    first: Float[Tensor, " runs *shape"],
    longest: Float[Tensor, " runs"],
    control: Control,
    order: int = 5,
) -> Float[Tensor, " runs"]:
    """Hairer's rule for the first step, at most `longest`; one evaluation, no gradient."""
    with torch.no_grad():
        allowed = control.atol + control.rtol * state.abs()
        size, slope = rms(state / allowed).double(), rms(first / allowed).double()
        guess = torch.where((size < 1e-5) | (slope < 1e-5), 1e-6, 0.01 * size / slope.clamp_min(1e-300))
        guess = torch.minimum(guess, longest)
        ahead = torch.addcmul(state, _wide(guess.to(state.dtype), state), first)
        change = field((t + guess).to(state.dtype), ahead) - first
        bend = rms(change / allowed).double() / guess.clamp_min(1e-300)
        worst = torch.maximum(slope, bend)
        smooth = (1e-3 * guess).clamp_min(1e-6)
        second = torch.where(worst <= 1e-15, smooth, (0.01 / worst.clamp_min(1e-300)) ** (1 / order))
        return torch.minimum(torch.minimum(100 * guess, second), longest)


def rms(x: Float[Tensor, " runs *shape"]) -> Float[Tensor, " runs"]:
    """Root mean square of each run's entries, with gradient zero (not infinite) at zero."""
    mean = x.reshape(len(x), -1).square().mean(1)
    return mean.clamp_min(torch.finfo(x.dtype).tiny).sqrt() * (mean > 0)


def _combine(weights: Sequence[float], stages: Sequence[Tensor]) -> Tensor:
    total = None
    for weight, stage in zip(weights, stages):
        if weight:
            total = weight * stage if total is None else torch.add(total, stage, alpha=weight)
    return total


def _wide(x: Tensor, like: Tensor) -> Tensor:
    """One number per run, shaped to multiply states."""
    return x.view(-1, *[1] * (like.ndim - 1))


# --- a whole solution -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Solution:
    """States at the output times, and every attempted step of every run.

    Columns of `t`, `h`, `errors`, `stiffness` and `accepted` are attempts in order; where a run had finished,
    h is zero and `accepted` false. `errors` carries gradients if the solve did; times and sizes never do.
    """

    states: Float[Tensor, "runs points *shape"]
    evaluations: Int[Tensor, " runs"]
    t: Float[Tensor, "runs attempts"]
    h: Float[Tensor, "runs attempts"]
    errors: Float[Tensor, "runs attempts"]
    stiffness: Float[Tensor, "runs attempts"]
    accepted: Bool[Tensor, "runs attempts"]
    path: tuple[Float[Tensor, " runs *shape"], ...]  # the state before each attempt, if asked for

    @property
    def last(self) -> Float[Tensor, " runs *shape"]:
        """The state at the last output time."""
        return self.states[:, -1]

    def steps(self) -> Int[Tensor, " runs"]:
        """Accepted steps of each run."""
        return self.accepted.sum(1)


def solve(
    field: Field,
    state: Float[Tensor, " runs *shape"],
    times: Float[Tensor, "*runs points"],
    control: Control = Control(),
    tableau: Tableau = TSIT5,
    *,
    interpolate: bool = False,
    keep_path: bool = False,
    watch_stiffness: bool = False,
) -> Solution:
    """Solve dz/dt = field(t, z) for every run from its first to its last time.

    Gradients flow through the accepted steps (discretise, then optimise); step sizes are constants.

    Args:
        state: z at the first time.
        times: output times, increasing; shared (points,) or one row per run (runs, points).
        interpolate: read states between steps off the pair's own polynomial (order 4); otherwise every run stops
            at each of its output times, which costs evaluations and is as accurate as the steps.
        keep_path: keep the state before each attempt in `path`.
        watch_stiffness: fill `stiffness`; otherwise it is NaN.
    Raises:
        ValueError: times are not increasing or fit neither all runs nor each.
        RuntimeError: a run needs more than `control.most_attempts` attempts.
    """
    times = _checked_times(times, state)
    clock = _Clock(times, control, interpolate)
    first = field(clock.t.to(state.dtype), state)
    clock.h = initial_step(field, clock.t, state, first, times[:, -1] - times[:, 0], control, tableau.order)
    outputs, errors, stiff, path = [state] + [torch.zeros_like(state)] * (times.shape[1] - 1), [], [], []
    while bool(clock.active.any()):
        h = clock.next_size()
        step = rk_step(field, clock.t, state, h, first, tableau)
        error = error_ratio(step, control)
        if torch.is_grad_enabled() and not bool(error.isfinite().all()):
            # an attempt that overflowed will be rejected; its graph must not send NaN into the gradient
            kept = torch.where(error.isfinite(), h, torch.zeros_like(h))
            overflowed, step = error.detach(), rk_step(field, clock.t, state, kept, first, tableau)
            error = torch.where(overflowed.isfinite(), error_ratio(step, control), overflowed)
        errors.append(error)
        if keep_path:
            path.append(state)
        if watch_stiffness:
            stiff.append(stiffness(step).detach())
        begin = clock.t
        accept = clock.decide(error.detach().double(), h)
        for point in clock.passed(begin):
            inside = accept & (begin < times[:, point]) & (times[:, point] <= clock.t)
            value = step.end
            if interpolate:
                share = (times[:, point] - begin) / h.clamp_min(1e-300)
                value = interpolated(step, h, share, tableau)
            outputs[point] = torch.where(_wide(inside, state), value, outputs[point])
        if bool((accept | ~clock.active).all()):  # a waiting run's step of size zero changes nothing
            state, first = step.end, step.stages[-1]
        else:
            state = torch.where(_wide(accept, state), step.end, state)
            first = torch.where(_wide(accept, state), step.stages[-1], first)
    return clock.solution(torch.stack(outputs, 1), errors, stiff, path, per_attempt=6, at_start=2)


def interpolated(
    step: Step, h: Float[Tensor, " runs"], share: Float[Tensor, " runs"], tableau: Tableau = TSIT5
) -> Float[Tensor, " runs *shape"]:
    """The state inside a step at time t + share · h, order 4; no evaluation."""
    like, total = step.start, 0.0
    for powers, stage in zip(tableau.dense, step.stages):
        weight = share * (powers[0] + share * (powers[1] + share * (powers[2] + share * powers[3])))
        total = total + _wide(weight.to(like.dtype), like) * stage
    return torch.addcmul(like, _wide(h.to(like.dtype), like), total)


def _checked_times(times: Tensor, state: Tensor) -> Tensor:
    times = times.detach().double().to(state.device)
    times = times.expand(len(state), -1) if times.ndim == 1 else times
    if times.ndim != 2 or len(times) != len(state) or times.shape[1] < 2:
        raise ValueError(
            f"times have shape {tuple(times.shape)} for {len(state)} runs; give two or more, as (points,) or per run"
        )
    if not bool((times.diff(dim=1) > 0).all()):
        raise ValueError("times must increase; to solve backwards, negate times and field")
    return times


class _Clock:
    """Times, step sizes, decisions and counts of all runs: everything of a solve that is not the state."""

    def __init__(self, times: Tensor, control: Control, interpolate: bool):
        self.times, self.control, self.interpolate = times, control, interpolate
        self.t = times[:, 0].clone()
        self.target = torch.ones_like(self.t, dtype=torch.long)  # index of the next output time
        self.active = torch.ones_like(self.t, dtype=torch.bool)
        self.previous = torch.full_like(self.t, 1e-4)  # Hairer's start of the controller's memory
        self.rejected_before = torch.zeros_like(self.active)
        self.h = torch.zeros_like(self.t)
        self.log: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def next_size(self) -> Tensor:
        """What each run attempts now: its proposed step, cut at its next stop; zero where it has finished."""
        goal = self.times[:, -1] if self.interpolate else self._stop()
        left = goal - self.t
        # a remainder of rounding size would cost a step of its own
        cut = torch.where(self.h * (1 + 1e-9) >= left, left, self.h)
        return torch.where(self.active, cut, torch.zeros_like(cut))

    def decide(self, error: Tensor, h: Tensor) -> Tensor:
        """Accept or reject every active run's attempt, move its time, propose its next step."""
        control = self.control
        if len(self.log) >= control.most_attempts:
            raise RuntimeError(
                f"a run needs more than {control.most_attempts} attempts (step size "
                f"{float(h[self.active].min()):.1e}); loosen the tolerances, or look for a field that has become "
                "stiff or infinite"
            )
        accept = self.active & (error <= 1)
        bounded = torch.where(error.isfinite(), error, 1e30).clamp_min(1e-10)
        grown = control.safety * bounded**-control.error_power * self.previous**control.memory_power
        most = torch.where(self.rejected_before, 1.0, control.grow)
        grown = torch.minimum(grown.clamp_min(control.shrink), most)
        shrunk = (control.safety * bounded**-0.2).clamp(control.shrink, 1.0)
        proposal = h * torch.where(accept, grown, shrunk)
        # a step that was cut at a stop says nothing against the size proposed before the cut
        proposal = torch.where(accept & (h < self.h), torch.maximum(proposal, self.h), proposal)
        self.log.append((self.t, h, accept, self.active))
        goal = self.times[:, -1] if self.interpolate else self._stop()
        arrived = accept & (h >= goal - self.t)
        self.t = torch.where(arrived, goal, torch.where(accept, self.t + h, self.t))
        self.h = torch.where(self.active, proposal, self.h)
        self.previous = torch.where(accept, bounded.clamp_min(1e-4), self.previous)
        self.rejected_before = self.active & ~accept
        if not self.interpolate:
            self.target = self.target + arrived
        self.active = self.t < self.times[:, -1]
        return accept

    def passed(self, begin: Tensor) -> list[int]:
        """Output times that some run has just reached."""
        now = (self.times > begin[:, None]) & (self.times <= self.t[:, None])
        return now.any(0).nonzero().flatten().tolist()

    def solution(self, states, errors, stiff, path, per_attempt: int, at_start: int) -> Solution:
        t, h, accepted, active = (torch.stack(column, 1) for column in zip(*self.log))
        stacked = torch.stack(errors, 1)
        return Solution(
            states=states,
            evaluations=at_start + per_attempt * active.sum(1),
            t=t,
            h=h,
            errors=stacked,
            stiffness=torch.stack(stiff, 1) if stiff else torch.full_like(stacked.detach(), torch.nan),
            accepted=accepted,
            path=tuple(path),
        )

    def _stop(self) -> Tensor:
        return self.times.gather(1, self.target.clamp_max(self.times.shape[1] - 1)[:, None])[:, 0]


# --- the continuous adjoint -----------------------------------------------------------------------


def solve_adjoint(
    field: Field,
    state: Float[Tensor, " runs *shape"],
    times: Float[Tensor, "*runs points"],
    parameters: Sequence[Float[Tensor, "runs ..."]],
    control: Control = Control(),
    tableau: Tableau = TSIT5,
) -> tuple[Float[Tensor, "runs points *shape"], Solution]:
    """`solve`, with gradients from the adjoint equation solved backwards in time (optimise, then discretise).

    The backward solve has its own adaptive steps. Its error norm covers state and adjoint; the parameters' integral
    is accumulated beside it.

    Args:
        parameters: leaves that the field uses, run axis first; they receive the gradients.
    Returns:
        States at the output times, with gradients; and the forward solution, without.
    """
    box: list[Solution] = []
    states = _Adjoint.apply(field, times, control, tableau, box, state, *parameters)
    return states, box[0]


class _Adjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, field, times, control, tableau, box, state, *parameters):
        with torch.no_grad():
            solution = solve(field, state, times, control, tableau)
        box.append(solution)
        ctx.field, ctx.control, ctx.tableau = field, control, tableau
        ctx.times = _checked_times(times, state)
        ctx.save_for_backward(solution.states, *parameters)
        return solution.states

    @staticmethod
    def backward(ctx, gradient):
        states, *parameters = ctx.saved_tensors
        runs, points, shape = len(states), states.shape[1], states.shape[2:]
        width = states[:, 0].numel() // runs

        seen: list[Tensor] = []  # a·∂f/∂θ at every evaluation, (runs, parameters)

        def backwards(s: Tensor, joint: Tensor) -> Tensor:
            with torch.enable_grad():
                z = joint[:, :width].view(runs, *shape).detach().requires_grad_()
                rate = ctx.field(-s, z)
                adjoint = joint[:, width:].view(runs, *shape)
                parts = torch.autograd.grad(rate, (z, *parameters), adjoint, allow_unused=True)
            parts = [torch.zeros_like(p) if g is None else g for g, p in zip(parts, (z, *parameters))]
            seen.append(torch.cat([part.reshape(runs, -1) for part in parts[1:]], 1))
            return torch.cat([-rate.detach().reshape(runs, -1), parts[0].reshape(runs, -1)], 1)

        adjoint = torch.zeros(runs, width, dtype=states.dtype, device=states.device)
        integral = adjoint.new_zeros(runs, sum(p.numel() // runs for p in parameters))
        for point in range(points - 1, 0, -1):
            adjoint = adjoint + gradient[:, point].reshape(runs, -1)
            if not bool(adjoint.any()):
                continue
            joint = torch.cat([states[:, point].reshape(runs, -1), adjoint], 1)
            seen.clear()
            with torch.no_grad():
                back = solve(backwards, joint, -ctx.times[:, [point, point - 1]], ctx.control, ctx.tableau)
                integral = integral + _integral(back, seen, ctx.tableau)
            adjoint = back.last[:, width:]
        adjoint = adjoint + gradient[:, 0].reshape(runs, -1)
        pieces = integral.split([p.numel() // runs for p in parameters], 1)
        return (None,) * 5 + (
            adjoint.view(runs, *shape),
            *(piece.reshape(p.shape) for piece, p in zip(pieces, parameters)),
        )


def _integral(solution: Solution, values: list[Tensor], tableau: Tableau) -> Tensor:
    """Integral of what was seen at the evaluations of a solve, by the solution's own formula over accepted steps."""
    first, total = values[0], torch.zeros_like(values[0])
    for attempt, (h, accepted) in enumerate(zip(solution.h.T, solution.accepted.T)):
        own = [first, *values[2 + 6 * attempt : 8 + 6 * attempt]]  # the second evaluation only sized the first step
        total = total + _combine(tableau.a[-1], own) * (h * accepted).to(total.dtype)[:, None]
        first = torch.where(accepted[:, None], own[-1], first)
    return total


# --- stochastic equations -------------------------------------------------------------------------


def brownian(rng: RunRNG, cells: int, shape: Sequence[int], span: float = 1.0) -> Float[Tensor, "runs cells1 *shape"]:
    """Brownian paths W at cells + 1 evenly spaced times from 0 to `span`, W(0) = 0.

    The path is drawn before the solver takes any step, so a rejected step cannot bias it.
    """
    steps = rng.normal(cells, *shape) * (span / cells) ** 0.5
    return torch.cat([torch.zeros_like(steps[:, :1]), steps.cumsum(1)], 1)


@dataclass(frozen=True)
class SDEStep:
    """One attempted step of every run of a stochastic equation."""

    start: Float[Tensor, " runs *shape"]
    end: Float[Tensor, " runs *shape"]
    difference: Float[Tensor, " runs *shape"]  # strong-order-1 minus Euler–Maruyama solution


def sde_step(
    drift: Field,
    diffusion: Field,
    t: Float[Tensor, " runs"],
    state: Float[Tensor, " runs *shape"],
    h: Float[Tensor, " runs"],
    noise: Float[Tensor, " runs *shape"],
    first: tuple[Tensor, Tensor],
) -> SDEStep:
    """One Itô step: Heun's rule for the drift, Platen's derivative-free Milstein term for diagonal noise.

    The embedded Euler–Maruyama step on the same increments gives the error estimate. Two new evaluations, one of
    the drift and one of the diffusion. Strong order 1 where each noise acts on its own coordinate alone.

    Args:
        noise: increment of W over the step, variance h.
        first: drift and diffusion at (t, state).
    """
    f, g = first
    size = _wide(h.to(state.dtype), state)
    root = size.sqrt()
    euler = state + size * f + g * noise
    ahead = drift((t + h).to(state.dtype), euler)
    support = diffusion(t.to(state.dtype), state + size * f + root * g)
    milstein = (support - g) * (noise.square() - size) / (2 * root.clamp_min(torch.finfo(state.dtype).tiny))
    difference = 0.5 * size * (ahead - f) + milstein
    return SDEStep(state, euler + difference, difference)


def solve_sde(
    drift: Field,
    diffusion: Field,
    state: Float[Tensor, " runs *shape"],
    paths: Float[Tensor, "runs cells1 ..."],
    control: Control,
    span: float = 1.0,
    *,
    stop: Int[Tensor, " runs"] | None = None,
    keep_path: bool = False,
) -> Solution:
    """Solve dz = drift dt + diffusion dW (Itô, diagonal noise) from 0 to `span`, adaptively, on given paths.

    Steps are whole numbers of the path's cells; a step of one cell is always accepted, so `paths` must be finer
    than the steps that the tolerance asks for. An accepted step costs two evaluations of each function, a rejected
    one one of each, because drift and diffusion at its start are known.

    Args:
        paths: W on an even grid from 0 to `span`, see `brownian`.
        stop: a grid index (1 to cells - 1) per run at which the run stops on its way.
        keep_path: keep the state before each attempt in `path`.
    Returns:
        States (runs, points): the first, the one at `stop` if given, the last. `errors` and `h` as for `solve`.
    """
    runs, cells = len(state), paths.shape[1] - 1
    if paths.shape[2:] != state.shape[1:] or len(paths) != runs:
        raise ValueError(f"paths of shape {tuple(paths.shape)} do not fit states {tuple(state.shape)}")
    cell, rows = span / cells, torch.arange(runs, device=state.device)
    halt = torch.full((runs,), cells, device=state.device) if stop is None else stop.clone()
    place = torch.zeros(runs, dtype=torch.long, device=state.device)
    begin = state
    middle = torch.zeros_like(state)
    first = _both(drift, diffusion, place * cell, state)
    wish = sde_initial_step(state, first, control, span) / cell
    count = torch.full((runs,), 2, dtype=torch.long, device=state.device)
    log, errors, path = [], [], []
    active = place < cells
    while bool(active.any()):
        if len(log) >= control.most_attempts:
            raise RuntimeError(f"a run needs more than {control.most_attempts} attempts; loosen the tolerances")
        goal = torch.where(place < halt, halt, cells)
        jump = torch.minimum(wish.floor().long().clamp(min=1), goal - place) * active
        h = jump * cell
        noise = paths[rows, place + jump] - paths[rows, place]
        step = sde_step(drift, diffusion, place * cell, state, h, noise, first)
        error = error_ratio(step, control)
        accept = active & ((error.detach() <= 1) | (jump == 1))
        log.append((place * cell, h, accept))
        errors.append(error)
        if keep_path:
            path.append(state)
        # the estimate shrinks like h where noise dominates, so its square root is the cautious choice
        factor = (control.safety * error.detach().clamp_min(1e-6).double() ** -0.5).clamp(control.shrink, 4.0)
        proposal = jump * factor
        proposal = torch.where(accept & (jump < wish.floor()), torch.maximum(proposal, wish), proposal)
        wish = torch.where(active, proposal, wish)
        count = count + 2 * active
        place = torch.where(accept, place + jump, place)
        state = torch.where(_wide(accept, state), step.end, state)
        if stop is not None:
            middle = torch.where(_wide(accept & (place == halt), state), state, middle)
        active = place < cells
        if bool((accept & active).any()):
            fresh = _both(drift, diffusion, place * cell, state)
            first = tuple(torch.where(_wide(accept, state), new, old) for new, old in zip(fresh, first))
            count = count + 2 * (accept & active)
    t, sizes, accepted = (torch.stack(column, 1) for column in zip(*log))
    outputs = [begin, state] if stop is None else [begin, middle, state]
    stacked = torch.stack(errors, 1)
    nothing = torch.full_like(stacked.detach(), torch.nan)
    return Solution(torch.stack(outputs, 1), count, t, sizes, stacked, nothing, accepted, tuple(path))


def sde_initial_step(
    state: Float[Tensor, " runs *shape"], first: tuple[Tensor, Tensor], control: Control, longest: float
) -> Float[Tensor, " runs"]:
    """A first step over which neither drift nor three standard deviations of noise move the state by a tenth.

    No evaluation, no gradient; at most `longest`.
    """
    with torch.no_grad():
        allowed = control.atol + control.rtol * state.abs()
        size = rms(state / allowed).double().clamp_min(1.0)
        by_drift = 0.1 * size / rms(first[0] / allowed).double().clamp_min(1e-12)
        by_noise = (0.1 * size / (3 * rms(first[1] / allowed).double()).clamp_min(1e-12)) ** 2
        return torch.minimum(by_drift, by_noise).clamp(max=longest)


def _both(drift: Field, diffusion: Field, t: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    t = t.to(state.dtype)
    return drift(t, state), diffusion(t, state)
