"""The comparison on small tables: honest splits, honest selection, ranks by hand."""

import torch
from jaxtyping import install_import_hook

with install_import_hook("reprise", "beartype.beartype"):
    from reprise.blocks import tables

SEEDS = [0, 1]


def test_tables_are_split_80_to_20_and_scaled_by_their_training_rows_alone():
    for name, rows in zip(tables.TABLES, (150, 178, 569, 200)):
        data = tables.small_table(name, SEEDS)
        assert data.train_x.shape[1] + data.test_x.shape[1] == rows
        assert data.test_x.shape[1] == rows // 5
        assert data.train_x.mean(1).abs().max() < 1e-3
        deviation = data.train_x.std(1)
        assert ((deviation - 1).abs() < 1e-3).logical_or(deviation == 0).all()
        assert data.test_x.mean(1).abs().max() > 1e-3  # not scaled by itself
        assert all(len(own.unique()) == 3 and own.bincount().max() - own.bincount().min() <= 3 for own in data.folds)


def test_selection_sees_inner_folds_only_and_is_made_for_each_run():
    data, asked = tables.small_table("iris", SEEDS), []

    def fit(setting, _, seeds, held_out):
        asked.append((setting, bool(held_out.any())))
        inner, test = {"a": ([0.9, 0.5], [0.1, 0.2]), "b": ([0.8, 0.6], [0.3, 0.4])}[setting]
        return torch.tensor(inner if held_out.any() else test)

    assert tables.tuned_accuracy(fit, ["a", "b"], data, SEEDS).tolist() == torch.tensor([0.1, 0.4]).tolist()
    assert asked[:6] == [("a", True)] * 3 + [("b", True)] * 3


def test_every_competitor_has_eight_settings_and_beats_chance_on_iris():
    data = tables.small_table("iris", SEEDS)
    methods = tables.competitors(steps=60)
    for fit, grid in methods.values():
        assert len(grid) == 8
        assert (fit(grid[3], data, SEEDS, data.folds == 0) > 0.8).all()


def test_held_out_rows_do_not_train():
    data = tables.small_table("wine", SEEDS)
    held_out = data.folds == 1
    spoiled = tables.Table(data.train_x, torch.where(held_out, 0, data.train_y), data.test_x, data.test_y, data.folds)
    for name in ("kNN", "self-normalizing MLP"):
        fit, grid = tables.competitors(steps=40)[name]
        right = fit(grid[2], data, SEEDS, held_out)
        wrong = fit(grid[2], spoiled, SEEDS, held_out)  # trains on the same rows, is judged by spoiled labels
        share = ((data.train_y == 0) & held_out).sum(1) / held_out.sum(1)
        assert (right > 0.85).all()
        assert (wrong - share).abs().max() < 0.15


def test_ranks_share_ties_and_average_over_tables():
    accuracies = {"a": torch.tensor([[0.9, 0.5]]), "b": torch.tensor([[0.9, 0.7]]), "c": torch.tensor([[0.1, 0.6]])}
    ranks = {name: rank.item() for name, rank in tables.mean_ranks(accuracies).items()}
    assert ranks == {"a": (1.5 + 3) / 2, "b": (1.5 + 1) / 2, "c": (3 + 2) / 2}
