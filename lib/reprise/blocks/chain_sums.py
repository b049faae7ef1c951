"""Chain sums: a reasoning task so small that every solution can be checked, step by step.

A query is a row of digits, say 3 8 5. A solution adds them up one by one, in any order, modulo 10:

    query      3 8 5 =
    solution   b 8 a 1 c 6      pick operand b, sum 8; pick a, sum 1; pick c, sum 6

So a query of n operands has n! valid solutions, and "several different right solutions" means something. The *answer
check* looks at the last sum only and is fooled by lucky chains, one in ten at chance; the *step check* judges
each step.

Tokens: residues 0..modulus-1, then the names of operands (a, b, c, ...), then "=". A solution has two tokens per step.
Queries are integers in [0, modulus)^operands; leading axes are free: (runs, queries, samples, ...).
"""

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from reprise.blocks.seeds import RunRNG
from reprise.blocks.training import cross_entropy
from reprise.blocks.transformer import StackedTransformer, sample

NAMES = "abcdefghijkl"


@dataclass(frozen=True)
class Check:
    """What is right about solutions."""

    answer: Bool[Tensor, "*batch"]  # the last sum is the sum of all operands
    steps: Bool[Tensor, "*batch steps"]  # the step picks an unused operand and adds it to the sum written before

    @property
    def valid(self) -> Bool[Tensor, "*batch"]:
        """Every step is right, which makes the answer right, too."""
        return self.steps.all(-1)


@dataclass(frozen=True)
class ChainSums:
    """The task.

    Attributes:
        modulus: of all sums; digits are below it.
        operands: digits of a query.
        most_operands: names of operands in the vocabulary, where one network serves tasks of several sizes; 0 takes
            `operands`.
    """

    modulus: int = 10
    operands: int = 3
    most_operands: int = 0

    def __post_init__(self):
        most = self.most_operands or self.operands
        if self.modulus < 2 or not 1 <= self.operands <= most <= len(NAMES):
            raise ValueError(
                f"chain sums need a modulus of at least 2 and 1 to {len(NAMES)} operands, no more than most_operands; "
                f"got modulus {self.modulus}, {self.operands} operands, most_operands {self.most_operands}"
            )

    @property
    def separator(self) -> int:
        """The token "=" that ends a prompt."""
        return self.modulus + (self.most_operands or self.operands)

    @property
    def vocabulary(self) -> int:
        return self.separator + 1

    @property
    def prompt_length(self) -> int:
        return self.operands + 1

    @property
    def solution_length(self) -> int:
        return 2 * self.operands

    def queries(self) -> Int[Tensor, "queries operands"]:
        """All of them, modulus ** operands rows; for many operands use `draw`."""
        digits = torch.arange(self.modulus)
        return torch.cartesian_prod(*[digits] * self.operands).view(-1, self.operands)

    def draw(self, rng: RunRNG, count: int) -> Int[Tensor, "runs count operands"]:
        """Different queries in random order, for every run its own.

        Raises:
            ValueError: there are fewer queries than that.
        """
        every = self.modulus**self.operands
        if count > every:
            raise ValueError(f"there are {every} queries of {self.operands} operands, not {count}; ask for fewer")
        number = rng.permutation(every)[:, :count]
        places = self.modulus ** torch.arange(self.operands - 1, -1, -1, device=number.device)
        return number.unsqueeze(-1) // places % self.modulus

    def orders(self) -> Int[Tensor, "orders operands"]:
        """All orders in which operands can be picked."""
        return torch.tensor(list(itertools.permutations(range(self.operands))))

    def prompts(self, queries: Int[Tensor, "*batch operands"]) -> Int[Tensor, "*batch prompt"]:
        """Tokens of the queries, with "=" at the end."""
        return F.pad(queries, (0, 1), value=self.separator)

    def answers(self, queries: Int[Tensor, "*batch operands"]) -> Int[Tensor, "*batch"]:
        """Their sums."""
        return queries.sum(-1) % self.modulus

    def solve(
        self, queries: Int[Tensor, "*batch operands"], orders: Int[Tensor, "*batch operands"]
    ) -> Int[Tensor, "*batch solution"]:
        """The valid solutions that pick operands in these orders (permutations of 0..operands-1)."""
        sums = queries.gather(-1, orders).cumsum(-1) % self.modulus
        return torch.stack([orders + self.modulus, sums], -1).flatten(-2)

    def check(self, queries: Int[Tensor, "*batch operands"], solutions: Int[Tensor, "*batch solution"]) -> Check:
        """Judge solutions; any tokens are allowed, a malformed step is a wrong step.

        A step is judged against the sum that was *written* before it, so one slip makes one wrong step.
        """
        if solutions.shape[-1] != self.solution_length or queries.shape[-1] != self.operands:
            raise ValueError(
                f"queries have {self.operands} digits and solutions {self.solution_length} tokens, "
                f"not {queries.shape[-1]} and {solutions.shape[-1]}"
            )
        picked, sums = (solutions[..., i::2] for i in (0, 1))
        place = picked - self.modulus
        is_name = (place >= 0) & (place < self.operands)
        used = F.one_hot(place.clamp(0, self.operands - 1), self.operands) * is_name.unsqueeze(-1)
        is_fresh = ((used.cumsum(-2) - used) * used).sum(-1) == 0
        digit = (used * queries.unsqueeze(-2)).sum(-1)
        before = F.pad(sums[..., :-1], (1, 0))  # the empty sum is zero
        adds_up = sums == (before + digit) % self.modulus
        return Check(sums[..., -1] == self.answers(queries), is_name & is_fresh & adds_up)

    def code(self, solutions: Int[Tensor, "*batch solution"]) -> Int[Tensor, "*batch"]:
        """One integer per solution, different for different solutions."""
        powers = self.vocabulary ** torch.arange(solutions.shape[-1], device=solutions.device)
        return (solutions * powers).sum(-1)

    def write(self, tokens: Int[Tensor, " length"]) -> str:
        """Tokens as text, separated by spaces."""
        return " ".join(self._words()[int(token)] for token in tokens)

    def read(self, text: str) -> Int[Tensor, " length"]:
        """Text as tokens; the inverse of `write`.

        Raises:
            ValueError: a word is no token.
        """
        words = self._words()
        unknown = [word for word in text.split() if word not in words]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no token of this task; use {' '.join(words)}, separated by spaces")
        return torch.tensor([words.index(word) for word in text.split()], dtype=torch.long)

    def _words(self) -> list[str]:
        return [*map(str, range(self.modulus)), *NAMES[: self.separator - self.modulus], "="]


