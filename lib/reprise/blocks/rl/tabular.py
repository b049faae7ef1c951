"""Explicit decision processes: exact values, successor matrices, and the four rooms.

A process is `transition` and `reward` (..., states, actions). Transitions are probabilities (..., states, actions,
states) or, for deterministic ones, whole numbers (..., states, actions) that name the next state. Leading axes are many
processes at once. An episode's end is a state that leads to itself and pays nothing. Use double precision where
digits matter.
"""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

# Sutton, Precup & Singh (1999) in outline; doors as in the chapters that use it: 104 free cells
FOUR_ROOMS = (
    ".....#.....",
    ".....#.....",
    "...........",
    ".....#.....",
    ".....#.....",
    "#.####.....",
    ".....###.##",
    ".....#.....",
    ".....#.....",
    "...........",
    ".....#.....",
)


def expected(transition: Shaped[Tensor, "..."], value: Float[Tensor, "*batch states"]) -> Float[Tensor, "..."]:
    """Expected value of the next state, (..., states, actions)."""
    if transition.is_floating_point():
        return (transition @ value[..., None, :, None])[..., 0]
    states, actions = transition.shape[-2:]
    batch = torch.broadcast_shapes(transition.shape[:-2], value.shape[:-1])
    index = transition.expand(*batch, states, actions).flatten(-2)
    return value.expand(*batch, states).gather(-1, index).unflatten(-1, (states, actions))


def value_iteration(
    transition: Shaped[Tensor, "..."],
    reward: Float[Tensor, "*batch states actions"],
    discount: float,
    tolerance: float = 1e-8,
    max_sweeps: int = 100_000,
) -> Float[Tensor, "*batch2 states actions"]:
    """Q* by repeated backups, until no further sweep could change a value by more than `tolerance`.

    Args:
        transition: probabilities or next states.
        reward: expected reward of every state and action.
        discount: γ in [0, 1).
        tolerance: largest distance to Q* that is left.
        max_sweeps: a RuntimeError says so if they do not suffice.
    """
    _check(discount)
    q = reward
    for _ in range(max_sweeps):
        new = reward + discount * expected(transition, q.amax(-1))
        change = (new - q).abs().max().item()
        q = new
        if change * discount <= tolerance * (1 - discount):
            return q
    raise RuntimeError(
        f"{max_sweeps} sweeps left a change of {change:.1e}; allow more, use double precision, or a larger tolerance"
    )


def under_policy(
    transition: Shaped[Tensor, "..."], policy: Float[Tensor, "*batch states actions"]
) -> Float[Tensor, "*batch2 states states"]:
    """Probabilities of the next state when actions are drawn from the policy: P_π."""
    if transition.is_floating_point():
        return (policy[..., None] * transition).sum(-2)
    states = transition.shape[-2]
    batch = torch.broadcast_shapes(transition.shape[:-2], policy.shape[:-2])
    shape = (*batch, states, transition.shape[-1])
    made = torch.zeros(*batch, states, states, dtype=policy.dtype, device=policy.device)
    return made.scatter_add_(-1, transition.expand(shape), policy.expand(shape))


def uniform_policy(transition: Shaped[Tensor, "..."], dtype: torch.dtype = torch.float64) -> Float[Tensor, "..."]:
    """Every action with the same probability, (..., states, actions)."""
    shape = transition.shape[:-1] if transition.is_floating_point() else transition.shape
    return torch.full(shape, 1 / shape[-1], dtype=dtype, device=transition.device)


def policy_evaluation(
    transition: Shaped[Tensor, "..."],
    reward: Float[Tensor, "*batch states actions"],
    policy: Float[Tensor, "*batch2 states actions"],
    discount: float,
) -> Float[Tensor, "... states"]:
    """V^π = (I - γ P_π)^-1 r_π, one linear system per process."""
    matrix = _system(under_policy(transition, policy), discount)
    paid = (policy * reward).sum(-1)
    batch = torch.broadcast_shapes(matrix.shape[:-2], paid.shape[:-1])
    return torch.linalg.solve(matrix.expand(*batch, *matrix.shape[-2:]), paid.expand(*batch, paid.shape[-1]))


def successor_matrix(
    transition: Shaped[Tensor, "..."], policy: Float[Tensor, "*batch states actions"], discount: float
) -> Float[Tensor, "*batch2 states states"]:
    """Ψ = (I - γ P_π)^-1: discounted visits of every state (column) from every state (row), Dayan (1993)."""
    return torch.linalg.inv(_system(under_policy(transition, policy), discount))


def free_cells(rooms: tuple[str, ...] = FOUR_ROOMS) -> Bool[Tensor, "rows columns"]:
    """Where a map of "." and "#" is free."""
    return torch.tensor([[cell == "." for cell in row] for row in rooms])


def grid_successors(free: Bool[Tensor, "rows columns"]) -> Int[Tensor, "states 4"]:
    """Next states of up, right, down and left among the free cells, in reading order; bumping stays."""
    number = torch.full((free.shape[0] + 2, free.shape[1] + 2), -1)  # with a wall around
    number[1:-1, 1:-1][free] = torch.arange(int(free.sum()))
    row, column = (free.nonzero() + 1).unbind(1)
    own = number[row, column]
    moves = torch.tensor([[-1, 0], [0, 1], [1, 0], [0, -1]])
    beside = number[row[:, None] + moves[:, 0], column[:, None] + moves[:, 1]]
    return torch.where(beside < 0, own[:, None], beside)


def _system(matrix: Tensor, discount: float) -> Tensor:
    _check(discount)
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device) - discount * matrix


def _check(discount: float) -> None:
    if not 0 <= discount < 1:
        raise ValueError(f"exact values need a discount in [0, 1); got {discount}")
