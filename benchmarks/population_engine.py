"""Population based training as one batched loop, against Ray Tune, the engine that most people would take.

The experiment is the chapter's: 16 networks on MNIST-1D, 600 steps of SGD, a round of truncation selection every 40.
Ours stacks all members of several seeds. Ray Tune is run in two ways: its scheduler alone decides for ordinary torch
networks that are trained one after the other in this process (no actors, no files: the least that it can cost), and,
with --cluster, `tune.Tuner` as its documentation shows it, on two cores. Times are seconds per population: processor
time of one thread, and for the cluster the time that passes. Needs the peers' environment:
.venv-peers/bin/python benchmarks/population_engine.py [--cluster] [--save]
"""

import importlib.util
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from common import report
from torch import nn
from torch.nn import functional as F

from reprise.search import population_based_training as pbt

SETTINGS = pbt.QUICK
SEEDS = list(range(5))  # stacked on our side; the peer trains the first
PEERS = Path(__file__).resolve().parent.parent / "tests" / "peers"


def ours(data) -> tuple[float, float, float]:
    """Seconds per population by the processor's clock and by the wall's, and mean test accuracy of the winners."""
    started, wall = time.process_time(), time.perf_counter()
    outcome = pbt.compare(SETTINGS, data, (pbt.PBT,))
    seconds = time.process_time() - started, time.perf_counter() - wall
    return *(s / len(data.seeds) for s in seconds), outcome.final(pbt.PBT).mean().item()


class Ordinary:
    """One network as torch users train it: the unit that an engine schedules."""

    def __init__(self, config, data):
        self.net = nn.Sequential(nn.Linear(40, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=SETTINGS.momentum)
        self.config, self.data = config, data

    def train(self, steps):
        x, y = self.data.train_x[0], self.data.train_y[0]
        group = self.optimizer.param_groups[0]
        group.update(lr=self.config["learning_rate"], weight_decay=self.config["weight_decay"])
        for _ in range(steps):
            index = torch.randint(len(x), (SETTINGS.batch,))
            noisy = x[index] + self.config["input_noise"] * torch.randn(SETTINGS.batch, 40)
            self.optimizer.zero_grad()
            F.cross_entropy(self.net(noisy), y[index]).backward()
            self.optimizer.step()

    @torch.no_grad()
    def accuracy(self, x, y) -> float:
        return 100 * (self.net(x).argmax(-1) == y).float().mean().item()

    def score(self) -> float:
        return self.accuracy(self.data.validation_x[0], self.data.validation_y[0])

    def state(self) -> dict:
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])


def _configs() -> list[dict]:
    from reprise.blocks import population as pop

    values = pop.sample(pbt.PRIORS, pbt.RunRNG([0], "hyper").uniform(SETTINGS.members, len(pbt.PRIORS)))[0]
    return [{p.name: float(v) for p, v in zip(pbt.PRIORS, row)} for row in values]


def _clipped(config: dict) -> dict:
    return config | {p.name: min(max(config[p.name], p.low), p.high) for p in pbt.PRIORS}


def scheduler_alone(data) -> tuple[float, float]:
    """Ray's scheduler decides, networks train one by one here."""
    spec = importlib.util.spec_from_file_location("ray_without_cluster", PEERS / "ray_without_cluster.py")
    by_hand = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(by_hand)
    torch.manual_seed(0)
    started = time.process_time()
    networks = [Ordinary(config, data) for config in _configs()]
    engine = by_hand.HandEngine(
        [n.config for n in networks], [n.state() for n in networks], SETTINGS.fraction, SETTINGS.factors, _clipped
    )
    for step in range(SETTINGS.every, SETTINGS.steps + 1, SETTINGS.every):
        for network, trial in zip(networks, engine.trials):
            network.train(SETTINGS.every)
            trial.state = network.state()
        scores = [network.score() for network in networks]
        if SETTINGS.first_ready <= step < SETTINGS.steps:
            for number, donor in enumerate(engine.round(scores)):
                if donor != number:
                    networks[number].load(engine.trials[number].state)
                    networks[number].config = engine.trials[number].config
    best = max(range(len(scores)), key=scores.__getitem__)
    return time.process_time() - started, networks[best].accuracy(data.test_x[0], data.test_y[0])


def cluster() -> tuple[float, float]:
    """The whole engine: actors, checkpoints on disk, its own scheduling; the time that passes on two cores."""
    import logging

    import ray
    from ray import tune
    from ray.tune.schedulers import PopulationBasedTraining

    class Trainable(tune.Trainable):
        def setup(self, config):
            torch.set_num_threads(1)
            self.network = Ordinary(config, pbt.load(SETTINGS, [0]))

        def step(self):
            self.network.train(SETTINGS.every)
            test = self.network.accuracy(self.network.data.test_x[0], self.network.data.test_y[0])
            return {"score": self.network.score(), "test": test, "steps": SETTINGS.every * (self.iteration + 1)}

        def save_checkpoint(self, folder):
            torch.save(self.network.state(), Path(folder) / "state.pt")

        def load_checkpoint(self, folder):
            self.network.load(torch.load(Path(folder) / "state.pt"))

        def reset_config(self, config):
            self.network = Ordinary(config, self.network.data)
            return True

    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    started = time.perf_counter()
    scheduler = PopulationBasedTraining(
        time_attr="steps", metric="score", mode="max", perturbation_interval=SETTINGS.ready,
        burn_in_period=SETTINGS.first_ready, hyperparam_mutations={p.name: (lambda: 0.0) for p in pbt.PRIORS},
        quantile_fraction=SETTINGS.fraction, resample_probability=0.0, perturbation_factors=SETTINGS.factors,
        custom_explore_fn=_clipped, log_config=False, synch=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            Trainable,
            param_space=tune.grid_search(_configs()),
            tune_config=tune.TuneConfig(scheduler=scheduler, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=folder, stop={"steps": SETTINGS.steps}, verbose=0),
        )
        found = tuner.fit().get_best_result("score", "max", scope="last")
    seconds = time.perf_counter() - started
    ray.shutdown()
    return seconds, found.metrics["test"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    data = pbt.load(SETTINGS, SEEDS)
    pbt.compare(replace(SETTINGS, steps=40), data, (pbt.PBT,))  # warm up
    processor, wall, accuracy = ours(data)
    rows = [("stacked, five populations at once", "processor", processor, accuracy)]
    rows.append(("Ray Tune's scheduler, networks one by one", "processor", *scheduler_alone(data)))
    if "--cluster" in sys.argv:
        rows.append(("stacked, five populations at once", "wall", wall, accuracy))
        rows.append(("Ray Tune's Tuner, two cores", "wall", *cluster()))
    base = {"processor": processor, "wall": wall}
    report(
        "population_engine",
        [
            {"engine": name, "clock": clock, "s per population": s, "test accuracy": a, "ratio": s / base[clock]}
            for name, clock, s, a in rows
        ],
        ("torch", "ray"),
    )
