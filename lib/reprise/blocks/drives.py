"""Electric drives, thousands at once: supply, converter, motor and load as one batched simulation.

The models are those of the toolbox of Traue, Book, Kirchgässner & Wallscheid, "Towards a Reinforcement Learning
Environment Toolbox for Intelligent Electric Motor Control" (arXiv 1910.09434): series, shunt, externally and
permanently excited direct-current motors and the permanent-magnet synchronous motor (PMSM). Every tensor has the batch
axes first, whatever their number; every drive may have parameters of its own.
Symbols: ω speed (rad/s), i currents (A), u voltages (V), ε electrical angle (rad), T torque (Nm), J inertia (kg m²),
τ the length of a simulation step (s), d ∈ [0, 1] the duty of a transistor. A *state* is divided by the limits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import gymnasium
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprise.blocks.drive_references import Reference, tracks
from reprise.blocks.seeds import RunRNG

Value = float | Tensor  # one for all drives, or one per drive
Parameters = Mapping[str, Value]


# --- motors ---------------------------------------------------------------------------------------


def series(omega: Tensor, i: Sequence[Tensor], u: Sequence[Tensor], p: Parameters) -> tuple[Tensor, ...]:
    """di/dt of the series motor: armature and excitation share one current."""
    return ((u[0] - (p["r_a"] + p["r_e"] + p["l_e_prime"] * omega) * i[0]) / (p["l_a"] + p["l_e"]),)


def externally_excited(omega: Tensor, i: Sequence[Tensor], u: Sequence[Tensor], p: Parameters) -> tuple[Tensor, ...]:
    """d(i_a, i_e)/dt of the externally excited motor: two circuits with voltages of their own."""
    armature = (u[0] - p["r_a"] * i[0] - p["l_e_prime"] * omega * i[1]) / p["l_a"]
    return armature, (u[1] - p["r_e"] * i[1]) / p["l_e"]


def shunt(omega: Tensor, i: Sequence[Tensor], u: Sequence[Tensor], p: Parameters) -> tuple[Tensor, ...]:
    """d(i_a, i_e)/dt of the shunt motor: two circuits at one voltage."""
    return externally_excited(omega, i, (u[0], u[0]), p)


def permanently_excited(omega: Tensor, i: Sequence[Tensor], u: Sequence[Tensor], p: Parameters) -> tuple[Tensor, ...]:
    """di/dt of the permanently excited motor, whose flux ψ_e is constant."""
    return ((u[0] - p["r_a"] * i[0] - p["psi_e"] * omega) / p["l_a"],)


def synchronous(omega: Tensor, i: Sequence[Tensor], u: Sequence[Tensor], p: Parameters) -> tuple[Tensor, ...]:
    """d(i_d, i_q, ε)/dt of the PMSM in the frame that turns with its rotor."""
    electrical = p["p"] * omega
    direct = (u[0] - p["r_s"] * i[0] + electrical * p["l_q"] * i[1]) / p["l_d"]
    quadrature = (u[1] - p["r_s"] * i[1] - electrical * (p["l_d"] * i[0] + p["psi_p"])) / p["l_q"]
    return direct, quadrature, electrical


@dataclass(frozen=True)
class Motor:
    """A motor: its electrical equation, torque and parameters in SI units.

    `currents` and `voltages` name the state's entries; `rate` is one of the functions above; `feed` gives the current
    that the converter sees. `substeps` is the number of Runge-Kutta steps within 1e-4 s that keeps the error of the
    state well below 1e-6: armature circuits of 19 µH are fast, and friction changes its sign at rest.
    """

    name: str
    currents: tuple[str, ...]
    voltages: tuple[str, ...]
    rate: Callable
    torque: Callable[[Sequence[Tensor], Parameters], Tensor]
    parameters: Parameters
    limits: Mapping[str, float]
    nominal: Mapping[str, float]
    feed: Callable[[Sequence[Tensor]], tuple[Tensor, ...]] = tuple
    substeps: int = 1

    def with_parameters(self, **changed: Value) -> "Motor":
        """The same motor with other parameters: numbers, or tensors with one value per drive.

        Raises:
            ValueError: the motor has no parameter of that name.
        """
        if unknown := set(changed) - set(self.parameters):
            raise ValueError(f"{self.name} has no {sorted(unknown)}; its parameters are {sorted(self.parameters)}")
        return replace(self, parameters=dict(self.parameters) | changed)


_DC_LIMITS = {"omega": 400.0, "torque": 38.0} | dict.fromkeys(("i", "i_a", "i_e"), 210.0)
_DC_LIMITS |= dict.fromkeys(("u", "u_a", "u_e"), 60.0)
_DC_NOMINAL = _DC_LIMITS | {"omega": 300.0, "torque": 16.0} | dict.fromkeys(("i", "i_a", "i_e"), 97.0)
_DC = {"r_a": 0.016, "r_e": 0.16, "l_a": 19e-6, "l_e": 5.4e-3, "l_e_prime": 1.7e-3, "j_rotor": 0.0025}
_PMSM_LIMITS = {"omega": 4000 * math.pi / 30, "torque": 160.6123626293421, "epsilon": math.pi}
_PMSM_LIMITS |= {"i_sd": 400.0, "i_sq": 400.0, "u_sd": 150.0, "u_sq": 150.0}


def _product(i: Sequence[Tensor], p: Parameters) -> Tensor:
    return p["l_e_prime"] * i[0] * i[-1]


def _synchronous_torque(i: Sequence[Tensor], p: Parameters) -> Tensor:
    return 1.5 * p["p"] * (p["psi_p"] + (p["l_d"] - p["l_q"]) * i[0]) * i[1]


SERIES = Motor("series", ("i",), ("u",), series, _product, _DC | {"r_e": 0.048}, _DC_LIMITS, _DC_NOMINAL)
SHUNT = Motor(
    "shunt", ("i_a", "i_e"), ("u",), shunt, _product, _DC | {"r_e": 0.4}, _DC_LIMITS, _DC_NOMINAL,
    feed=lambda i: (i[0] + i[1],), substeps=8,
)  # fmt: skip
EXTERNAL = Motor(
    "externally excited", ("i_a", "i_e"), ("u_a", "u_e"), externally_excited, _product, _DC, _DC_LIMITS, _DC_NOMINAL,
    substeps=4,
)  # fmt: skip
PERMANENT = Motor(
    "permanently excited", ("i",), ("u",), permanently_excited, lambda i, p: p["psi_e"] * i[0],
    {"r_a": 0.016, "l_a": 19e-6, "psi_e": 0.165, "j_rotor": 0.025}, _DC_LIMITS, _DC_NOMINAL, substeps=2,
)  # fmt: skip
PMSM = Motor(
    "PMSM", ("i_sd", "i_sq"), ("u_sd", "u_sq"), synchronous, _synchronous_torque,
    {"p": 3.0, "l_d": 0.37e-3, "l_q": 1.2e-3, "r_s": 0.018, "psi_p": 0.066, "j_rotor": 0.03883}, _PMSM_LIMITS,
    _PMSM_LIMITS | {"omega": 3000 * math.pi / 30, "i_sd": 240.0, "i_sq": 240.0}, substeps=2,
)  # fmt: skip
MOTORS = (SERIES, SHUNT, EXTERNAL, PERMANENT, PMSM)


# --- loads ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """Static load T_L = a₀(ω) + bω + sign(ω) cω², Nm; a₀ is friction a, smoothed within ±aτ_d/J around rest.

    With `speed` (rad/s) given, the shaft turns at that speed whatever the torque.
    """

    a: Value = 0.0
    b: Value = 0.0
    c: Value = 0.0
    j_load: Value = 1e-5
    speed: float | None = None

    def torque(self, omega: Tensor, inertia: Value) -> Tensor:
        """Load torque at a speed; `inertia` of rotor and load together sets where friction is smoothed."""
        # J/τ_d with τ_d = 1 ms: the smoothed friction reaches ±a exactly where the smoothing ends
        total = (omega * (inertia / 1e-3)).clamp(-self.a, self.a) + self.b * omega
        return total if isinstance(self.c, float) and self.c == 0 else total + self.c * omega * omega.abs()


# what the toolbox's speed-control environments attach to each motor, by its name
LOADS = {
    "series": Load(a=0.01, b=0.05, j_load=1e-4),
    "shunt": Load(a=0.05, b=0.01, j_load=1e-4),
    "externally excited": Load(j_load=1e-4),
    "permanently excited": Load(j_load=1e-4),
    "PMSM": Load(a=0.01, b=0.01),
}


# --- converters -----------------------------------------------------------------------------------


def leg(duty: Tensor, current: Tensor, lost: Value) -> Tensor:
    """Mean output of a half bridge, as a share of the supply.

    Both transistors are off during the interlocking time; the diodes then connect the output to the rail that the
    current's sign decides, which costs `lost` = t_int/τ of the duty or adds it.
    """
    return (duty - current.sign() * lost).clamp(0, 1)


def one_quadrant(action: Tensor, current: Tensor, lost: Value) -> Tensor:
    """A single transistor and diode, action in [0, 1]: nothing to interlock; a negative current sees the supply."""
    return torch.where(current >= 0, action.clamp(0, 1), 1.0)


def two_quadrant(action: Tensor, current: Tensor, lost: Value) -> Tensor:
    """A half bridge, action in [0, 1]."""
    return leg(action.clamp(0, 1), current, lost)


def four_quadrant(action: Tensor, current: Tensor, lost: Value) -> Tensor:
    """Two half bridges with duties (1 ± a)/2, action in [-1, 1]; as in the toolbox, both see the same current."""
    action = action.clamp(-1, 1)
    return leg(0.5 * (1 + action), current, lost) - leg(0.5 * (1 - action), current, lost)


def _phases(direct: Tensor, quadrature: Tensor, angle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(d, q) as three phases: each axis projected on windings 120° apart (amplitudes kept)."""
    turns = (angle, angle - 2 * math.pi / 3, angle + 2 * math.pi / 3)
    return tuple(direct * turn.cos() - quadrature * turn.sin() for turn in turns)


