"""Induction heads: three subcircuits whose product appears abruptly, taken apart by clamps during training.

Singh et al., "What needs to go right for an induction head?", ICML 2024 (arXiv 2404.07129). A two-layer,
attention-only transformer reads two exemplar-label pairs and a query, (e1, l1, e2, l2, q), with labels drawn anew
for every sequence, and names the label that followed the query's class. Subcircuits: A, layer 1 writes the previous
token into each label's position; B, a layer-2 head matches the query with it; C, that head copies the label out.

Names: `classes` C, `labels` L, `runs` = conditions x seeds with the seeds next to each other, `strength` of a layer-2
head = attention from the query to the correct label minus to the wrong one. Losses are in nats.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from reprise.blocks.seeds import FlatAdam, ParameterStore, RunRNG, StackedLinear
from reprise.blocks.transformer import Clamp, Shape, StackedEmbedding, StackedTransformer, clamp

LABEL_PLACES = (1, 3)  # positions of the two labels in (e1, l1, e2, l2, q)
SHIFT = (
    0,
    0,
    1,
    2,
    4,
)  # clamp A: whose embedding position p receives; the first and the query keep their own
FORBIDDEN = -1e9


@dataclass(frozen=True)
class Settings:
    """Sizes of task, network and training; times are in training steps."""

    classes: int = 50
    labels: int = 5
    features: int = 64  # of an exemplar
    width: int = 64
    heads: int = 8
    batch: int = 32
    learning_rate: float = 1e-3
    steps: int = 360
    clamped_steps: int = 120  # of networks that need no longer because a subcircuit is given
    every: int = 10  # steps between evaluations
    evaluated: int = 512  # fixed sequences per evaluation
    single_heads: tuple[int, ...] = (0, 1)
    clamp_starts: tuple[int, ...] = (60, 120, 180)  # for clamps that begin later
    after: int = 60  # steps that are watched from there


QUICK = Settings()
FULL = Settings(
    features=256,
    learning_rate=5e-4,
    steps=800,
    clamped_steps=240,
    single_heads=tuple(range(8)),
    clamp_starts=(100, 200, 300),
    after=150,
)


# --- the task -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What a seed fixes: class prototypes μ_c and which label pairs are seen in training."""

    seen: Float[Tensor, "seeds classes features"]
    unseen: Float[Tensor, "seeds classes features"]
    train_pairs: Int[Tensor, "seeds pairs 2"]
    test_pairs: Int[Tensor, "seeds others 2"]


@dataclass(frozen=True)
class Batch:
    """Sequences (e1, l1, e2, l2, q); `match` says whether q is of the first or the second class."""

    exemplars: Float[Tensor, "runs batch 3 features"]
    labels: Int[Tensor, "runs batch 2"]
    match: Int[Tensor, "runs batch"]

    @property
    def target(self) -> Int[Tensor, "runs batch"]:
        """The label to name."""
        return self.labels.gather(-1, self.match.unsqueeze(-1)).squeeze(-1)

    def tiled(self, times: int) -> "Batch":
        """The same sequences for `times` conditions: runs = conditions x seeds."""
        return Batch(*(t.repeat(times, *[1] * (t.ndim - 1)) for t in (self.exemplars, self.labels, self.match)))

    def at(self, index: slice | int) -> "Batch":
        """Part of the batch axis; an index keeps the axis."""
        index = slice(index, index + 1) if isinstance(index, int) else index
        return Batch(self.exemplars[:, index], self.labels[:, index], self.match[:, index])


def make_task(seeds: Sequence[int], s: Settings, device: str | torch.device = "cpu") -> Task:
    """Prototypes N(0, I) and a random 80 : 20 split of the label pairs.

    Features of variance one make embeddings of variance one, as large as what an attention head writes.
    """
    if s.labels < 3 or s.classes < 2:
        raise ValueError("the task needs at least 2 classes and 3 labels, so that a label pair can be held out")
    rng = RunRNG(seeds, "task")
    seen, unseen = (rng.normal(s.classes, s.features) for _ in range(2))
    pairs = torch.tensor(list(combinations(range(s.labels), 2)))
    mixed = pairs[rng.permutation(len(pairs))]
    cut = round(0.8 * len(pairs))
    return Task(*(t.to(device) for t in (seen, unseen, mixed[:, :cut], mixed[:, cut:])))


