"""Population based training (PBT): networks that train side by side, copy the better ones and explore from there.

Jaderberg et al., "Population Based Training of Neural Networks", 2017 (arXiv 1711.09846).
Four experiments: the paper's toy quadratic, MNIST-1D with noisy labels, a GAN scored by something that has no gradient,
and (full profile) A2C agents on Acrobot. Symbols: θ weights, h hyper-parameters `population.values`, p `scores` (what
selection looks at), n members. Copying, exploring and the family tree are `reprise.blocks.population`.
Rounds are synchronous here: all members of a population are ready together. The paper's are asynchronous.
Axes: arms, seeds, members first; arms × seeds are the groups of the block, and arms of a seed share all their draws.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from reprise.blocks import acrobot
from reprise.blocks import population as pop
from reprise.blocks.a2c import AcrobotAgents
from reprise.blocks.data import mnist_1d
from reprise.blocks.population import Lineage, Population, Prior
from reprise.blocks.seeds import FlatAdam, FlatSGD, RunRNG, StackedMLP, generators
from reprise.blocks.training import cross_entropy, gather

PRIORS = (  # of MNIST-1D
    Prior("learning_rate", 1e-3, 1.0, log=True),
    Prior("weight_decay", 1e-6, 1e-2, log=True),
    Prior("input_noise", 0.0, 0.5),
)
NARROW_PRIORS = (Prior("learning_rate", 1e-2, 1e-1, log=True), *PRIORS[1:])  # where a good guess would look
GAN_PRIORS = (Prior("generator_rate", 1e-4, 1e-2, log=True), Prior("discriminator_rate", 1e-4, 1e-2, log=True))
RL_PRIORS = (
    Prior("learning_rate", 1e-4, 3e-2, log=True),
    Prior("entropy_weight", 1e-4, 1e-1, log=True),
    Prior("lambda", 0.7, 1.0),
)


@dataclass(frozen=True)
class Settings:
    """Sizes of all experiments; ready intervals in training steps."""

    toy_runs: int = 10  # independent toy populations behind the effect of one evidence seed
    members: int = 16
    hidden: tuple[int, ...] = (32, 32)
    steps: int = 600
    batch: int = 32
    momentum: float = 0.9
    label_noise: float = 0.15  # share of training labels that are wrong
    validation: int = 800
    every: int = 40  # steps between evaluations, in every arm
    ready: int = 40
    first_ready: int = 80
    fraction: float = 0.25
    factors: tuple[float, float] = (0.8, 1.2)
    replays: int = 4
    populations: tuple[int, ...] = ()  # further sizes n
    gan_members: int = 12
    gan_hidden: int = 32  # width of both hidden layers
    gan_latent: int = 2
    gan_batch: int = 64
    gan_betas: tuple[float, float] = (0.5, 0.9)
    gan_steps: int = 800
    gan_ready: int = 100
    gan_fraction: float = 0.25
    gan_factors: tuple[float, float] = (0.5, 2.0)
    rl_members: int = 16
    rl_steps: int = 200_000  # environment steps of one agent
    rl_ready: int = 10_000
    rl_envs: int = 8  # per agent
    rl_rollout: int = 16  # steps of every environment between updates
    rl_hidden: int = 64


QUICK = Settings()
FULL = Settings(toy_runs=5, populations=(4, 8, 16, 32, 64))  # and three times the seeds


# --- the toy quadratic ----------------------------------------------------------------------------


def objective(theta: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
    """Q(θ) = 1.2 - θ0² - θ1², which workers can evaluate but not differentiate."""
    return 1.2 - theta.square().sum(-1)


@dataclass(frozen=True)
class Toy:
    """Two workers through time; Q is `objective(theta)`."""

    theta: Float[Tensor, "runs steps 2 2"]  # (runs, steps + 1, workers, coordinates)
    copied: Int[Tensor, "runs steps 2"]  # 1 where a worker has just copied the other

    @property
    def best(self) -> Float[Tensor, " runs"]:
        """Q of the better worker at the end."""
        return objective(self.theta[:, -1]).amax(-1)


def toy_seeds(seeds: Sequence[int], runs: int) -> list[int]:
    """Seeds of the toy: `runs` independent pairs of workers for each seed, next to each other."""
    return [seed * 1000 + i for seed in seeds for i in range(runs)]


def toy(
    seeds: Sequence[int],
    copies: bool = True,
    perturbs: bool = True,
    *,
    copies_weights: bool = True,
    steps: int = 100,
    rate: float = 0.05,
    ready: int = 4,
    noise: float = 0.1,
    strict: bool = False,
) -> Toy:
    """Two workers ascend Q̂(θ|h) = 1.2 - h0 θ0² - h1 θ1² with their own h, from θ = (0.9, 0.9), h = (1, 0) and (0, 1).

    Args:
        seeds: one per pair of workers.
        copies: at a ready step the worse worker copies the other (θ and h).
        perturbs: it then adds normal noise to h, clipped to [0, 1.5]; without copying it perturbs its own h.
        copies_weights: False copies h alone.
        steps, rate: of gradient ascent.
        ready: steps between rounds.
        noise: standard deviation.
        strict: "copy if worse" taken literally, so that equal workers never copy.
    """
    runs, rng = len(seeds), RunRNG(seeds, "toy")
    theta = torch.full((2 * runs, 2), 0.9)
    priors = (Prior("h0", 0.0, 1.5), Prior("h1", 0.0, 1.5))
    workers = Population(priors, torch.eye(2).expand(runs, 2, 2), [theta])
    path, copied = [theta.clone()], [torch.zeros(runs, 2, dtype=torch.bool)]
    for step in range(1, steps + 1):
        theta -= rate * 2 * workers.values.view(-1, 2) * theta  # gradient of Q̂
        chosen = torch.zeros(runs, 2, dtype=torch.bool)
        if step % ready == 0 and step < steps:
            donors = pop.tournament(objective(theta).view(runs, 2), rng.uniform(2), strict)
            shift = noise * rng.normal(2, 2)
            chosen = workers.evolve(
                step, donors, lambda h, shift=shift: pop.clip(priors, h + shift),
                weights=copies and copies_weights, hyper=copies, explores=perturbs,
            )  # fmt: skip
        path.append(theta.clone())
        copied.append(chosen & copies)
    theta = torch.stack(path).view(steps + 1, runs, 2, 2).transpose(0, 1)
    return Toy(theta, torch.stack(copied, 1).long())


# --- what the arms of an experiment do ------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """One way to spend the budget. All arms start from the same draws and are evaluated at the same steps."""

    name: str
    copies_weights: bool = False
    copies_hyper: bool = False
    perturbs: bool = False
    cosine: bool = False  # learning rate falls from its drawn value to zero along a cosine
    factors: tuple[float, float] | None = None  # other than the settings'


PBT = Arm("PBT", copies_weights=True, copies_hyper=True, perturbs=True)
RANDOM = Arm("random search")
COSINE = Arm("random search + cosine", cosine=True)
EXPLOIT = Arm("exploit only", copies_weights=True, copies_hyper=True)
EXPLORE = Arm("explore only", perturbs=True)
HYPER = Arm("hyper-parameters only", copies_hyper=True, perturbs=True)
ARMS = (PBT, RANDOM, COSINE, EXPLOIT, EXPLORE, HYPER)


class _Evolution:
    """Rounds of exploit and explore for stacked arms: which arm does what, and the draws that arms of a seed share."""

    def __init__(self, arms: Sequence[Arm], seeds: Sequence[int], population: Population, factors, device):
        self.population, self.arms = population, len(arms)
        self.rng = RunRNG(seeds, "evolution", device)
        switches = {
            "weights": [arm.copies_weights for arm in arms],
            "hyper": [arm.copies_hyper for arm in arms],
            "explores": [arm.perturbs for arm in arms],
        }
        repeat = torch.tensor(list(switches.values()), device=device).repeat_interleave(len(seeds), 1)
        self.switches = dict(zip(switches, repeat))
        pairs = torch.tensor([arm.factors or factors for arm in arms], device=device)
        self.factors = pairs.repeat_interleave(len(seeds), 0)

    def draw(self, *shape: int) -> Tensor:
        """Uniforms (arms * seeds, *shape), the same for all arms of a seed."""
        return self.rng.uniform(*shape).repeat(self.arms, *[1] * len(shape))

    def round(self, step: int, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """One round; `choose` turns uniforms (groups, members) into donors. Returns which members had a donor."""
        population = self.population
        donors = choose(self.draw(population.members))
        uniforms = self.draw(population.members, len(population.priors))
        return population.evolve(
            step, donors, lambda h: pop.perturb(population.priors, h, uniforms, self.factors), **self.switches
        )


# --- MNIST-1D with noisy labels -------------------------------------------------------------------


MORE_TEST = 1_000_000  # seed + this makes 5,000 further test signals: with 1,000, the test is the noisiest part


@dataclass(frozen=True)
class Data:
    """One MNIST-1D per seed; only training labels are noisy."""

    seeds: tuple[int, ...]
    train_x: Float[Tensor, "seeds train 40"]
    train_y: Int[Tensor, "seeds train"]
    validation_x: Float[Tensor, "seeds validation 40"]
    validation_y: Int[Tensor, "seeds validation"]
    test_x: Float[Tensor, "seeds test 40"]
    test_y: Int[Tensor, "seeds test"]


def load(settings: Settings, seeds: Sequence[int], device: str | torch.device = "cpu") -> Data:
    """Signals of every seed, cut into training and validation; a share of training labels moves to another class."""
    x, y, test_x, test_y = mnist_1d(seeds)
    more = mnist_1d([seed + MORE_TEST for seed in seeds])
    test_x, test_y = torch.cat([test_x, more[0], more[2]], 1), torch.cat([test_y, more[1], more[3]], 1)
    cut = x.shape[1] - settings.validation
    rng = RunRNG(seeds, "label-noise")
    wrong = (y[:, :cut] + 1 + rng.randint(9, cut)) % 10
    train_y = torch.where(rng.uniform(cut) < settings.label_noise, wrong, y[:, :cut])
    parts = (x[:, :cut], train_y, x[:, cut:], y[:, cut:], test_x, test_y)
    return Data(tuple(seeds), *(part.to(device) for part in parts))


class Members:
    """Stacked networks (arms × seeds × members) with their hyper-parameters and optimiser.

    Member i of a seed starts from the same weights and hyper-parameters and sees the same batches and input noise in
    every arm: both belong to the place, so a copy goes on with other data than its donor.
    """

    def __init__(
        self,
        settings: Settings,
        data: Data,
        arms: Sequence[Arm],
        values: Float[Tensor, "groups members 3"] | None = None,
        stream: str = "member",
        priors: Sequence[Prior] = PRIORS,
    ):
        members = settings.members if values is None else values.shape[1]
        self.settings, self.data, self.arms, self.members, self.stream = settings, data, arms, members, stream
        seeds, device = data.seeds, data.train_x.device
        if values is None:
            values = pop.sample(priors, RunRNG(seeds, "hyper", device).uniform(members, 3)).repeat(len(arms), 1, 1)
        names = [g for seed in seeds for i in range(members) for g in generators([seed], f"{stream}/{i}")]
        mlp = StackedMLP(names, (40, *settings.hidden, 10), init="he_normal", device=device)
        everyone = torch.arange(len(names)).repeat(len(arms))
        self.network = mlp.with_params(mlp.params.select(everyone))
        self.optimizer = FlatSGD(self.network.params, 0.0, momentum=settings.momentum)
        self.population = Population(priors, values, pop.training_state(self.optimizer))
        self.order = RunRNG(seeds, f"{stream}/order", device, block=members * settings.batch * 16)
        self.noise = RunRNG(seeds, f"{stream}/noise", device, block=members * settings.batch * 40)
        self.cosine = torch.tensor([arm.cosine for arm in arms], device=device).repeat_interleave(len(seeds) * members)

    def train(self, begin: int, end: int) -> None:
        """SGD with momentum from step `begin` to step `end`, every member with its own current hyper-parameters."""
        params, optimizer, values = self.network.params, self.optimizer, self.population
        optimizer.weight_decay = values["weight_decay"]
        arms, rate = len(self.arms), values["learning_rate"]
        deviation = values["input_noise"].view(arms, -1, 1, 1)
        for step in range(begin, end):
            fall = 0.5 * (1 + math.cos(math.pi * step / self.settings.steps))
            optimizer.learning_rate = torch.where(self.cosine, fall * rate, rate)
            x, y, noise = self.batch()
            params.zero_grad()
            noisy = torch.addcmul(x, noise, deviation).flatten(0, 1)
            cross_entropy(self.network(noisy), y.repeat(arms, 1)).sum().backward()
            optimizer.step()

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Signals (rows, batch, 40), labels (rows, batch) and noise of unit variance, for the rows of one arm."""
        batch, rows = self.settings.batch, len(self.data.seeds) * self.members
        index = self.order.randint(self.data.train_x.shape[1], self.members * batch)
        x = gather(self.data.train_x, index).view(rows, batch, 40)
        y = gather(self.data.train_y, index).view(rows, batch)
        noise = self.noise.normal(self.members * batch * 40).view(rows, batch, 40)
        return x, y, noise

    @torch.no_grad()
    def accuracies(self, x: Tensor, y: Tensor) -> Float[Tensor, "groups members"]:
        """Accuracy (0-100) of every member on data (seeds, m, 40); 0 for networks that are not finite any more."""
        rows, leaves = len(x) * self.members, self.network.params.items()
        found = torch.zeros(len(self.arms), rows, device=x.device)
        for arm in range(len(self.arms)):  # in pieces that fit into the cache
            params = {name: leaf[arm * rows : (arm + 1) * rows] for name, leaf in leaves}
            fine = torch.ones(rows, dtype=torch.bool, device=x.device)
            for some_x, some_y in zip(x.split(250, 1), y.split(250, 1)):
                logits = self.network(some_x.repeat_interleave(self.members, 0), params=params)
                fine &= logits.sum((1, 2)).isfinite()
                found[arm] += 100 / y.shape[1] * (logits.argmax(-1) == some_y.repeat_interleave(self.members, 0)).sum(1)
            found[arm][~fine] = 0.0
        return found.view(-1, self.members)


