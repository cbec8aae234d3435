import math

import pytest
import torch

from mmaffect.ops import InputError
from mmaffect.training import evaluate, prior_prediction
from tests.training.tiny import make_dataset, make_system


@pytest.mark.parametrize("sequence", ["single", "dialogue"])
def test_classes_are_predicted_by_their_shares(sequence):
    dataset = make_dataset(60, sequence=sequence)
    dataset.targets[::5] = -100
    known = dataset.targets[dataset.targets != -100]
    counts = torch.bincount(known, minlength=3).double()
    found = prior_prediction(dataset)
    torch.testing.assert_close(found.exp(), (counts + 0.5) / (len(known) + 1.5))
    assert found.exp().sum().item() == pytest.approx(1)


def test_only_rows_of_the_dataset_count():
    whole = make_dataset(40, sequence="dialogue")
    some = whole.subset(range(5, 9))
    rows = int(some.lengths["text"].sum())
    own = torch.cat([whole[i].target for i in range(5, 9)])
    torch.testing.assert_close(
        prior_prediction(some).exp(), (torch.bincount(own, minlength=3).double() + 0.5) / (rows + 1.5)
    )


def test_labels_are_predicted_by_their_log_odds():
    dataset = make_dataset(60, target="multilabel")
    dataset.targets[3, 1] = float("nan")
    mean = dataset.targets.double().nanmean(0)
    assert (prior_prediction(dataset).sigmoid() - mean).abs().max() < 0.02


@pytest.mark.parametrize("outputs", [1, 3])
def test_scores_are_predicted_by_their_means(outputs):
    dataset = make_dataset(60, target="score", outputs=outputs)
    dataset.targets[4] = float("nan")
    wanted = dataset.targets.double().reshape(60, -1).nanmean(0)
    torch.testing.assert_close(prior_prediction(dataset), wanted)


def test_a_class_that_never_occurs_is_unlikely_and_finite():
    dataset = make_dataset(30)
    dataset.targets[dataset.targets == 2] = 0
    assert prior_prediction(dataset)[2].item() == pytest.approx(math.log(0.5 / 31.5))


@pytest.mark.parametrize(("target", "outputs"), [("class", 3), ("multilabel", 3), ("score", 1)])
def test_without_labels_there_is_none(target, outputs):
    dataset = make_dataset(6, target=target, outputs=outputs)
    dataset.targets.fill_(-100 if target == "class" else float("nan"))
    with pytest.raises(InputError, match="train: expected label"):
        prior_prediction(dataset)


def test_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"prior: expected \(3,\), one for each output, got \(2,\)"):
        evaluate(make_system(), make_dataset(4), prior=torch.zeros(2))