def draw_batch(
    task: Task,
    rng: RunRNG,
    batch: int,
    unseen_pairs: bool = False,
    unseen_classes: bool = False,
    noise: float = 0.0,
    fixed_labels: bool = False,
) -> Batch:
    """Fresh sequences, one batch per seed.

    Args:
        task: of the same seeds as `rng`.
        rng: random numbers.
        batch: sequences per seed.
        unseen_pairs: labels from the held-out pairs.
        unseen_classes: classes that training never shows.
        noise: standard deviation of what is added to every feature, for new exemplars of a class.
        fixed_labels: every class keeps one label for ever (class modulo labels), so that context is not needed.
    """
    device = task.seen.device
    prototypes = task.unseen if unseen_classes else task.seen
    pairs = task.test_pairs if unseen_pairs else task.train_pairs
    seeds, count, features = prototypes.shape
    first, match, pick, flip = (rng.randint(high, batch) for high in (count, 2, pairs.shape[1], 2))
    second = (first + 1 + rng.randint(count - 1, batch)) % count
    row = torch.arange(seeds).view(-1, 1)
    labels = pairs[row, pick.to(device)]
    labels = torch.where(flip.bool().to(device).unsqueeze(-1), labels.flip(-1), labels)
    if fixed_labels:
        amount = int(task.train_pairs.max()) + 1
        second = torch.where((second - first) % amount == 0, (second + 1) % count, second)
        labels = torch.stack([first, second], -1).to(device) % amount
    classes = torch.stack([first, second, torch.where(match == 0, first, second)], -1).to(device)
    exemplars = prototypes[row.unsqueeze(-1), classes]
    if noise:
        exemplars = exemplars + noise * rng.normal(batch, 3, features).to(device)
    return Batch(exemplars, labels, match.to(device))


# --- conditions: what is clamped in which run -----------------------------------------------------


@dataclass(frozen=True)
class Condition:
    """What is clamped in every forward pass of a network, in training and evaluation alike.

    Attributes:
        name: for figures.
        head: the only active layer-2 head; None for all.
        a: layer 1 is done, its output replaced by embeddings shifted by one position (patterns) or plain (values).
        b: the match is done, the active head looks at the correct label only.
        c: the copy is done, the head's two scores are the logits of the two labels.
        layer1: "free"; "silent" values; "blind" to the previous position; or its head 0 always looks one position
            back ("previous") or, as a control, two ("wrong").
    """

    name: str
    head: int | None = 0
    a: bool = False
    b: bool = False
    c: bool = False
    layer1: str = "free"

    def __post_init__(self):
        if (self.b or self.c) and self.head is None:
            raise ValueError("clamps B and C act on one layer-2 head; say which one is active")
        if self.b and self.c:
            raise ValueError("with B and C clamped nothing that is trained reaches the loss; clamp one of them")


ALL = Condition("all heads", head=None)
NONE = Condition("no clamp")
A, C = Condition("A", a=True), Condition("C", c=True)
AB, AC = Condition("A+B", a=True, b=True), Condition("A+C", a=True, c=True)
ONE_LAYER, BLIND = Condition("one layer", layer1="silent"), Condition("cannot look back", layer1="blind")
PREVIOUS, WRONG = (
    Condition("one head looks one back", layer1="previous"),
    Condition("two back", layer1="wrong"),
)


def single(head: int) -> Condition:
    """Only this layer-2 head is active."""
    return NONE if head == 0 else Condition(f"head {head} alone", head=head)


