"""Class-balanced drawing against counts by loops, and against what it realises."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.ops import InputError
from mmaffect.training import TrainConfig, fit, protocol
from mmaffect.training.balance import class_balance, class_counts
from mmaffect.training.order import epoch_batches
from tests.training.tiny import WIDTHS, make_dataset, make_system

SEQUENCES = ("single", "window", "dialogue")


def skewed(samples=40, *, sequence="single", seed=0):
    """Nine of ten labels are of the first class, a few of none."""
    data = make_dataset(samples, sequence=sequence, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(len(data.targets), generator=generator)
    data.targets = torch.where(draw < 0.9, 0, torch.where(draw < 0.97, data.targets, -100))
    return data


def by_hand(data):
    labels = [[t for t in torch.as_tensor(data[i].target).flatten().tolist() if t != -100] for i in range(len(data))]
    flat = [label for each in labels for label in each]
    return [sum(1 / flat.count(label) for label in each) / len(each) if each else 0.0 for each in labels]


@given(st.sampled_from(SEQUENCES), st.integers(0, 20))
def test_weights_are_mean_inverse_frequencies(sequence, seed):
    data = skewed(sequence=sequence, seed=seed)
    assert class_balance(data).tolist() == pytest.approx(by_hand(data), rel=1e-12)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_only_the_samples_of_a_subset_count(sequence):
    """A subset shares the flat arrays of the whole, and may take a sample twice."""
    part = skewed(sequence=sequence).subset([3, 9, 9, 1, 20])
    assert class_balance(part).tolist() == pytest.approx(by_hand(part), rel=1e-12)


@pytest.mark.parametrize("sequence", ["single", "window"])
def test_classes_are_drawn_alike(sequence):
    data = skewed(400, sequence=sequence)
    present = data.targets[data.targets != -100].unique()
    counts = class_counts(data)
    assert (counts.sum(0) / counts.sum()).max() > 0.85
    rows = torch.cat(epoch_batches(30_000, 64, 0, class_balance(data).repeat(75))) % 400
    drawn = counts[rows].sum(0) / counts[rows].sum()
    assert drawn[present].tolist() == pytest.approx([1 / len(present)] * len(present), abs=0.01)
    assert not (data.targets[rows] == -100).any()


def test_dialogues_come_nearer_to_balance():
    data = skewed(400, sequence="dialogue")
    weights, counts = class_balance(data), class_counts(data)
    before, after = counts.sum(0) / counts.sum(), weights @ counts / (weights @ counts).sum()
    assert after.max() < before.max() - 0.2
    assert after.min() > 3 * before.min()


def test_draws_follow_the_weights_and_the_seed():
    weights = torch.tensor([0.0, 1.0, 3.0]).double().repeat(1000)
    batches = epoch_batches(3000, 70, 5, weights)
    assert [len(b) for b in batches] == [70] * 42 + [60]
    rows = torch.cat(batches)
    assert (rows % 3 != 0).all()
    assert (rows % 3 == 2).double().mean().item() == pytest.approx(0.75, abs=0.03)
    assert len(rows.unique()) < len(rows)  # with replacement
    assert torch.equal(rows, torch.cat(epoch_batches(3000, 70, 5, weights)))
    assert not torch.equal(rows, torch.cat(epoch_batches(3000, 70, 6, weights)))


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_training_draws_rare_classes_more_often(tmp_path, sequence):
    data, drawn = skewed(60, sequence=sequence), {}
    for sampling in ("uniform", "balanced"):
        system = make_system(spec=data.spec)
        labels, inner = [], system.loss

        def watching(observed, complete, progress, labels=labels, inner=inner):
            labels.append((progress.epoch, observed.index, observed.targets.flatten()))
            return inner(observed, complete, progress)

        system.loss = watching
        config = TrainConfig(epochs=3, batch_size=13, sampling=sampling)
        fit(system, data, data, config, protocol=protocol("none", tuple(WIDTHS)), out=tmp_path / sampling)
        seen = torch.cat([t for _, _, t in labels])
        drawn[sampling] = (seen[seen != -100] == 0).double().mean().item()
        order = [torch.cat([rows for e, rows, _ in labels if e == epoch]) for epoch in range(3)]
        assert all(len(rows) == 60 for rows in order)  # an epoch is as long as it was
        assert not torch.equal(order[0], order[1])
        assert (order[0].unique().numel() == 60) == (sampling == "uniform")
    assert drawn["balanced"] < drawn["uniform"] - 0.1


@pytest.mark.parametrize(("target", "outputs"), [("multilabel", 3), ("score", 1)])
def test_targets_that_are_no_classes_are_refused_before_anything_is_written(tmp_path, target, outputs):
    data = make_dataset(12, target=target, outputs=outputs)
    with pytest.raises(InputError, match=f"sampling: 'balanced' expects targets that are classes, .* have '{target}'"):
        fit(
            make_system(spec=data.spec),
            data,
            data,
            TrainConfig(sampling="balanced"),
            protocol=protocol("none", tuple(WIDTHS)),
            out=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_nothing_labelled_is_refused():
    data = make_dataset(4)
    data.targets = torch.full_like(data.targets, -100)
    with pytest.raises(InputError, match="sampling: 'balanced' expects labels, none of the 4 samples has one"):
        class_balance(data)