# --- solvers --------------------------------------------------------------------------------------


def tempered(model: StackedTransformer, temperature: Float[Tensor, " runs"]) -> StackedTransformer:
    """A copy that samples at a temperature of each run's own: its read-out, hence every logit, is divided by it.

    Raises:
        ValueError: a temperature is not positive; for the limit of zero sample at temperature 0, which is greedy.
    """
    if not (temperature > 0).all():
        raise ValueError("temperatures are positive; for greedy solutions use attempts(..., None)")
    params = model.params.select(slice(None))
    with torch.no_grad():
        for name in ("unembed.weight", "unembed.bias"):
            if name in params:
                params[name].div_(temperature.view(-1, 1, 1))
    return model.with_params(params)


def attempts(
    task: ChainSums,
    model: StackedTransformer,
    queries: Int[Tensor, "runs queries operands"],
    samples: int,
    temperature: float | Float[Tensor, " runs"] | None,
    rng: RunRNG,
) -> Int[Tensor, "runs queries samples solution"]:
    """Solutions that a model writes.

    Args:
        samples: per query.
        temperature: of all runs or of each; None takes the most likely token every time.
        rng: takes the same number of draws whatever the temperature, so conditions can share it.
    """
    prompts = task.prompts(queries).repeat_interleave(samples, 1)
    if temperature is not None:
        each = torch.as_tensor(temperature, dtype=torch.float32, device=queries.device).expand(model.runs)
        model = tempered(model, each)
    drawn = sample(model, prompts, task.solution_length, rng, temperature=0 if temperature is None else 1)
    return drawn.unflatten(1, (queries.shape[1], samples))


def solution_loss(
    task: ChainSums,
    model: StackedTransformer,
    queries: Int[Tensor, "runs batch operands"],
    solutions: Int[Tensor, "runs batch solution"],
) -> Float[Tensor, " runs"]:
    """Mean cross-entropy per token of the solutions given the queries, in nats; prompts are not learned."""
    tokens = torch.cat([task.prompts(queries), solutions], -1)
    logits = model(tokens[..., :-1])[:, :, task.operands :]
    return cross_entropy(logits, solutions)


# --- rewards --------------------------------------------------------------------------------------


def noisy_scores(
    steps: Bool[Tensor, "*batch steps"], noise: Float[Tensor, "*batch steps"], gain: float = 3.0
) -> Float[Tensor, "*batch steps"]:
    """A stand-in for a trained process reward model: the truth about each step, blurred.

    Args:
        steps: which steps are valid.
        noise: standard normal; the score is σ(gain (2 valid - 1) + noise).
        gain: how well the stand-in sees; 0 is blind, 3 errs in about one step of a thousand.
    """
    return torch.sigmoid(gain * (2.0 * steps - 1) + noise)