def clamps_for(
    conditions: Sequence[Condition], batch: Batch, embedded: Float[Tensor, "runs batch 5 width"], s: Settings
) -> list[Clamp]:
    """The clamps of a stack of networks, each acting only in the runs of the conditions that ask for it."""
    seeds, device = len(embedded) // len(conditions), embedded.device

    def runs(asked: Sequence[bool], axes: int) -> Bool[Tensor, "..."]:
        return torch.tensor(asked, device=device).repeat_interleave(seeds).view(-1, *[1] * axes)

    made = []
    heads = torch.arange(s.heads, device=device).view(1, 1, -1, 1, 1)
    active = torch.tensor([-1 if c.head is None else c.head for c in conditions], device=device)
    active = active.repeat_interleave(seeds).view(-1, 1, 1, 1, 1)
    if any(c.head is not None for c in conditions):
        made.append(clamp("1.mix", (heads != active) & (active >= 0), 0.0))  # as values of zero, but cheaper
    if any(c.a for c in conditions):
        asked = runs([c.a for c in conditions], 3)
        made.append(clamp("0.residual", asked, embedded))
        made.append(clamp("1.pattern_input", asked, embedded[:, :, SHIFT]))
    if any(c.b for c in conditions):
        places = torch.tensor(LABEL_PLACES, device=device)[batch.match]
        correct = F.one_hot(places, 5).to(embedded.dtype)[:, :, None, None]
        made.append(clamp("1.pattern", runs([c.b for c in conditions], 4) & (heads == active), correct))
    if any(c.c for c in conditions):
        made.append(clamp("logits", runs([c.c for c in conditions], 3), _copied(batch, active, s.labels)))
    return made + _layer1_clamps(conditions, runs, heads)


def _copied(batch: Batch, active: Tensor, labels: int):
    """Clamp C as a function: logits that are the active head's scores of the two labels in context."""

    def logits(now: Tensor, earlier) -> Tensor:
        own = active.clamp(min=0).expand(-1, now.shape[1], -1, 1, 5)
        scores = earlier["1.score"].gather(2, own)[:, :, 0, :, LABEL_PLACES]
        return torch.full_like(now, FORBIDDEN).scatter(-1, batch.labels.unsqueeze(-2), scores)

    return logits


def _layer1_clamps(conditions: Sequence[Condition], runs, heads: Tensor) -> list[Clamp]:
    made, wanted = [], [c.layer1 for c in conditions]
    unknown = set(wanted) - {"free", "silent", "blind", "previous", "wrong"}
    if unknown:
        raise ValueError(f"unknown layer1 {unknown.pop()!r}; choose free, silent, blind, previous or wrong")
    if "silent" in wanted:
        made.append(clamp("0.value", runs([w == "silent" for w in wanted], 4), 0.0))
    back = torch.ones(5, 5, dtype=torch.bool, device=heads.device)
    if "blind" in wanted:
        one_back = (back.tril(-1) & back.triu(-1)).view(1, 1, 1, 5, 5)
        made.append(clamp("0.score", runs([w == "blind" for w in wanted], 4) & one_back, FORBIDDEN))
    for word, offset in (("previous", 1), ("wrong", 2)):
        if word in wanted:
            looked_at = (torch.arange(5, device=heads.device) - offset).clamp(min=0)
            pattern = F.one_hot(looked_at, 5).float().view(1, 1, 1, 5, 5)
            made.append(clamp("0.pattern", runs([w == word for w in wanted], 4) & (heads == 0), pattern))
    return made


# --- networks and training ------------------------------------------------------------------------


def make_networks(seeds: Sequence[int], s: Settings, device: str | torch.device = "cpu") -> StackedTransformer:
    """Two attention-only blocks per seed, with the embeddings of exemplars and labels in the same store."""
    shape = Shape(s.width, s.heads, layers=2, outputs=s.labels, context=5)
    exemplar = StackedLinear("exemplar", s.features, s.width, init="lecun")
    return StackedTransformer(seeds, shape, [exemplar, StackedEmbedding("label", s.labels, s.width)], device)


def embed(networks: StackedTransformer, batch: Batch) -> Float[Tensor, "runs batch 5 width"]:
    """Vectors of e1, l1, e2, l2, q."""
    params, width = networks.params, networks.shape.width
    exemplars = StackedLinear("exemplar", batch.exemplars.shape[-1], width)(params, batch.exemplars)
    labels = StackedEmbedding("label", len(params["label.weight"][0]), width)(params, batch.labels)
    pairs = torch.stack([exemplars[:, :, :2], labels], 3).flatten(2, 3)
    return torch.cat([pairs, exemplars[:, :, 2:]], 2)


def look(
    networks: StackedTransformer,
    conditions: Sequence[Condition],
    batch: Batch,
    s: Settings,
    names: Sequence[str] = (),
) -> dict[str, Tensor]:
    """One clamped forward pass, last position only: "logits" (runs, batch, L) and the named activations."""
    vectors = embed(networks, batch)
    clamps = clamps_for(conditions, batch, vectors, s)
    seen = networks.record(vectors, ["logits", *names], clamps=clamps, last_only=True)
    return seen | {"logits": seen["logits"][:, :, 0]}


