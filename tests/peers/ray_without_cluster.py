"""Ray Tune's PopulationBasedTraining driven by hand: its decisions, in this process, without actors or files.

The scheduler is Ray's own, unchanged. It is handed trials that hold what it reads and writes (configuration, status,
latest checkpoint), and reports of all trials at every synchronous round. A "checkpoint" is a copy of the state.
"""

import copy
import logging
import random
from types import SimpleNamespace

from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining

logging.getLogger("ray").setLevel(logging.ERROR)  # it announces every copy


class HandTrial:
    """A trial as far as the scheduler looks at it; `state` is what training changes."""

    def __init__(self, number, config, state):
        self.trial_id, self.config, self.state, self.experiment_tag = str(number), config, state, str(number)
        self.status, self.last_result = Trial.RUNNING, {}
        self.evaluated_params, self.temporary_state = {}, SimpleNamespace(saving_to=None)
        manager = SimpleNamespace(checkpoint_config=SimpleNamespace(num_to_keep=None), _latest_checkpoint_result=None)
        self.run_metadata = SimpleNamespace(checkpoint_manager=manager)

    @property
    def checkpoint(self):
        return self.run_metadata.checkpoint_manager._latest_checkpoint_result.checkpoint

    def save(self):
        result = SimpleNamespace(checkpoint=copy.deepcopy((self.trial_id, self.state)))
        self.run_metadata.checkpoint_manager._latest_checkpoint_result = result

    def is_finished(self):
        return False

    def set_experiment_tag(self, tag):
        self.experiment_tag = tag

    def set_config(self, config):
        self.config = config


class HandEngine:
    """Synchronous population based training as Ray decides it.

    Args:
        configs: one dictionary of hyper-parameters per trial.
        states: what a checkpoint holds, one per trial.
        fraction, factors: of selection and perturbation.
        explore: Ray's `custom_explore_fn`, e.g. to clip.
        seed: of Ray's random numbers, which are those of Python's module `random`.
    """

    def __init__(self, configs, states, fraction, factors, explore=None, seed=0):
        random.seed(seed)
        self.trials = [HandTrial(i, dict(c), s) for i, (c, s) in enumerate(zip(configs, states))]
        self.scheduler = PopulationBasedTraining(
            time_attr="step", metric="score", mode="max", perturbation_interval=1,
            hyperparam_mutations={name: (lambda: 0.0) for name in configs[0]}, quantile_fraction=fraction,
            resample_probability=0.0, perturbation_factors=factors, custom_explore_fn=explore, log_config=False,
            synch=True,
        )  # fmt: skip
        controller = SimpleNamespace(
            search_alg=None, get_trials=lambda: self.trials, get_live_trials=lambda: self.trials
        )
        self.controller, self.rounds = controller, 0
        for trial in self.trials:
            self.scheduler.on_trial_add(controller, trial)

    def round(self, scores):
        """Report one score per trial; returns donors after Ray has copied states and changed configurations."""
        self.rounds += 1
        for trial, score in zip(self.trials, scores):
            trial.save()
            trial.status = Trial.PAUSED
            result = {"step": self.rounds, "score": float(score)}
            self.scheduler.on_trial_result(self.controller, trial, result)
        donors = []
        for trial in self.trials:
            trial.status = Trial.RUNNING
            donor, state = copy.deepcopy(trial.checkpoint)
            donors.append(int(donor))
            trial.state = state
        return donors
