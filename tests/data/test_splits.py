import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from mowst.data import per_class_split, stratified_split
from mowst.data.splits import choose_split, read_split_file


@pytest.fixture
def y() -> torch.Tensor:
    y = torch.randint(3, (1200,), generator=torch.Generator().manual_seed(0))
    y[::10] = -1
    return y


@pytest.mark.parametrize("fractions", [(0.5, 0.25, 0.25), (0.6, 0.2, 0.2), (0.48, 0.32, 0.2)])
def test_stratified_split_keeps_the_shares_of_every_class(y, fractions):
    masks = stratified_split(y, seed=0, fractions=fractions)
    assert sum(masks.values()).equal((y >= 0).long())
    for label in range(3):
        members = y == label
        for mask, fraction in zip(masks.values(), fractions, strict=True):
            assert abs(int((mask & members).sum()) - fraction * int(members.sum())) <= 1


def test_per_class_split_counts(y):
    masks = per_class_split(y, seed=0, per_class=20, num_val=100, num_test=300)
    assert [int(mask.sum()) for mask in masks.values()] == [60, 100, 300]
    assert y[masks["train"]].bincount().tolist() == [20, 20, 20]
    assert int(sum(masks.values()).max()) == 1 and not any(
        bool((mask & (y < 0)).any()) for mask in masks.values()
    )
    with pytest.raises(
        ValueError,
        match="500 val and 1000 test nodes are required, but 1020 labelled nodes are left",
    ):
        per_class_split(y, seed=0)


@pytest.mark.parametrize(
    "draw", [stratified_split, lambda y, seed: per_class_split(y, seed, num_val=9, num_test=9)]
)
def test_a_draw_depends_on_its_seed_alone(y, draw):
    state = torch.random.get_rng_state()
    first, again, other = draw(y, 0), draw(y, 0), draw(y, 1)
    assert torch.random.get_rng_state().equal(state)
    for key, mask in first.items():
        assert mask.equal(again[key]) and not mask.equal(other[key])
    with pytest.raises(ValueError, match="a seed must be 0 or more, got -1"):
        draw(y, -1)


@pytest.mark.parametrize("fractions", [(0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (1.2, 0.1, -0.3)])
def test_fractions_are_checked(y, fractions):
    with pytest.raises(ValueError, match="positive and sum to 1"):
        stratified_split(y, seed=0, fractions=fractions)


def test_split_file_of_one_split(tmp_path):
    np.savez(tmp_path / "one.npz", train=[0, 1], valid=[2], test=[4])
    masks = read_split_file(tmp_path / "one.npz", num_nodes=5)
    assert masks["train"].shape == (5, 1)
    assert [mask[:, 0].nonzero().view(-1).tolist() for mask in masks.values()] == [[0, 1], [2], [4]]


def test_split_file_of_many_splits(tmp_path):
    parts = {
        f"{part}_{k}": [(k + shift) % 12]
        for k in range(12)
        for shift, part in enumerate(("train", "valid", "test"))
    }
    np.savez(tmp_path / "many.npz", **parts)
    masks = read_split_file(tmp_path / "many.npz", num_nodes=12)
    assert masks["train"].equal(torch.eye(12, dtype=torch.bool))
    assert masks["val"].equal(masks["train"].roll(1, dims=0))


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        (dict(train=[0], test=[1]), "must hold train, valid, test"),
        (dict(train_0=[0], valid_0=[1], test_1=[2]), "must hold train, valid, test"),
        (dict(nodes=[0]), "must hold train, valid, test"),
        (dict(train=[0], valid=[1], test=[2, 5]), "test names nodes 2 to 5, the graph has 5"),
        (dict(train=[-1], valid=[1], test=[2]), "train names nodes -1 to -1"),
        (dict(train=[0.5], valid=[1], test=[2]), "train must be a list of node ids, got float64"),
        (
            dict(train=[0], valid=[[1]], test=[2]),
            r"valid must be a list of node ids, got int64 of shape .1, 1.",
        ),
    ],
)
def test_split_files_are_checked(tmp_path, arrays, problem):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=f"bad.npz.*{problem}"):
        read_split_file(tmp_path / "bad.npz", num_nodes=5)


def test_a_number_counts_published_splits_and_a_word_draws(y):
    published = {
        key: torch.eye(1200, 3, dtype=torch.bool).roll(k, 0)
        for k, key in enumerate(("train", "val", "test"))
    }
    data = Data(y=y)
    assert choose_split(data, 2, stratified_split, published)["val"].nonzero().view(
        -1
    ).tolist() == [3]
    drawn = choose_split(data, "random-7", stratified_split, published)
    assert drawn["val"].equal(stratified_split(y, seed=7)["val"])
    assert drawn["val"].equal(choose_split(data, 7, stratified_split, published=None)["val"])
    for split in (3, -1, "7", "random", "random-x"):
        with pytest.raises(
            ValueError, match="There is no split .*; known: 0 to 2, or 'random-SEED'"
        ):
            choose_split(data, split, stratified_split, published)
    with pytest.raises(ValueError, match="known: any number from 0"):
        choose_split(data, -1, stratified_split, published=None)