def _axes(phases: Sequence[Tensor], angle: Tensor) -> tuple[Tensor, Tensor]:
    """Three phases as (d, q), the inverse of `_phases` for phases that sum to zero."""
    turns = (angle, angle - 2 * math.pi / 3, angle + 2 * math.pi / 3)
    direct = sum(phase * turn.cos() for phase, turn in zip(phases, turns))
    quadrature = sum(phase * turn.sin() for phase, turn in zip(phases, turns))
    return 2 / 3 * direct, -2 / 3 * quadrature


@dataclass(frozen=True)
class Converter:
    """A converter for one voltage: the function from action, current and lost duty to output, and its range."""

    output: Callable[[Tensor, Tensor, Value], Tensor]
    low: float = 0.0
    high: float = 1.0


ONE_QUADRANT, TWO_QUADRANT = Converter(one_quadrant), Converter(two_quadrant)
FOUR_QUADRANT = Converter(four_quadrant, low=-1.0)
CONVERTERS = {"1QC": ONE_QUADRANT, "2QC": TWO_QUADRANT, "4QC": FOUR_QUADRANT}


# --- drives ---------------------------------------------------------------------------------------


@dataclass
class Drives:
    """A batch of drives of one kind: set up, `reset`, then `step` with actions.

    Args:
        motor, load, converter: the parts. A PMSM always has a B6 bridge (three half bridges) instead of `converter`.
        shape: batch axes, e.g. (drives,) or (runs, drives).
        supply_v: ideal supply voltage.
        tau_s: length of a step.
        interlocking_s: time for which both transistors of a half bridge are off, per step.
        dead_steps: how many steps pass before an action takes effect; action 0 acts until then.
        noise: standard deviation of normal noise on every measured state.
        noise_rng: where the noise comes from; its runs are the first batch axis.
        action_frame: "dq" lets the PMSM's actions be (d, q) shares instead of three phase duties.
    Raises:
        ValueError: a setting that cannot be; the message says which would do.
    """

    motor: Motor = SERIES
    load: Load = LOADS["series"]
    converter: Converter = FOUR_QUADRANT
    shape: tuple[int, ...] = (1,)
    supply_v: float = 60.0
    tau_s: float = 1e-4
    interlocking_s: Value = 0.0
    dead_steps: int = 0
    noise: float = 0.0
    noise_rng: RunRNG | None = None
    action_frame: str = "abc"
    device: str | torch.device = "cpu"

    def __post_init__(self):
        if self.noise and self.noise_rng is None:
            raise ValueError("measurement noise needs noise_rng: pass RunRNG(seeds, 'noise')")
        if self.dead_steps < 0 or self.tau_s <= 0 or self.action_frame not in ("abc", "dq"):
            raise ValueError("dead_steps is 0 or more, tau_s is positive, and action_frame is 'abc' or 'dq'")
        self.is_three_phase = self.motor is PMSM or self.motor.name == PMSM.name
        self.inertia = self.motor.parameters["j_rotor"] + self.load.j_load
        self.actions = (3 if self.action_frame == "abc" else 2) if self.is_three_phase else len(self.motor.voltages)
        low = -1.0 if self.is_three_phase else self.converter.low
        self.action_low, self.action_high = low, 1.0
        mechanical = ("epsilon",) if self.is_three_phase else ()
        self.state_names = ("omega", "torque", *self.motor.currents, *self.motor.voltages, *mechanical)
        limits = [self.motor.limits[name] for name in self.state_names]
        self.limits = torch.tensor(limits, dtype=torch.float64, device=self.device)
        self.reset()

    def reset(self, mask: Bool[Tensor, "*batch"] | None = None) -> Float[Tensor, "*batch states"]:
        """Puts all drives, or those where `mask` is true, to rest; gives the measured state."""
        if mask is None:
            zeros = torch.zeros(self.shape, dtype=torch.float64, device=self.device)
            # ω, currents and, for three phases, ε: the variables of the differential equation
            self.y = zeros.expand(1 + len(self.motor.currents) + self.is_three_phase, *self.shape).clone()
            self.u = [zeros for _ in self.motor.voltages]
            self.waiting = [zeros.new_zeros(*self.shape, self.actions)] * self.dead_steps
            if self.load.speed is not None:
                self.y[0] = self.load.speed
        else:
            self.y = torch.where(mask, 0.0, self.y)
            self.u = [torch.where(mask, 0.0, u) for u in self.u]
            self.waiting = [torch.where(mask[..., None], 0.0, action) for action in self.waiting]
            if self.load.speed is not None:
                self.y[0] = self.load.speed
        return self.state()

    def step(self, action: Float[Tensor, "*batch actions"]) -> Float[Tensor, "*batch states"]:
        """One step of τ seconds with constant voltages; gives the measured state, divided by its limits."""
        action = action.to(self.y)
        if self.dead_steps:
            self.waiting.append(action)
            action = self.waiting.pop(0)
        self.u = self.voltages(action)
        h = self.tau_s / self.motor.substeps
        for _ in range(self.motor.substeps):
            self.y = rk4(self.rate, self.y, h)
        return self.state()

    def voltages(self, action: Float[Tensor, "*batch actions"]) -> list[Float[Tensor, "*batch"]]:
        """Mean voltages of a step that begins in the present state, V."""
        lost, currents = self.interlocking_s / self.tau_s, self.y[1 : 1 + len(self.motor.currents)]
        if self.is_three_phase:
            angle = self.y[3]
            duties = action.unbind(-1) if self.action_frame == "abc" else _phases(*action.unbind(-1), angle)
            phases = [leg(0.5 * (1 + a), i, lost) - 0.5 for a, i in zip(duties, _phases(*currents, angle))]
            return [self.supply_v * u for u in _axes(phases, angle)]
        feeds = self.motor.feed(tuple(currents))
        return [self.supply_v * self.converter.output(a, i, lost) for a, i in zip(action.unbind(-1), feeds)]

    def torque(self) -> Float[Tensor, "*batch"]:
        """The motor's torque, Nm."""
        return self.motor.torque(self.y[1:].unbind(0), self.motor.parameters)

    def state(self) -> Float[Tensor, "*batch states"]:
        """Measured state: speed, torque, currents, voltages (and the angle in [-π, π]), all divided by their limits."""
        angle = [(self.y[3] + math.pi).remainder(2 * math.pi) - math.pi] if self.is_three_phase else []
        count = len(self.motor.currents)
        state = torch.stack([self.y[0], self.torque(), *self.y[1 : 1 + count], *self.u, *angle], -1) / self.limits
        return state + self.noise * self.noise_rng.normal(*state.shape[1:]).to(state) if self.noise else state

    def rate(self, y: Float[Tensor, "variables ..."]) -> Float[Tensor, "variables ..."]:
        """dy/dt of speed, currents (and angle) at the present voltages, SI units."""
        omega, *inner = y.unbind(0)
        p = self.motor.parameters
        electrical = self.motor.rate(omega, inner, self.u, p)
        if self.load.speed is not None:
            return torch.stack([torch.zeros_like(omega), *electrical])
        torque = self.motor.torque(inner, p) - self.load.torque(omega, self.inertia)
        return torch.stack([torque / self.inertia, *electrical])


