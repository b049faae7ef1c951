"""How many updates per second do ten stacked agents get, against one agent of stable-baselines3 at a time?

Both sides draw batches of 64 from a filled buffer (or pass over a roll-out in minibatches of 64) and update networks of
two hidden layers of 64, with equal settings. Reported are updates per second of CPU time: ours counts every agent's
update, theirs is one agent's `train()`. The ratio is how much sooner ten seeds are done. Repeats are interleaved and
the best of each side counts, since other work on a machine only ever takes away.
"""

import time
import warnings
from collections.abc import Callable

import gymnasium
import numpy as np
import torch
from common import report
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.logger import configure

from reprise.blocks.rl import dqn, ppo, sac, td3
from reprise.blocks.rl.buffer import Replay, collect
from reprise.blocks.rl.envs import CartPole, Pendulum, random_action
from reprise.blocks.seeds import RunRNG

RUNS, WIDTH, BATCH, STORED, REPEATS = 10, 64, 64, 2000, 7
SEEDS = list(range(RUNS))
HIDDEN = (WIDTH, WIDTH)


def ours_off_policy(method, world) -> Callable[[int], int]:
    """Rounds -> updates done, all agents counted."""
    env, rng = world(SEEDS), RunRNG(SEEDS, "action")
    agent = method.create(SEEDS, env.obs_dim, env.act_dim or env.n_actions, method.Config(hidden=HIDDEN))
    replay = Replay.of(env, STORED)
    for _ in range(STORED):
        action = random_action(env, rng)
        replay.add(env.obs, action, env.step(action))

    def advance(rounds: int) -> int:
        for _ in range(rounds):
            method.update(agent, replay.sample(BATCH))
        return rounds * RUNS

    return advance


def ours_on_policy() -> Callable[[int], int]:
    """The same for PPO; a roll-out has as many transitions as theirs."""
    env = CartPole(SEEDS)
    agent = ppo.create(SEEDS, 4, n_actions=2, config=ppo.Config(HIDDEN, epochs=1, minibatches=STORED // BATCH))
    rollout = collect(env, lambda obs: ppo.explore(agent, obs), STORED // BATCH * BATCH)

    def advance(rounds: int) -> int:
        agent.config = ppo.Config(HIDDEN, epochs=rounds // (STORED // BATCH), minibatches=STORED // BATCH)
        ppo.update(agent, rollout)
        return agent.config.epochs * agent.config.minibatches * RUNS

    return advance


def theirs_off_policy(algorithm, name: str) -> Callable[[int], int]:
    """Rounds -> updates done of one agent of theirs, on random transitions in its own buffer."""
    model = algorithm("MlpPolicy", gymnasium.make(name), device="cpu", policy_kwargs={"net_arch": [*HIDDEN]})
    model.set_logger(configure(None, []))
    env, draw = model.env, np.random.default_rng(0)
    shape = env.observation_space.shape
    for _ in range(STORED):
        obs, new = draw.normal(size=(2, 1, *shape)).astype(np.float32)
        action = np.array([env.action_space.sample()]).reshape(1, -1)
        model.replay_buffer.add(obs, new, action, np.zeros(1), np.zeros(1), [{}])

    def advance(rounds: int) -> int:
        model.train(gradient_steps=rounds, batch_size=BATCH)
        return rounds

    return advance


def theirs_on_policy() -> Callable[[int], int]:
    """The same for PPO."""
    size = STORED // BATCH * BATCH
    settings = {"n_steps": size, "batch_size": BATCH, "n_epochs": 1, "policy_kwargs": {"net_arch": [*HIDDEN]}}
    model = PPO("MlpPolicy", gymnasium.make("CartPole-v1"), device="cpu", **settings)
    model.set_logger(configure(None, []))
    model.learn(size)  # fills the roll-out

    def advance(rounds: int) -> int:
        model.n_epochs = rounds // (size // BATCH)
        model.train()
        return model.n_epochs * (size // BATCH)

    return advance


def measure(ours: Callable[[int], int], theirs: Callable[[int], int], rounds: int) -> dict[str, float]:
    """Updates per second of CPU time of both."""
    sides = {"stacked (updates/s)": (ours, rounds), "stable-baselines3 (updates/s)": (theirs, 2 * rounds)}
    best = dict.fromkeys(sides, 0.0)
    for _ in range(REPEATS):
        for name, (advance, count) in sides.items():
            start = time.process_time()
            done = advance(count)
            best[name] = max(best[name], done / (time.process_time() - start))
    return best


def compare() -> list[dict]:
    """One row per algorithm."""
    pairs = {
        "DQN": (lambda: ours_off_policy(dqn, CartPole), lambda: theirs_off_policy(DQN, "CartPole-v1")),
        "TD3": (lambda: ours_off_policy(td3, Pendulum), lambda: theirs_off_policy(TD3, "Pendulum-v1")),
        "SAC": (lambda: ours_off_policy(sac, Pendulum), lambda: theirs_off_policy(SAC, "Pendulum-v1")),
        "PPO": (ours_on_policy, theirs_on_policy),
    }
    rows = []
    for name, (ours, theirs) in pairs.items():
        found = measure(ours(), theirs(), rounds=124)
        a, b = found.values()
        rows.append({"algorithm": name, "runs": RUNS, "width": WIDTH, "batch": BATCH} | found | {"ratio": a / b})
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    report("rl_updates", compare(), ("torch", "stable-baselines3"))
