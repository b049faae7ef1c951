"""Search without gradients: populations of parameter vectors, all runs at once.

`ask` gives candidates (runs, population, dim), `tell` takes their scores (runs, population), larger is better. What
happens in between is the caller's: a formula, a batch of episodes, a simulator. For a network, a candidate is a row of
its store: `store.views(candidates.flatten(0, 1))` are the parameters of runs * population networks.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from reprise.blocks.rl.networks import adam
from reprise.blocks.seeds import ParameterStore, PerRun, RunRNG


def centered_ranks(scores: Float[Tensor, "runs population"]) -> Float[Tensor, "runs population"]:
    """-0.5 for the worst to 0.5 for the best, evenly spaced; equal scores share the mean of their ranks."""
    worse = (scores[:, None, :] < scores[:, :, None]).sum(-1)
    equal = (scores[:, None, :] == scores[:, :, None]).sum(-1)
    return (worse + (equal - 1) / 2) / max(scores.shape[1] - 1, 1) - 0.5


class EvolutionStrategy:
    """Antithetic evolution strategy with Adam (Salimans et al. 2017, arXiv 1703.03864).

    Candidates are mean ± sigma ε; the ascent direction is Σ (f(+ε) - f(-ε)) ε / (2 pairs sigma) with scores as ranks.

    Args:
        params: the means; changed in place by `tell`.
        seeds: one per run.
        pairs: mirrored pairs per generation.
        sigma: deviation of the perturbations, for all or per run.
        learning_rate: of Adam, for all or per run.
        weight_decay: decoupled.
        ranked: use centred ranks in place of the scores themselves.
    """

    def __init__(
        self,
        params: ParameterStore,
        seeds: Sequence[int],
        pairs: int,
        sigma: PerRun,
        learning_rate: PerRun,
        weight_decay: float = 0.0,
        ranked: bool = True,
    ):
        if len(seeds) != params.runs:
            raise ValueError(f"{len(seeds)} seeds for {params.runs} rows of parameters; give one seed per row")
        self.params, self.pairs, self.ranked = params, pairs, ranked
        self.sigma = torch.as_tensor(sigma, dtype=params.flat.dtype, device=params.device).expand(params.runs)
        self.optimizer = adam(params, learning_rate, weight_decay)
        self._rng = RunRNG(seeds, "perturbation", params.device)
        self._noise = None

    @torch.no_grad()
    def ask(self) -> Float[Tensor, "runs population dim"]:
        """Candidates: all with +ε, then, in the same order, all with -ε."""
        self._noise = self._rng.normal(self.pairs, self.params.count)
        step = self.sigma.view(-1, 1, 1) * self._noise
        return self.params.flat[:, None] + torch.cat([step, -step], 1)

    @torch.no_grad()
    def tell(self, scores: Float[Tensor, "runs population"]) -> None:
        """One step of Adam up the estimated slope."""
        if self._noise is None or scores.shape[1] != 2 * self.pairs:
            raise ValueError(f"tell takes the scores of the {2 * self.pairs} candidates of the last ask, once")
        self.params.grad.copy_(-self.gradient(scores))
        self.optimizer.step()
        self._noise = None

    @torch.no_grad()
    def gradient(self, scores: Float[Tensor, "runs population"]) -> Float[Tensor, "runs dim"]:
        """The estimated slope of the score (or of its ranks) at the means."""
        weight = centered_ranks(scores) if self.ranked else scores
        up, down = weight.chunk(2, 1)
        return torch.einsum("rp,rpd->rd", up - down, self._noise) / (2 * self.pairs * self.sigma[:, None])


class CrossEntropy:
    """Cross-entropy method with a diagonal Gaussian (Rubinstein 1999; de Boer et al. 2005).

    Args:
        mean: where to begin.
        std: deviation at the beginning, of all coordinates or of each.
        seeds: one per run.
        population: candidates per generation.
        elites: the best of them, from which the Gaussian is fitted.
        smoothing: share of the old mean and deviation that is kept.
        least_std: floor of the deviation.
    """

    def __init__(
        self,
        mean: Float[Tensor, "runs dim"],
        std: float | Tensor,
        seeds: Sequence[int],
        population: int = 64,
        elites: int = 8,
        smoothing: float = 0.0,
        least_std: float = 0.0,
    ):
        if not 2 <= elites <= population:
            raise ValueError(
                f"a Gaussian is fitted to at least two elites of the population; got {elites}, {population}"
            )
        self.mean, self.std = mean.clone(), torch.as_tensor(std, device=mean.device).expand_as(mean).clone()
        self.population, self.elites, self.smoothing, self.least_std = population, elites, smoothing, least_std
        self._rng, self._asked = RunRNG(seeds, "perturbation", mean.device), None

    def ask(self) -> Float[Tensor, "runs population dim"]:
        """Candidates drawn from the Gaussian."""
        noise = self._rng.normal(self.population, self.mean.shape[1])
        self._asked = self.mean[:, None] + self.std[:, None] * noise
        return self._asked

    def tell(self, scores: Float[Tensor, "runs population"]) -> None:
        """Fit the Gaussian to the best candidates."""
        if self._asked is None or scores.shape[1] != self.population:
            raise ValueError(f"tell takes the scores of the {self.population} candidates of the last ask, once")
        best = scores.topk(self.elites, 1).indices[..., None].expand(-1, -1, self.mean.shape[1])
        elites = self._asked.gather(1, best)
        self.mean = self.smoothing * self.mean + (1 - self.smoothing) * elites.mean(1)
        spread = self.smoothing * self.std + (1 - self.smoothing) * elites.std(1, correction=0)
        self.std = spread.clamp(min=self.least_std)
        self._asked = None