def rewards(answer: Bool[Tensor, "*batch"], scores: Float[Tensor, "*batch steps"]) -> Float[Tensor, "*batch"]:
    """Answer match plus the worst step's score, the latter mapped to [-1, 1]; so from -1 to 2."""
    return answer + 2 * scores.amin(-1) - 1


def first_of_each(codes: Int[Tensor, "*batch samples"], among: Bool[Tensor, "*batch samples"]) -> Tensor:
    """Marks the first occurrence of every different code among the marked samples; (*batch, samples), boolean."""
    same = (codes.unsqueeze(-1) == codes.unsqueeze(-2)) & among.unsqueeze(-2)
    earlier = torch.ones(same.shape[-2:], dtype=torch.bool, device=codes.device).tril(-1)
    return among & ~(same & earlier).any(-1)


def select(
    codes: Int[Tensor, "runs queries samples"],
    reward: Float[Tensor, "runs queries samples"],
    threshold: Float[Tensor, " runs"],
    target: float | int = math.inf,
) -> Bool[Tensor, "runs queries samples"]:
    """Which samples to learn from: reward above the threshold, no duplicates, the best m of every query.

    Args:
        codes: equal for equal solutions.
        reward: of each sample; of equal solutions the best-rewarded is kept.
        threshold: τ of each run; -inf keeps all that differ.
        target: m is the smallest number, per run, with which at least so many are kept in all; or all of them.
    """
    order = reward.argsort(dim=-1, descending=True, stable=True)
    passes = (reward > threshold.view(-1, 1, 1)).gather(-1, order)
    fresh = first_of_each(codes.gather(-1, order), passes)
    rank = torch.where(fresh, fresh.cumsum(-1), 0)
    most = torch.arange(1, codes.shape[-1] + 1, device=codes.device)
    totals = ((rank.unsqueeze(-1) <= most) & fresh.unsqueeze(-1)).flatten(1, 2).sum(1)  # (runs, m)
    enough = (totals < target).sum(1) + 1  # the smallest m that suffices; beyond the last one, all
    kept = fresh & (rank <= enough.view(-1, 1, 1))
    return torch.zeros_like(kept).scatter(-1, order, kept)


# --- what is measured -----------------------------------------------------------------------------


def pass_at_k(correct: Int[Tensor, "*batch"], samples: int, k: int) -> Float[Tensor, "*batch"]:
    """Probability that k of the samples, drawn without replacement, contain a correct one: 1 - C(n-c, k) / C(n, k).

    Unbiased for the chance that k fresh samples do (Chen et al., arXiv 2107.03374, eq. 1).

    Args:
        correct: c, number of correct ones among the samples.
        samples: n.
        k: at most n.
    """
    if not 1 <= k <= samples or (correct > samples).any() or (correct < 0).any():
        raise ValueError(f"pass@k needs 1 <= k <= samples and 0 <= correct <= samples; got k {k} of {samples} samples")
    wrong = (samples - correct).double()
    fail = torch.ones_like(wrong)
    for i in range(k):
        fail = fail * ((wrong - i).clamp(min=0) / (samples - i))
    return (1 - fail).float()


def distinct_count(
    codes: Int[Tensor, "*batch samples"], among: Bool[Tensor, "*batch samples"]
) -> Int[Tensor, "*batch"]:
    """How many different codes there are among the marked samples."""
    return first_of_each(codes, among).sum(-1)


def pairs_that_differ(
    codes: Int[Tensor, "runs queries samples"], among: Bool[Tensor, "runs queries samples"]
) -> Float[Tensor, " runs"]:
    """Share of pairs of marked samples of one query that are different, over all queries of a run.

    Unlike the number of different samples per sample it does not fall merely because there are more samples. NaN
    where no query has two.
    """
    pair = among.unsqueeze(-1) & among.unsqueeze(-2)
    pair = pair & ~torch.eye(codes.shape[-1], dtype=torch.bool, device=codes.device)
    differ = pair & (codes.unsqueeze(-1) != codes.unsqueeze(-2))
    return differ.flatten(1).sum(1) / pair.flatten(1).sum(1)


def correct_of_best(
    right: Bool[Tensor, "*batch samples"], reward: Float[Tensor, "*batch samples"], best: int
) -> Float[Tensor, "*batch"]:
    """Reward@K-S: share of right ones among the S best-rewarded of K samples."""
    top = reward.topk(best, -1).indices
    return right.gather(-1, top).float().mean(-1)


def never_seen(
    seen: Int[Tensor, "seen operands"], queries: Int[Tensor, "queries operands"]
) -> Bool[Tensor, " queries"]:
    """Which queries do not occur in `seen` in any order of their digits."""
    known = {tuple(row) for row in seen.sort(-1).values.tolist()}
    return torch.tensor([tuple(row) not in known for row in queries.sort(-1).values.tolist()], dtype=torch.bool)
