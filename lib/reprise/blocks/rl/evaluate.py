"""How good is a policy? One episode per world, in worlds of its own.

Make worlds for every evaluation anew (same seeds, a stream such as "test"): they then start from the same states each
time, training is not disturbed, and paired arms meet the same episodes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprise.blocks.rl.envs import VecEnv


@dataclass(frozen=True)
class Episodes:
    """One episode per world: its return, its length in steps, and whether it terminated (rather than was cut)."""

    returns: Float[Tensor, "runs envs"]
    lengths: Int[Tensor, "runs envs"]
    terminated: Bool[Tensor, "runs envs"]


@torch.no_grad()
def episodes(
    env: VecEnv, policy: Callable[[Tensor], Tensor], gamma: float = 1.0, max_steps: int | None = None
) -> Episodes:
    """Play every world's next episode from its start to its end.

    Args:
        env: worlds; they are reset first, and the world's first episode counts.
        policy: observation (runs, envs, d) -> action.
        gamma: discount of the returns.
        max_steps: cut episodes here; needed for worlds without a limit of their own.
    """
    limit = min((n for n in (max_steps, env.max_steps) if n is not None), default=None)
    if limit is None:
        raise ValueError("these worlds have no time limit; say how long an episode may be with max_steps")
    obs = env.reset()
    returns = torch.zeros(env.runs, env.envs, device=env.device)
    lengths = torch.zeros(env.runs, env.envs, dtype=torch.long, device=env.device)
    terminated = torch.zeros_like(lengths, dtype=torch.bool)
    running = ~terminated
    for t in range(limit):
        step = env.step(policy(obs))
        returns = returns + gamma**t * torch.where(running, step.reward, 0.0)
        lengths = lengths + running
        terminated = terminated | (running & step.terminated)
        running = running & ~(step.terminated | step.truncated)
        obs = step.obs
        if not running.any():
            break
    return Episodes(returns, lengths, terminated)