def losses(logits: Float[Tensor, "runs batch labels"], target: Int[Tensor, "runs batch"]) -> Float[Tensor, " runs"]:
    """Mean cross-entropy per run, in nats."""
    return (logits.logsumexp(-1) - logits.gather(-1, target.unsqueeze(-1)).squeeze(-1)).mean(-1)


def strength(pattern: Float[Tensor, "runs batch heads 1 5"], batch: Batch) -> Float[Tensor, "runs heads"]:
    """Induction strength: attention of the query to the correct minus to the wrong label, in [-1, 1]."""
    first, second = (pattern[:, :, :, 0, place] for place in LABEL_PLACES)
    sign = 1 - 2 * batch.match.unsqueeze(-1)
    return ((first - second) * sign).mean(1)


@dataclass(frozen=True)
class Curves:
    """Measurements every `every` steps, before the first step included; `final` and `snapshots` can be continued."""

    conditions: tuple[Condition, ...]
    steps: Int[Tensor, " evaluations"]
    loss: Float[Tensor, "conditions seeds evaluations"]
    accuracy: Float[Tensor, "conditions seeds evaluations"]
    strength: Float[Tensor, "conditions seeds evaluations heads"]
    snapshots: dict[int, tuple[StackedTransformer, FlatAdam]]

    @property
    def final(self) -> StackedTransformer:
        """The networks after the last step, runs = conditions x seeds."""
        return self.snapshots[int(self.steps[-1])][0]

    def of(self, condition: Condition) -> "Curves":
        """One condition's curves (and no snapshots)."""
        i = self.conditions.index(condition)
        loss, accuracy, strength = self.loss[i : i + 1], self.accuracy[i : i + 1], self.strength[i : i + 1]
        return Curves((condition,), self.steps, loss, accuracy, strength, {})


def branch(curves: Curves, condition: Condition, step: int) -> tuple[int, StackedTransformer, FlatAdam]:
    """Networks of one condition as they were at a kept step, for `train(..., begin=...)`."""
    networks, optimizer = curves.snapshots[step]
    seeds, place = curves.loss.shape[1], curves.conditions.index(condition)
    rows = slice(place * seeds, (place + 1) * seeds)
    networks = networks.with_params(networks.params.select(rows))
    own = FlatAdam(networks.params, optimizer.learning_rate)
    for name in ("first", "second", "steps"):
        getattr(own, name).copy_(getattr(optimizer, name)[rows])
    return step, networks, own


def train(
    conditions: Sequence[Condition],
    seeds: Sequence[int],
    s: Settings,
    steps: int | None = None,
    device: str | torch.device = "cpu",
    keep: Sequence[int] = (),
    begin: tuple[int, StackedTransformer, FlatAdam] | None = None,
    fixed_labels: bool = False,
) -> Curves:
    """Train one network per condition and seed; a seed's networks share initial weights, sequences and their order.

    Args:
        conditions: what is clamped, see `Condition`.
        seeds: one integer per run.
        s: settings.
        steps: the last step; `s.steps` if not given.
        device: where to train.
        keep: steps whose networks and optimiser are kept, besides the last.
        begin: (step, networks of one condition and its seeds, their optimiser) from which every condition continues.
        fixed_labels: see `draw_batch`.
    """
    task, times, steps = make_task(seeds, s, device), len(conditions), s.steps if steps is None else steps
    start, source, moments = begin or (0, make_networks(seeds, s, device), None)
    networks = source.with_params(_tiled(source.params, times))
    optimizer = FlatAdam(networks.params, s.learning_rate)
    if moments is not None:
        _continue(optimizer, moments, times)
    test = draw_batch(task, RunRNG(seeds, "evaluation"), s.evaluated, fixed_labels=fixed_labels).tiled(times)
    rows, snapshots = [], {}
    for step in range(start, steps + 1):
        if step % s.every == 0 or step == steps:
            with torch.no_grad():
                rows.append((step, *_measure(networks, conditions, test, s)))
        if step in keep or step == steps:
            snapshots[step] = _copy(networks, optimizer)
        if step == steps:
            break
        if step % CHUNK == 0 or step == start:  # chunks have streams of their own: a run can begin anywhere
            drawn = draw_batch(
                task, RunRNG(seeds, f"train/{step // CHUNK}"), CHUNK * s.batch, fixed_labels=fixed_labels
            )
        place = step % CHUNK * s.batch
        batch = drawn.at(slice(place, place + s.batch)).tiled(times)
        networks.params.zero_grad()
        losses(look(networks, conditions, batch, s)["logits"], batch.target).sum().backward()
        optimizer.step()
    at, *measured = zip(*rows)
    loss, accuracy, strong = (torch.stack(m, 1).unflatten(0, (times, len(seeds))).cpu() for m in measured)
    return Curves(tuple(conditions), torch.tensor(at), loss, accuracy, strong, snapshots)


