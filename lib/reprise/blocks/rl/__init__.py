"""Deep reinforcement learning with the runs of an experiment as one program: the run axis first, no run mixed.

    from reprise.blocks.rl import evaluate, loop, td3
    from reprise.blocks.rl.buffer import Replay
    from reprise.blocks.rl.envs import Pendulum

    seeds = range(100, 110)  # ten runs
    env = Pendulum(seeds, envs=4, stream="train")  # four worlds each; observations (10, 4, 3)
    agent = td3.create(seeds, env.obs_dim, env.act_dim, td3.Config(hidden=(64, 64)))
    replay = Replay.of(env, capacity=20_000, gamma=0.98, nstep=3)

    def returns(step):  # ten worlds of its own per run, the same starts every time
        test = Pendulum(seeds, envs=10, stream="test")
        return evaluate.episodes(test, lambda obs: td3.act(agent, obs)).returns.mean(1)

    curve = loop.off_policy(
        env, replay, act=lambda obs, step: td3.act(agent, obs, noise=0.2),
        update=lambda batch: td3.update(agent, batch), steps=5000, batch=64, random_steps=250,
        evaluate=returns, evaluate_every=1000,
    )  # curve.steps [1000, ...], curve.values (10, 5)

Modules: `envs` (worlds as tensors, and an adapter for gymnasium), `buffer` (replay with n-step returns, roll-outs with
advantages), `dqn`, `td3` (with DDPG), `sac`, `ppo` (states, `create`, `act`, `update`), `loop`, `evaluate`, `search`
(evolution strategies, cross-entropy method), `tabular` (exact values), `networks` (critics and targets).

Three rules hold everywhere. *Termination does not bootstrap, truncation does*, from the true last observation.
Losses are means over the batch and sums over runs. Every draw comes from a stream of the run's own seed, so that run i
is the same run in every stack. Import modules, not this package: a chapter then depends on what it uses alone.
"""