@dataclass(frozen=True)
class Outcome:
    """What an experiment leaves; arms can be picked by name or position with `arm`."""

    arms: tuple[Arm, ...]
    steps: Int[Tensor, " evaluations"]
    scores: Float[Tensor, "arms seeds members evaluations"]  # p: what selection sees
    reported: Float[Tensor, "arms seeds members"]  # the same kind of number from data that selection never sees
    lineage: Lineage  # groups are arms × seeds

    def arm(self, arm: Arm) -> int:
        return self.arms.index(arm)

    def winner(self, arm: Arm) -> Int[Tensor, " seeds"]:
        """The member with the best p at the end, the first on ties."""
        return pop.best_member(self.scores[self.arm(arm), ..., -1])

    def final(self, arm: Arm) -> Float[Tensor, " seeds"]:
        """What is reported of the winner."""
        return self.reported[self.arm(arm)].gather(1, self.winner(arm)[:, None])[:, 0]

    def best_so_far(self, arm: Arm) -> Float[Tensor, "seeds evaluations"]:
        """Best p in the population at each evaluation."""
        return self.scores[self.arm(arm)].amax(1)

    def family(self, arm: Arm) -> Lineage:
        """The lineage of one arm, its groups the seeds."""
        runs = self.scores.shape[1]
        cut = slice(self.arm(arm) * runs, (self.arm(arm) + 1) * runs)
        return Lineage(self.lineage.steps, self.lineage.donors[:, cut], self.lineage.values[:, cut])