CHUNK = 100  # steps whose sequences are drawn at once


def _measure(networks: StackedTransformer, conditions: Sequence[Condition], test: Batch, s: Settings) -> tuple:
    seen = look(networks, conditions, test, s, ["1.pattern"])
    correct = (seen["logits"].argmax(-1) == test.target).float().mean(-1)
    return losses(seen["logits"], test.target), correct, strength(seen["1.pattern"], test)


def _tiled(params: ParameterStore, times: int) -> ParameterStore:
    return params.select(torch.arange(params.runs).repeat(times))


def _continue(optimizer: FlatAdam, earlier: FlatAdam, times: int) -> None:
    for name in ("first", "second", "steps"):
        getattr(optimizer, name).copy_(getattr(earlier, name).repeat(times, 1))


def _copy(networks: StackedTransformer, optimizer: FlatAdam) -> tuple[StackedTransformer, FlatAdam]:
    params = _tiled(networks.params, 1)
    twin = FlatAdam(params, optimizer.learning_rate)
    _continue(twin, optimizer, 1)
    return networks.with_params(params), twin


# --- what is read off the curves; one number per seed ---------------------------------------------


def smoothed(loss: Float[Tensor, "*batch evaluations"]) -> Float[Tensor, "*batch evaluations"]:
    """Running median of three evaluations; the first and the last stay."""
    middle = torch.stack([loss[..., :-2], loss[..., 1:-1], loss[..., 2:]]).median(0).values
    return torch.cat([loss[..., :1], middle, loss[..., -1:]], -1)


def first_step(
    steps: Int[Tensor, " evaluations"], reached: Bool[Tensor, "*batch evaluations"]
) -> Float[Tensor, "*batch"]:
    """First evaluated step at which something is true; the last step where it never is."""
    return torch.where(reached.any(-1), steps[reached.float().argmax(-1)], steps[-1]).float()


def t90(curves: Curves) -> Float[Tensor, "conditions seeds"]:
    """First evaluation with accuracy of at least 0.9."""
    return first_step(curves.steps, curves.accuracy >= 0.9)


def abruptness(curves: Curves) -> Float[Tensor, "conditions seeds"]:
    """ln [waiting / falling] of the card: the time from loss 1.0 to 0.6 over the time from 0.6 to 0.3."""
    loss, every = smoothed(curves.loss), curves.steps[1] - curves.steps[0]
    t10, t06, t03 = (first_step(curves.steps, loss <= level) for level in (1.0, 0.6, 0.3))
    # a network that never falls has not fallen abruptly: it counts as one that fell from its first wait on
    stuck = ~(loss <= 0.6).any(-1)
    waiting = torch.where(stuck, every, (t06 - t10).clamp(min=every))
    return torch.log(waiting / torch.where(stuck, t03 - t10, t03 - t06).clamp(min=every))


def emergence(curves: Curves, until_learned: bool = False) -> Float[Tensor, "conditions seeds"]:
    """Share of the rise of mean strength that falls into the drop of the loss, minus the drop's share of the steps.

    The card counts steps up to accuracy 0.98 and does not say where the rise ends. Here it ends with training, which
    is the reading that favors the claim less; with `until_learned` it ends where the steps end.
    """
    loss, mean = smoothed(curves.loss), curves.strength.mean(-1)
    last = len(curves.steps) - 1
    begin = last - (loss >= 0.65).float().flip(-1).argmax(-1)
    end = first_step(torch.arange(last + 1), loss <= 0.3).long().maximum(begin)
    learned = first_step(torch.arange(last + 1), curves.accuracy >= 0.98).long()

    def at(place: Tensor) -> Tensor:
        return mean.gather(-1, place.unsqueeze(-1)).squeeze(-1)

    rise = at(learned if until_learned else torch.full_like(learned, last)) - mean[..., 0]
    steps = curves.steps
    return (at(end) - at(begin)) / rise - (steps[end] - steps[begin]) / steps[learned]


