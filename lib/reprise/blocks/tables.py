"""Classifiers on small tables, compared fairly: one stratified split per run, 8 settings each, the same inner folds.

A method is a grid of settings and a function that trains one of them, all runs at once or one by one:
`fit(setting, data, seeds, held_out)` returns accuracies (runs,) on the rows held out, or on the test rows if none are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import Tensor
from torch.nn import functional as F

from reprise.blocks.data import digits, split, table
from reprise.blocks.seeds import FlatAdam, ParameterStore, StackedMLP, generators
from reprise.blocks.training import train

TABLES = ("iris", "wine", "breast-cancer", "digits-200")


@dataclass(frozen=True)
class Table:
    """One stratified split per run; `folds` numbers three inner folds of the training rows."""

    train_x: Float[Tensor, "runs train columns"]
    train_y: Int[Tensor, "runs train"]
    test_x: Float[Tensor, "runs test columns"]
    test_y: Int[Tensor, "runs test"]
    folds: Int[Tensor, "runs train"]


def small_table(name: str, seeds: Sequence[int]) -> Table:
    """One of `TABLES`, split 80/20, each column with mean 0 and variance 1 over the run's training rows."""
    x, y = digits() if name == "digits-200" else table(name)
    x = x.flatten(1)
    rows = 200 if name == "digits-200" else len(x)
    train_rows, test_rows = split(y, seeds, rows - rows // 5, rows // 5)
    mean, deviation = x[train_rows].mean(1, keepdim=True), x[train_rows].std(1, keepdim=True)
    deviation = torch.where(deviation > 0, deviation, 1.0)
    scaled = [(x[rows] - mean) / deviation for rows in (train_rows, test_rows)]
    folds = torch.stack([_folds(y[own], seed) for own, seed in zip(train_rows, seeds)])
    return Table(scaled[0], y[train_rows], scaled[1], y[test_rows], folds)


def _folds(labels: Tensor, seed: int) -> Tensor:
    fold = torch.empty(len(labels), dtype=torch.long)
    parts = StratifiedKFold(3, shuffle=True, random_state=_number(seed, "folds")).split(labels, labels)
    for number, (_, held_out) in enumerate(parts):
        fold[torch.from_numpy(held_out)] = number
    return fold


def _number(seed: int, stream: str) -> int:
    return int(torch.randint(2**31 - 1, (), generator=generators([seed], stream)[0]))


Fit = Callable[[object, Table, Sequence[int], Bool[Tensor, "runs train"]], Float[Tensor, " runs"]]


def tuned_accuracy(fit: Fit, grid: Sequence, data: Table, seeds: Sequence[int]) -> Float[Tensor, " runs"]:
    """Test accuracy of the setting that is best on the inner folds, run by run; of equal ones the first is taken."""
    inner = [torch.stack([fit(s, data, seeds, data.folds == k) for k in range(3)]).mean(0) for s in grid]
    chosen = torch.stack(inner).argmax(0)
    nothing, result = torch.zeros_like(data.folds, dtype=torch.bool), torch.zeros(len(seeds))
    for i, setting in enumerate(grid):
        if (chosen == i).any():
            result = torch.where(chosen == i, fit(setting, data, seeds, nothing), result)
    return result


def fit_estimator(estimator, data: Table, seeds: Sequence[int], held_out: Bool[Tensor, "runs train"]) -> Tensor:
    """A `fit` for scikit-learn's classifiers: the setting is the estimator."""
    result = []
    for run, (seed, out) in enumerate(zip(seeds, held_out)):
        if "random_state" in estimator.get_params():
            estimator.set_params(random_state=_number(seed, "estimator"))
        x, y = data.train_x[run], data.train_y[run]
        test = (x[out], y[out]) if out.any() else (data.test_x[run], data.test_y[run])
        result.append(estimator.fit(x[~out].numpy(), y[~out].numpy()).score(test[0].numpy(), test[1].numpy()))
    return torch.tensor(result, dtype=torch.float32)


def fit_network(
    params: ParameterStore,
    log_p: Callable[[Tensor, Tensor], Float[Tensor, "runs rows classes"]],
    learning_rate: float,
    steps: int,
    data: Table,
    held_out: Bool[Tensor, "runs train"],
) -> Float[Tensor, " runs"]:
    """Train by AdamW (decay 0.01) on all rows that are not held out; accuracy as a `fit` returns it.

    Args:
        params: of the network, one row per run.
        log_p: (rows, hidden) -> log-probabilities; a memory of the training rows must not use those that are `hidden`,
            (runs, rows, train), which in training include the row itself.
    """
    kept, itself = (~held_out).float(), torch.eye(held_out.shape[1], dtype=torch.bool)

    def loss(_: int) -> Tensor:
        likely = log_p(data.train_x, held_out[:, None] | itself).gather(-1, data.train_y[..., None])[..., 0]
        return -(likely * kept).sum(1) / kept.sum(1)

    train(FlatAdam(params, learning_rate, weight_decay=0.01, decoupled=True), loss, steps)
    with torch.no_grad():
        if not held_out.any():
            return (log_p(data.test_x, held_out[:, None]).argmax(-1) == data.test_y).float().mean(1)
        right = log_p(data.train_x, held_out[:, None]).argmax(-1) == data.train_y
        return (right & held_out).sum(1) / held_out.sum(1)


def fit_self_normalizing(steps: int) -> Fit:
    """A `fit` for SELU networks (Klambauer et al. 2017) of 64 wide layers; a setting is (layers, learning rate)."""

    def fit(setting, data, seeds, held_out):
        depth, rate = setting
        sizes = [data.train_x.shape[-1], *[64] * depth, int(data.train_y.max()) + 1]
        mlp = StackedMLP(seeds, sizes, activation=F.selu, init="lecun")
        return fit_network(mlp.params, lambda x, _: mlp(x).log_softmax(-1), rate, steps, data, held_out)

    return fit


def competitors(steps: int) -> dict[str, tuple[Fit, list]]:
    """Five well-tried methods: how to fit one setting, and 8 settings each; networks train for so many steps."""
    return {
        "RBF-SVM": (fit_estimator, [SVC(C=c, gamma=g) for c in (0.3, 1, 3, 10) for g in ("scale", 0.01)]),
        "random forest": (
            fit_estimator,
            [RandomForestClassifier(max_features=m, min_samples_leaf=k) for m in ("sqrt", 0.5) for k in (1, 2, 4, 8)],
        ),
        "kNN": (
            fit_estimator,
            [KNeighborsClassifier(k, weights=w) for k in (1, 3, 5, 9) for w in ("uniform", "distance")],
        ),
        "logistic regression": (
            fit_estimator,
            [LogisticRegression(C=c, max_iter=2000) for c in (0.001, 0.01, 0.1, 0.3, 1, 3, 10, 100)],
        ),
        "self-normalizing MLP": (
            fit_self_normalizing(steps),
            [(depth, rate) for depth in (1, 2, 3, 4) for rate in (3e-3, 3e-2)],
        ),
    }


def mean_ranks(accuracies: Mapping[str, Float[Tensor, "runs tables"]]) -> dict[str, Float[Tensor, " runs"]]:
    """Rank of each method (1 = most accurate, ties share their mean), averaged over tables."""
    ranks = rankdata(-torch.stack(list(accuracies.values())).double().numpy().round(6), axis=0).mean(-1)
    return {name: torch.from_numpy(row) for name, row in zip(accuracies, ranks)}
