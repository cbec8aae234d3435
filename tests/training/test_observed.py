"""The dataset of the truly missing regime against the batches that its loss is given."""

import pytest
import torch

from mmaffect.data import DataSpec, MultimodalDataset, Vocabulary
from mmaffect.testing import random_dataset
from mmaffect.training import FeatureRate, ModalityLoss, RandomRate, TrainConfig, fit, protocol
from mmaffect.training.observed import observed_dataset
from mmaffect.training.step import hide_labels
from tests.training.tiny import Config, make_dataset, make_spec, make_system

LENGTHS = [5, 3, 1, 4, 6, 2, 2, 7]
WORDS = Vocabulary(9, 1, 2, (0, 1, 2, 3, 4))
SPECS = {
    "dialogue": DataSpec({"a": 3, "b": 2}, "class", ("x", "y"), "dialogue", 2, 2),
    "window": DataSpec({"a": 3, "b": 2}, "score", ("s",), "window"),
    "single": DataSpec({"a": 9, "b": 2}, "class", ("x", "y"), "single", tokens={"a": WORDS}),
}
CONDITIONS = [RandomRate("half", ("a", "b"), (0.5,)), FeatureRate("most", 0.7), ModalityLoss("whole", 0.6)]


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda c: c.name)
@pytest.mark.parametrize("kind", SPECS)
def test_its_samples_are_the_batches_of_training(kind, condition):
    dataset = random_dataset(SPECS[kind], LENGTHS, generator=torch.Generator().manual_seed(0))
    change = condition.bind(dataset, 5)
    found, wanted = observed_dataset(dataset, change), hide_labels(dataset.spec, change(dataset.batch()))
    left = wanted.present.any(1)
    assert found.ids == tuple(name for name, some in zip(dataset.ids, left.tolist(), strict=True) if some)
    batch = found.batch()
    for name in dataset.spec.names:
        steps = batch.masks[name].shape[1]
        assert torch.equal(batch.masks[name], wanted.masks[name][left][:, :steps])
        assert torch.equal(batch.inputs[name], wanted.inputs[name][left][:, :steps])
        assert torch.equal(found.lengths[name], dataset.lengths[name][left])
    shape = (slice(None), slice(batch.targets.shape[1])) if kind == "dialogue" else (slice(None),)
    torch.testing.assert_close(batch.targets, wanted.targets[left][shape], equal_nan=True)
    if kind == "dialogue":
        assert torch.equal(batch.speaker, wanted.speaker[left][:, : batch.speaker.shape[1]])
        assert torch.equal(batch.confounder, wanted.confounder[left][:, : batch.confounder.shape[1]])
    assert not any(x[~found.observed[name]].any() for name, x in found.values.items())


def test_some_samples_are_left_with_nothing_here():
    dataset = random_dataset(SPECS["single"], LENGTHS, generator=torch.Generator().manual_seed(0))
    assert 0 < len(observed_dataset(dataset, CONDITIONS[2].bind(dataset, 5))) < len(dataset)


def test_windows_that_share_rows_lack_each_their_own():
    spec = DataSpec({"a": 1, "b": 1}, "class", ("x", "y"), "window")
    rows = torch.arange(1.0, 5.0).unsqueeze(1)
    dataset = MultimodalDataset(
        spec,
        values={"a": rows, "b": -rows},
        observed={n: torch.ones(4, dtype=torch.bool) for n in "ab"},
        spans=torch.tensor([[0, 2], [0, 3], [1, 4]]),
        targets=torch.tensor([0, 1, 0]),
        ids="uvw",
    )
    table = torch.tensor([[True, False], [False, True], [True, True]])
    found = observed_dataset(dataset, lambda batch: batch.drop(table[batch.index]))
    assert found.values["a"].flatten().tolist() == [1, 2, 0, 0, 0, 2, 3, 4]
    assert found.values["b"].flatten().tolist() == [0, 0, -1, -2, -3, -2, -3, -4]
    assert found[1].masks["a"].tolist() == [False] * 3


@pytest.mark.parametrize("regime", ["simulated", "truly"])
def test_prepare_sees_what_the_loss_may_see(tmp_path, regime):
    train, valid = make_dataset(24, sequence="dialogue"), make_dataset(16, sequence="dialogue", seed=1)
    system, shown, seen = make_system(Config(steered=True), spec=make_spec("dialogue")), [], {}
    system.prepare, loss = shown.append, system.loss

    def watching(observed, complete, progress):
        for row, name in enumerate(observed.id):
            seen[name] = {n: observed.masks[n][row] for n in train.spec.names}
        return loss(observed, complete, progress)

    system.loss = watching
    config = TrainConfig(epochs=1, batch_size=8, regime=regime)
    fit(system, train, valid, config, protocol=protocol("random", train.spec.names, rates=[0.5]), out=tmp_path / "run")
    if regime == "simulated":
        assert shown == [train]
        return
    for row in range(len(shown[0])):
        sample = shown[0][row]
        for name, mask in sample.masks.items():
            assert torch.equal(mask, seen[sample.id][name][: len(mask)])