def plateau_length(curves: Curves) -> Float[Tensor, "conditions seeds"]:
    """Training steps with evaluated loss between 0.60 and 0.85 nats, around ln 2, the loss of guessing."""
    every = curves.steps[1] - curves.steps[0]
    return ((curves.loss >= 0.60) & (curves.loss <= 0.85)).sum(-1) * every.float()


def wiring(networks: StackedTransformer, seeds: Sequence[int], s: Settings) -> tuple[Tensor, Tensor]:
    """Who feeds whom in trained all-heads networks, by silencing one layer-1 head at a time.

    Returns:
        Relative drops of induction strength (seeds, layer-1 head, layer-2 head), clipped to 0..1, and the strengths
        (seeds, layer-2 head) without silencing.
    """
    device = networks.params.device
    batch = draw_batch(make_task(seeds, s, device), RunRNG(seeds, "evaluation"), s.evaluated)
    with torch.no_grad():
        vectors = embed(networks, batch)

        def strengths(*clamps: Clamp) -> Tensor:
            seen = networks.record(vectors, ["1.pattern"], clamps=clamps, last_only=True)
            return strength(seen["1.pattern"], batch).cpu()

        whole = strengths()
        heads = torch.arange(s.heads, device=device).view(1, 1, -1, 1, 1)
        without = torch.stack([strengths(clamp("0.value", heads == i, 0.0)) for i in range(s.heads)], 1)
    return ((whole.unsqueeze(1) - without) / whole.unsqueeze(1)).clamp(0, 1), whole


def partners(
    drops: Float[Tensor, "seeds first second"], strengths: Float[Tensor, "seeds second"]
) -> Float[Tensor, " seeds"]:
    """The card's effect: fewer of the mean effective numbers of partners of rows and of columns, minus one."""
    effects = []
    for drop, strong in zip(drops, strengths):
        kept = drop[:, strong >= 0.2]
        numbers = []
        for lines in (kept, kept.T):
            lines = lines[(lines > 0.05).any(1)] if lines.numel() else lines[:0]
            # no induction head at all has no partners, which is as far from "many" as can be
            numbers.append((lines.sum(1) ** 2 / lines.square().sum(1)).mean() if len(lines) else torch.zeros(()))
        effects.append(min(numbers) - 1)
    return torch.stack(effects)


def generalization(
    networks: StackedTransformer, conditions: Sequence[Condition], seeds: Sequence[int], s: Settings, **what
) -> tuple[Tensor, Tensor]:
    """Accuracy (conditions, seeds) and induction strength (conditions, seeds, heads) on other sequences.

    Args:
        networks: runs = conditions x seeds.
        conditions: the clamps in force, which need not be those of training.
        seeds: of the networks.
        s: settings.
        what: how the sequences differ from training, see `draw_batch`.
    """
    task, times = make_task(seeds, s, networks.params.device), len(conditions)
    batch = draw_batch(task, RunRNG(seeds, "generalization"), s.evaluated, **what).tiled(times)
    with torch.no_grad():
        _, correct, strong = _measure(networks, conditions, batch, s)
    return tuple(m.unflatten(0, (times, len(seeds))).cpu() for m in (correct, strong))


def timing(seeds: Sequence[int], s: Settings, device: str | torch.device = "cpu") -> dict[tuple[int, int], Tensor]:
    """t90 under clamps A+C (only the match is left) and A+B (only the copy) for other numbers of classes and labels.

    Returns:
        (classes, labels) -> steps (2, seeds), evaluated every 2 steps.
    """
    found = {}
    for classes, labels in ((50, 5), (100, 5), (200, 5), (50, 10), (50, 15)):
        own = replace(s, classes=classes, labels=labels, every=2)
        found[classes, labels] = t90(train([AC, AB], seeds, own, steps=s.clamped_steps, device=device))
    return found