def compare(settings: Settings, data: Data, arms: Sequence[Arm] = ARMS, priors: Sequence[Prior] = PRIORS) -> Outcome:
    """Train all arms on MNIST-1D as one stack; p is validation accuracy, reported is test accuracy (both 0-100)."""
    members = Members(settings, data, arms, priors=priors)
    evolution = _Evolution(arms, data.seeds, members.population, settings.factors, data.train_x.device)
    scores, steps = [], []
    for begin in range(0, settings.steps, settings.every):
        end = min(begin + settings.every, settings.steps)
        members.train(begin, end)
        scores.append(members.accuracies(data.validation_x, data.validation_y))
        steps.append(end)
        if settings.first_ready <= end < settings.steps and end % settings.ready == 0:
            evolution.round(end, lambda u: pop.truncation(scores[-1], u, settings.fraction))
    shape = (len(arms), len(data.seeds), members.members)
    test = members.accuracies(data.test_x, data.test_y)
    history = torch.stack(scores, -1).view(*shape, -1)
    return Outcome(tuple(arms), torch.tensor(steps), history, test.view(shape), members.population.lineage())


def replay(settings: Settings, data: Data, outcome: Outcome) -> Float[Tensor, "2 seeds replays"]:
    """Test accuracy (0-100) of fresh networks under the winner's schedule (row 0) and under its last values (row 1)."""
    schedule = outcome.family(PBT).schedule(outcome.winner(PBT))  # (segments, seeds, 3)
    both = torch.stack([schedule, schedule[-1:].expand_as(schedule)], 1)  # (segments, 2, seeds, 3)
    values = both.flatten(1, 2)[:, :, None].expand(-1, -1, settings.replays, -1)
    fresh = Members(settings, data, (Arm("schedule"), Arm("last values")), values[0].clone(), stream="replay")
    ends = [*outcome.lineage.steps[1:], settings.steps]
    for begin, end, now in zip(outcome.lineage.steps, ends, values):
        fresh.population.values = now
        fresh.train(begin, end)
    return fresh.accuracies(data.test_x, data.test_y).view(2, len(data.seeds), settings.replays)