def rk4(rate: Callable[[Tensor], Tensor], y: Float[Tensor, "..."], h: float) -> Float[Tensor, "..."]:
    """One step of the classical fourth-order Runge-Kutta method for dy/dt = rate(y)."""
    k1 = rate(y)
    k2 = rate(torch.add(y, k1, alpha=h / 2))
    k3 = rate(torch.add(y, k2, alpha=h / 2))
    k4 = rate(torch.add(y, k3, alpha=h))
    return torch.add(y, k2.add(k3).mul(2).add(k1).add(k4), alpha=h / 6)


# --- one drive for gymnasium ----------------------------------------------------------------------


class SingleDrive(gymnasium.Env):
    """One drive as a gymnasium environment, with the toolbox's observations, rewards and ends.

    An observation is the pair (measured state, next reference). The reward is -|s - s*|/width; leaving a current limit
    gives -1/(1 - γ) and terminates. After `steps` steps an episode is truncated.

    Args:
        references: a generator, drawn anew at every reset, or given tracks (1, 1, steps).
        referenced: name of the state that is to follow.
        width: of the range of that state; 1 for states that are never negative, else 2.
        steps: longest episode.
        gamma: discount γ that sets the punishment.
        settings: for `Drives`.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        references: Reference | Tensor | None = None,
        referenced: str = "omega",
        width: float = 1.0,
        steps: int = 10_000,
        gamma: float = 0.9,
        **settings,
    ):
        self.drives = Drives(**settings)
        self.references = Reference() if references is None else references
        self.at = self.drives.state_names.index(referenced)
        self.watched = [self.drives.state_names.index(name) for name in self.drives.motor.currents]
        self.steps = steps if isinstance(self.references, Reference) else self.references.shape[-1] - 1
        self.width, self.punishment = width, -1 / (1 - gamma)
        ones = np.full(len(self.drives.state_names), np.inf)  # a state may leave its limits in the last step
        self.observation_space = gymnasium.spaces.Tuple(
            (gymnasium.spaces.Box(-ones, ones, dtype=np.float64), gymnasium.spaces.Box(-1, 1, (1,), np.float64))
        )
        low, high = self.drives.action_low, self.drives.action_high
        self.action_space = gymnasium.spaces.Box(low, high, (self.drives.actions,), np.float64)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        track = self.references
        if isinstance(track, Reference):
            rng = RunRNG([int(self.np_random.integers(2**31))], "references")
            track = tracks(track, rng, 1, self.steps + 1, self.drives.tau_s)
        self.track, self.now = track[0, 0].numpy(), 0
        return self._seen(self.drives.reset()), {}

    def step(self, action):
        state = self.drives.step(torch.as_tensor(np.asarray(action, dtype=np.float64))[None])
        error = abs(float(state[0, self.at]) - self.track[self.now])
        violated = bool((state[0, self.watched].abs() > 1).any())
        self.now += 1
        reward = self.punishment if violated else -error / self.width
        return self._seen(state), reward, violated, self.now >= self.steps, {}

    def _seen(self, state: Tensor):
        return state[0].numpy().copy(), self.track[self.now : self.now + 1].copy()
