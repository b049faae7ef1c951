"""One training loop for stacked runs, and what is read off it: best values, times to target.

Axes: runs first, then batch. Every run has its own order of the data (`epochs`, `batches`), its own or
shared data (`gather`), and is evaluated at the same steps. Losses are (runs,), summed for the backward pass.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from reprise.blocks.seeds import FlatAdam, FlatSGD, RunRNG


def epochs(rng: RunRNG, n: int, batch: int) -> Iterator[Int[Tensor, "runs batch"]]:
    """Endless batches of indices without replacement: one order per run and epoch, rests dropped."""
    if batch > n:
        raise ValueError(f"a batch of {batch} cannot be drawn without replacement from {n} samples")
    while True:
        order = rng.permutation(n)
        for start in range(0, n - batch + 1, batch):
            yield order[:, start : start + batch]


def batches(rng: RunRNG, n: int, batch: int) -> Iterator[Int[Tensor, "runs batch"]]:
    """Endless batches of indices with replacement."""
    while True:
        yield rng.randint(n, batch)


def gather(data: Tensor, index: Int[Tensor, "runs batch"], shared: bool = False) -> Tensor:
    """The indexed samples, one batch per run.

    Args:
        data: (runs, n, ...), one data set per run, or (n, ...) with `shared`.
        index: which samples each run wants.
        shared: whether all runs draw from one data set.
    Returns:
        (runs, batch, ...).
    """
    if shared:
        return data[index]
    if len(data) != len(index):
        raise ValueError(f"data of {len(data)} runs, indices of {len(index)}; pass shared=True for one common data set")
    # not via a flat view: data are often slices, and a reshape would then copy all of them for every batch
    return data[torch.arange(len(data), device=data.device).view(-1, 1), index]


def cross_entropy(
    logits: Float[Tensor, "runs *batch classes"], labels: Int[Tensor, " runs *batch"]
) -> Float[Tensor, " runs"]:
    """Mean cross-entropy of each run, in nats."""
    # classes before batch: torch then works along the batch, which is twice as fast for few classes
    by_class = logits.flatten(1, -2).transpose(1, 2)
    return F.cross_entropy(by_class, labels.flatten(1), reduction="none").mean(1)


def accuracy(
    logits: Float[Tensor, "runs *batch classes"], labels: Int[Tensor, " runs *batch"]
) -> Float[Tensor, " runs"]:
    """Share (0-1) of correct classes of each run."""
    return (logits.argmax(-1) == labels).float().flatten(1).mean(1)


def drops(base: float, num_steps: int, at: tuple[float, ...], factor: float) -> Callable[[int], float]:
    """Learning rate that is multiplied by `factor` at each of these shares of training."""
    return lambda step: base * factor ** sum(step >= share * num_steps for share in at)


@dataclass(frozen=True)
class History:
    """What was measured in training: `values[name]` is (runs, evaluations), taken after `steps` updates."""

    steps: Int[Tensor, " evaluations"]
    values: dict[str, Float[Tensor, "runs evaluations"]]

    def __getitem__(self, name: str) -> Float[Tensor, "runs evaluations"]:
        return self.values[name]

    def last(self, name: str) -> Float[Tensor, " runs"]:
        """The value at the end of training."""
        return self.values[name][:, -1]


def train(
    optimizer: FlatAdam | FlatSGD,
    loss: Callable[[int], Float[Tensor, " runs"]],
    num_steps: int,
    *,
    learning_rate: Callable[[int], float | Tensor] | None = None,
    alive: Bool[Tensor, "runs parameters"] | None = None,
    max_norm: float | None = None,
    evaluate: Callable[[], Mapping[str, Float[Tensor, " runs"]]] | None = None,
    every: int = 0,
) -> History:
    """Train all runs for `num_steps` updates.

    Args:
        optimizer: whose store is trained.
        loss: step -> losses per run (draws its own batch); summed over runs here.
        num_steps: updates.
        learning_rate: step -> rate, if it changes.
        alive: parameters outside this mask get no gradient; those that are zero stay exactly zero.
        max_norm: gradient clipping per run.
        evaluate: called without gradients before the first update, every `every` updates and after the last.
        every: 0 evaluates only after the last update.
    """
    params, steps, records = optimizer.params, [], []
    alive_factor = None if alive is None else alive.to(params.flat.dtype)

    def look(step: int) -> None:
        if evaluate is not None:
            with torch.no_grad():
                records.append(evaluate())
            steps.append(step)

    if every:
        look(0)
    for step in range(num_steps):
        if learning_rate is not None:
            optimizer.learning_rate = learning_rate(step)
        params.zero_grad()
        loss(step).sum().backward()
        if alive_factor is not None:
            params.grad.mul_(alive_factor)
        optimizer.step(max_norm=max_norm)
        if step + 1 == num_steps or (every and (step + 1) % every == 0):
            look(step + 1)
    names = records[0] if records else ()
    return History(
        torch.tensor(steps, dtype=torch.long), {name: torch.stack([r[name] for r in records], 1) for name in names}
    )


def best(
    steps: Int[Tensor, " evaluations"], values: Float[Tensor, "runs evaluations"], upto: int | None = None
) -> tuple[Float[Tensor, " runs"], Int[Tensor, " runs"]]:
    """Lowest value of each run and the step at which it first occurred, among steps <= `upto`."""
    kept = steps <= (steps[-1] if upto is None else upto)
    lowest, place = values[:, kept.to(values.device)].min(1)
    return lowest, steps[kept].to(values.device)[place]


def time_to_target(
    steps: Int[Tensor, " evaluations"],
    values: Float[Tensor, "runs evaluations"],
    target: Float[Tensor, " runs"],
    censored_at: int,
) -> tuple[Int[Tensor, " runs"], Bool[Tensor, " runs"]]:
    """First evaluated step at which a run's value is at or below its target, and whether it got there.

    Args:
        steps: when the values were taken.
        values: e.g. validation losses.
        target: one per run.
        censored_at: later steps do not count; a run that has not arrived by then is given this step.
    """
    hit = (values <= target.view(-1, 1)) & (steps <= censored_at).to(values.device)
    reached = hit.any(1)
    first = steps.to(values.device)[hit.float().argmax(1)]  # argmax of the first True
    return torch.where(reached, first, censored_at), reached
