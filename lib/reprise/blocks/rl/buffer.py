"""What agents learn from: replayed transitions with n-step returns, and roll-outs with advantages.

A batch is a dictionary of tensors (runs, batch, ...): obs, action, reward, discount, next_obs, and whatever else was
stored. An update's target is `reward + discount * value(next_obs)`: powers of γ and terminations are inside
`discount`, so that whoever makes batches (replay, a learned model) alone decides what is bootstrapped.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from reprise.blocks.rl.envs import Step, VecEnv
from reprise.blocks.seeds import RunRNG

Batch = dict[str, Tensor]
_FLAGS = ("terminated", "truncated")


class Replay:
    """The last transitions of every run in one tensor (runs, rows, width), so that a batch is a single gather.

    Args:
        seeds: one per run; batches are drawn from their stream "replay".
        shapes: name -> shape of what is stored of one transition; must hold obs, action and next_obs. Reward and the
            two flags are added.
        capacity: transitions per run, rounded down to full steps of all worlds.
        envs: worlds per run.
        gamma: discount γ per step.
        nstep: rewards that are summed before bootstrapping.
        discrete: store actions as whole numbers.
        device: where everything lives.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shapes: Mapping[str, tuple[int, ...]],
        capacity: int,
        envs: int = 1,
        gamma: float = 0.99,
        nstep: int = 1,
        discrete: bool = False,
        device: str | torch.device = "cpu",
    ):
        if missing := {"obs", "action", "next_obs"} - set(shapes):
            raise ValueError(f"a replay stores at least obs, action and next_obs; {', '.join(sorted(missing))} missing")
        if capacity < envs or nstep < 1:
            raise ValueError(
                f"a replay needs room for one step of {envs} worlds and nstep >= 1; got {capacity}, {nstep}"
            )
        self.shapes = dict(shapes) | {name: () for name in ("reward", *_FLAGS)}
        self.widths = [torch.Size(shape).numel() for shape in self.shapes.values()]
        self.runs, self.envs, self.gamma, self.nstep = len(seeds), envs, gamma, nstep
        self.slots, self.discrete = capacity // envs, discrete
        self.rows = torch.zeros(self.runs, self.slots * envs, sum(self.widths), device=device)
        self.rng = RunRNG(seeds, "replay", device)
        self._first_row = torch.arange(self.runs, device=device)[:, None] * self.slots * envs
        self.steps = 0  # steps ever added

    @classmethod
    def of(cls, env: VecEnv, capacity: int, gamma: float = 0.99, nstep: int = 1, **more: tuple[int, ...]) -> "Replay":
        """A replay that fits these worlds; `more` names further things to store and their shapes."""
        discrete = env.n_actions is not None
        shapes = {"obs": (env.obs_dim,), "action": () if discrete else (env.act_dim,), "next_obs": (env.obs_dim,)}
        return cls(env.seeds, shapes | more, capacity, env.envs, gamma, nstep, discrete, env.device)

    def __len__(self) -> int:
        """Transitions per run that can be drawn."""
        return min(self.steps, self.slots) * self.envs

    def add(
        self,
        obs: Float[Tensor, "runs envs *obs"],
        action: Shaped[Tensor, "runs envs *action"],
        step: Step,
        **more: Shaped[Tensor, "runs envs ..."],
    ) -> None:
        """Store one step of all worlds: what was seen, what was done, what came of it."""
        given = {"obs": obs, "action": action, "next_obs": step.final_obs, "reward": step.reward} | more
        given |= {"terminated": step.terminated, "truncated": step.truncated}
        if set(given) != set(self.shapes):
            raise ValueError(f"the replay stores {sorted(self.shapes)}; got {sorted(given)}")
        parts = [given[name].reshape(self.runs, self.envs, -1).to(self.rows.dtype) for name in self.shapes]
        place = self.steps % self.slots * self.envs
        torch.cat(parts, -1, out=self.rows[:, place : place + self.envs])
        self.steps += 1

    def sample(self, batch: int) -> Batch:
        """Transitions drawn evenly (with replacement), (runs, batch, ...) each.

        reward is Σ_k γ^k r_k over at most `nstep` steps of the same world: fewer where an episode ends or where the
        newest step is reached. next_obs is what was seen after the last of them, discount γ^m, or 0 if it terminated.
        """
        drawn = self.rng.randint(len(self), batch)
        newest = (self.steps - 1) % self.slots
        row = self._rows_at(drawn)
        taken = self._split(row)
        reward, power = taken["reward"], torch.full_like(taken["reward"], self.gamma)
        running = (taken["terminated"] + taken["truncated"] == 0) & (drawn // self.envs != newest)
        last = {name: taken[name] for name in ("next_obs", "terminated")}
        for _ in range(self.nstep - 1):
            drawn = torch.where(running, (drawn + self.envs) % (self.slots * self.envs), drawn)
            new = self._split(self._rows_at(drawn))
            reward = reward + torch.where(running, power * new["reward"], 0.0)
            power = torch.where(running, power * self.gamma, power)
            last = {name: new[name] for name in last}  # where the window has stopped, `drawn` has, too
            running = running & (new["terminated"] + new["truncated"] == 0) & (drawn // self.envs != newest)
        made = {name: taken[name] for name in self.shapes if name not in _FLAGS}
        made |= {"reward": reward, "discount": power * (1 - last["terminated"]), "next_obs": last["next_obs"]}
        if self.discrete:
            made["action"] = made["action"].long()
        return made

    def _rows_at(self, drawn: Tensor) -> Tensor:
        flat = self.rows.view(-1, self.rows.shape[-1])
        return flat.index_select(0, (self._first_row + drawn).flatten()).view(*drawn.shape, -1)

    def _split(self, row: Tensor) -> Batch:
        parts = row.split(self.widths, -1)
        return {name: part.view(*row.shape[:2], *shape) for (name, shape), part in zip(self.shapes.items(), parts)}


@torch.no_grad()
def collect(env: VecEnv, act: Callable[[Tensor], Mapping[str, Tensor]], steps: int) -> Batch:
    """A roll-out: `steps` steps of all worlds from where they are, as tensors (runs, steps, envs, ...).

    Args:
        env: the worlds.
        act: observation (runs, envs, d) -> "action" and whatever else is to be kept (log-probabilities, ...).
        steps: steps of each world.
    Returns:
        obs, next_obs (before restarts), reward, terminated, truncated, and what `act` returned.
    """
    kept = []
    for _ in range(steps):
        obs, chosen = env.obs, act(env.obs)
        step = env.step(chosen["action"])
        kept.append(
            {"obs": obs, "next_obs": step.final_obs, "reward": step.reward}
            | {"terminated": step.terminated, "truncated": step.truncated}
            | dict(chosen)
        )
    return {name: torch.stack([one[name] for one in kept], 1) for name in kept[0]}


def advantages(
    rollout: Mapping[str, Tensor],
    value: Float[Tensor, "runs steps envs"],
    next_value: Float[Tensor, "runs steps envs"],
    gamma: float,
    lam: float,
) -> Float[Tensor, "runs steps envs"]:
    """Generalised advantage estimates (Schulman et al. 2016, arXiv 1506.02438, eq. 16), cut where episodes end.

    Args:
        rollout: from `collect`; reward, terminated and truncated are used.
        value: of what was seen.
        next_value: of what was seen next, before restarts.
        gamma: discount γ.
        lam: λ; 0 gives one-step errors, 1 the discounted return minus the value.
    """
    terminated = rollout["terminated"].to(value.dtype)
    goes_on = 1 - (rollout["terminated"] | rollout["truncated"]).to(value.dtype)
    surprise = rollout["reward"] + gamma * (1 - terminated) * next_value - value
    running, made = torch.zeros_like(value[:, 0]), torch.empty_like(value)
    for t in reversed(range(value.shape[1])):
        running = surprise[:, t] + gamma * lam * goes_on[:, t] * running
        made[:, t] = running
    return made