def time_saved(outcome: Outcome) -> Float[Tensor, " seeds"]:
    """1 - t/T: t is when PBT's best p first reaches random search's best p at the end T (t = T if never)."""
    hit = outcome.best_so_far(PBT) >= outcome.best_so_far(RANDOM)[:, -1:]
    hit[:, -1] = True
    first = outcome.steps.to(hit.device)[hit.float().argmax(1)]
    return 1 - first / outcome.steps[-1]


# --- a GAN scored by what has no gradient ---------------------------------------------------------

MODES, RADIUS, SPREAD = 8, 1.0, 0.05


def ring() -> Float[Tensor, "8 2"]:
    """Centres of the eight Gaussians."""
    angle = torch.arange(MODES) * (2 * math.pi / MODES)
    return RADIUS * torch.stack([angle.cos(), angle.sin()], -1)


def inception_score(points: Float[Tensor, "*batch n 2"]) -> Float[Tensor, "*batch"]:
    """exp E KL(p(y|x) ‖ p(y)), from 1 to 8, with the exact posterior of the mixture as classifier."""
    posterior = (-(points[..., None, :] - ring().to(points)).square().sum(-1) / (2 * SPREAD**2)).softmax(-1)
    marginal = posterior.mean(-2)
    return (torch.special.entr(marginal).sum(-1) - torch.special.entr(posterior).sum(-1).mean(-1)).exp()