def shift_of_timing(times: dict[tuple[int, int], Tensor]) -> Float[Tensor, " seeds"]:
    """The card's effect: does the match mind more classes more than more labels, and the copy the reverse?"""
    classes = torch.log(times[200, 5] / times[50, 5])
    labels = torch.log(times[50, 15] / times[50, 5])
    return torch.minimum(classes[0] - labels[0], labels[1] - classes[1])


# --- the toy model --------------------------------------------------------------------------------


def toy(
    seeds: Sequence[int],
    clamped: str = "",
    n: int = 20,
    learning_rate: float = 1.0,
    steps: int = 1000,
    start_scale: float = 1.0,
) -> Float[Tensor, "seeds times"]:
    """Gradient descent on three vectors whose outer product should match a random a* ⊗ b* ⊗ c* (section 4).

    Args:
        seeds: each draws start and target, entries N(0, 1).
        clamped: letters of the factors that are held at their true values, such as "c" or "bc".
        n: length of each vector.
        learning_rate: η.
        steps: of gradient descent.
        start_scale: factor on the start of every vector.
    Returns:
        Losses ½ mean (a⊗b⊗c - a*⊗b*⊗c*)² after 0..steps steps.
    """
    if set(clamped) - set("abc"):
        raise ValueError(f"clamped names factors among a, b and c, not {clamped!r}")
    start, target = RunRNG(seeds, "toy").normal(2, 3, n).double().unbind(1)
    start = start_scale * start
    now = {name: (target if name in clamped else start)[:, i] for i, name in enumerate("abc")}
    true = {name: target[:, i] for i, name in enumerate("abc")}
    curve = []
    for _ in range(steps + 1):
        own = {name: v.square().sum(-1) for name, v in now.items()}
        both = {name: (v * true[name]).sum(-1) for name, v in now.items()}
        size = torch.stack([v.square().sum(-1) for v in true.values()]).prod(0)
        square = own["a"] * own["b"] * own["c"] - 2 * both["a"] * both["b"] * both["c"] + size
        curve.append(0.5 * square / n**3)
        steps_to = {}
        for name, others in (("a", "bc"), ("b", "ac"), ("c", "ab")):
            x, y = others
            pull = now[name] * (own[x] * own[y])[:, None] - true[name] * (both[x] * both[y])[:, None]
            steps_to[name] = now[name] if name in clamped else now[name] - learning_rate * pull / n**3
        now = steps_to
    return torch.stack(curve, -1).float()


def toy_time(losses: Float[Tensor, "seeds times"]) -> Float[Tensor, " seeds"]:
    """First step with loss at most a tenth of the first; the last step where it never is."""
    return first_step(torch.arange(losses.shape[-1]), losses <= losses[:, :1] / 10)


# --- tuning ---------------------------------------------------------------------------------------


TRIALS = {  # what tune() returned; the chapter shows it
    5e-4: {"no clamp": 358, "all heads": 332, "A": 104, "C": 86, "A+B": 38, "A+C": 58},
    1e-3: {"no clamp": 276, "all heads": 218, "A": 60, "C": 54, "A+B": 20, "A+C": 32},
    2e-3: {"no clamp": 200, "all heads": 170, "A": 36, "C": 36, "A+B": 14, "A+C": 20},
    3e-3: {"no clamp": 184, "all heads": 156, "A": 28, "C": 28, "A+B": 10, "A+C": 14},
}


def tune(
    seeds: Sequence[int] = range(5), s: Settings = QUICK, rates: Sequence[float] = (5e-4, 1e-3, 2e-3, 3e-3)
) -> dict[float, dict[str, float]]:
    """Mean t90 of each condition at each learning rate, every condition with the same steps and sequences.

    `QUICK` has the lowest rate at which the unclamped single-head network, the baseline of every clamp, reaches
    90 % within its steps for every seed; `FULL` has a lower one and more steps. Clamps take the rate over.
    """
    found = {}
    for rate in rates:
        own = replace(s, learning_rate=rate)
        long, short = (NONE, ALL), (A, C, AB, AC)
        times = [*t90(train(long, seeds, own)), *t90(train(short, seeds, own, steps=own.clamped_steps))]
        found[rate] = {c.name: float(t.mean()) for c, t in zip((*long, *short), times)}
    return found