def ring_score(points: Float[Tensor, "*batch n 2"]) -> Float[Tensor, "*batch"]:
    """The Inception score times the share of points within 3 standard deviations of a centre; 0 if not finite."""
    near = (torch.cdist(points, ring().to(points)).amin(-1) < 3 * SPREAD).float().mean(-1)
    return (inception_score(points) * near).nan_to_num(0.0)


def compare_gans(
    settings: Settings,
    seeds: Sequence[int],
    arms: Sequence[Arm] = (PBT, RANDOM),
    device: str | torch.device = "cpu",
    priors: Sequence[Prior] = GAN_PRIORS,
) -> tuple[Outcome, Float[Tensor, "arms seeds points 2"]]:
    """Train generators against discriminators (two hidden layers, non-saturating loss, Adam); p is `ring_score`.

    p uses 500 fresh points per evaluation, the reported score 5,000 others.

    Returns:
        The outcome, and 500 points of each winner.
    """
    members, runs, batch = settings.gan_members, len(seeds), settings.gan_batch
    latent_width, hidden = settings.gan_latent, (settings.gan_hidden, settings.gan_hidden)
    values = pop.sample(priors, RunRNG(seeds, "gan/hyper", device).uniform(members, 2)).repeat(len(arms), 1, 1)
    nets = []
    for name, sizes in (("generator", (latent_width, *hidden, 2)), ("discriminator", (2, *hidden, 1))):
        own = [g for seed in seeds for i in range(members) for g in generators([seed], f"gan/{name}/{i}")]
        mlp = StackedMLP(own, sizes, init="he_normal", device=device)
        nets.append(mlp.with_params(mlp.params.select(torch.arange(runs * members).repeat(len(arms)))))
    generator, discriminator = nets
    optimizers = [FlatAdam(net.params, 0.0, betas=settings.gan_betas) for net in nets]
    state = [tensor for optimizer in optimizers for tensor in pop.training_state(optimizer)]
    population = Population(priors, values, state)
    evolution = _Evolution(arms, seeds, population, settings.gan_factors, device)
    latent = RunRNG(seeds, "gan/latent", device, block=4 * members * batch * latent_width)
    real = RunRNG(seeds, "gan/real", device, block=members * batch * 8)
    looks = RunRNG(seeds, "gan/look", device)

    def stacked(rng: RunRNG, count: int, width: int) -> Tensor:
        return rng.normal(members * count * width).view(runs * members, count, width).repeat(len(arms), 1, 1)

    def look(count: int) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            parts = [generator(stacked(looks, 250, latent_width)) for _ in range(count // 250)]
            points = torch.cat(parts, 1)
            return ring_score(points).view(-1, members), points

    scores, steps = [], []
    for step in range(1, settings.gan_steps + 1):
        for optimizer, name in zip(optimizers, ("generator_rate", "discriminator_rate")):
            optimizer.learning_rate = population[name]
        centre = ring().to(device)[real.randint(MODES, members * batch)].view(runs * members, batch, 2)
        truth = centre.repeat(len(arms), 1, 1) + SPREAD * stacked(real, batch, 2)
        made = generator(stacked(latent, batch, latent_width))
        discriminator.params.zero_grad()
        judged = discriminator(torch.cat([truth, made.detach()], 1))
        (F.softplus(-judged[:, :batch]) + F.softplus(judged[:, batch:])).mean((1, 2)).sum().backward()
        optimizers[1].step()
        generator.params.zero_grad()
        F.softplus(-discriminator(made)).mean((1, 2)).sum().backward()
        optimizers[0].step()
        if step % settings.gan_ready == 0:
            scores.append(look(500)[0])
            steps.append(step)
            if step < settings.gan_steps:
                evolution.round(step, lambda u: pop.truncation(scores[-1], u, settings.gan_fraction))
    reported, points = look(5000)
    shape = (len(arms), runs, members)
    history = torch.stack(scores, -1).view(*shape, -1)
    outcome = Outcome(tuple(arms), torch.tensor(steps), history, reported.view(shape), population.lineage())
    winners = torch.stack([outcome.winner(arm) for arm in arms])[..., None, None, None]
    shown = points[:, :500].view(*shape, 500, 2)
    return outcome, shown.gather(2, winners.expand(-1, -1, 1, 500, 2))[:, :, 0]


# --- A2C agents on Acrobot (full profile) ---------------------------------------------------------


def compare_agents(
    settings: Settings, seeds: Sequence[int], arms: Sequence[Arm] = (PBT, RANDOM), device: str | torch.device = "cpu"
) -> Outcome:
    """Train A2C agents on Acrobot; h are learning rate, entropy weight and λ of generalised advantage estimation.

    Selection is the paper's t-test on the last 10 episode returns; p and the reported number are the mean return of the
    last 50 episodes. An agent's recent returns are part of what a copy takes along.
    """
    members, groups = settings.rl_members, len(arms) * len(seeds)
    agents = AcrobotAgents(seeds, members, len(arms), settings.rl_envs, settings.rl_rollout, settings.rl_hidden, device)
    values = pop.sample(RL_PRIORS, RunRNG(seeds, "rl/hyper", device).uniform(members, 3)).repeat(len(arms), 1, 1)
    population = Population(RL_PRIORS, values, [*pop.training_state(agents.optimizer), agents.recent])
    evolution = _Evolution(arms, seeds, population, settings.factors, device)
    updates = settings.rl_ready // (settings.rl_envs * settings.rl_rollout)
    rounds, scores, steps = settings.rl_steps // settings.rl_ready, [], []
    for turn in range(1, rounds + 1):
        for _ in range(updates):
            agents.update(population["learning_rate"], population["entropy_weight"], population["lambda"])
        recent = agents.recent.view(groups, members, -1)
        scores.append(recent.mean(-1))
        steps.append(turn * updates * settings.rl_envs * settings.rl_rollout)
        if turn < rounds:
            evolution.round(steps[-1], lambda u, recent=recent: pop.t_test(recent[..., -10:], u))
    history = torch.stack(scores, -1).view(len(arms), len(seeds), members, -1)
    return Outcome(tuple(arms), torch.tensor(steps), history, history[..., -1], population.lineage())


def normalised(returns: Float[Tensor, "*runs"]) -> Float[Tensor, "*runs"]:
    """Acrobot returns so that 0 is the random policy, which as good as never arrives within 500 steps, and 1 is -80."""
    return (returns + acrobot.MOST_STEPS) / (acrobot.MOST_STEPS - 80)


# --- tuning ---------------------------------------------------------------------------------------

RATE_RANGES = ((1e-3, 1.0), (1e-2, 1.0), (3e-3, 0.3), (1e-2, 0.3), (1e-3, 0.1), (1e-2, 0.1))
GAN_RATE_RANGES = ((1e-4, 1e-2), (3e-4, 1e-2), (1e-3, 1e-2), (3e-4, 3e-2), (1e-3, 3e-2), (3e-4, 3e-3))
BOTH_FACTORS = ((0.8, 1.2), (0.5, 2.0))


def tune(
    settings: Settings = QUICK, seeds: Sequence[int] = tuple(range(10)), device: str | torch.device = "cpu"
) -> dict[str, dict[tuple, float]]:
    """Best score p at the end (mean over tuning seeds) of six trials for PBT and six for random search, twice.

    PBT's trials are pairs (ready interval, factors); random search's are ranges of the learning rates, since it has
    nothing else to choose. Both are chosen by p, never by what is reported.
    """
    if max(seeds) >= 100:
        raise ValueError("tuning uses seeds 0 to 99; evidence starts at 100")
    variants = tuple(replace(PBT, name=str(factors), factors=factors) for factors in BOTH_FACTORS)
    data, rows = (
        load(settings, seeds, device),
        {"PBT": {}, "random search": {}, "PBT, GAN": {}, "random search, GAN": {}},
    )

    def note(row: str, first, outcome: Outcome) -> None:
        for arm in outcome.arms:
            rows[row][first, arm.factors] = float(outcome.best_so_far(arm)[:, -1].mean())

    for ready in (settings.ready // 2, settings.ready, 2 * settings.ready):
        note("PBT", ready, compare(replace(settings, ready=ready, every=min(ready, settings.every)), data, variants))
    for ready in (settings.gan_ready // 2, settings.gan_ready, 2 * settings.gan_ready):
        note("PBT, GAN", ready, compare_gans(replace(settings, gan_ready=ready), seeds, variants, device))
    for low, high in RATE_RANGES:
        priors = (replace(PRIORS[0], low=low, high=high), *PRIORS[1:])
        note("random search", (low, high), compare(settings, data, (RANDOM,), priors))
    for low, high in GAN_RATE_RANGES:
        priors = tuple(replace(prior, low=low, high=high) for prior in GAN_PRIORS)
        note("random search, GAN", (low, high), compare_gans(settings, seeds, (RANDOM,), device, priors))
    return rows
