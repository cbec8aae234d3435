import pytest
import torch

from mmaffect.training import Patterns, evaluate, predict
from tests.training.tiny import make_dataset, make_system


@pytest.mark.parametrize("sequence", ["single", "dialogue"])
@pytest.mark.parametrize(("target", "outputs"), [("class", 3), ("multilabel", 3), ("score", 1), ("score", 2)])
def test_predictions_are_probabilities_or_scores(sequence, target, outputs):
    dataset = make_dataset(9, sequence=sequence, target=target, outputs=outputs)
    system = make_system(spec=dataset.spec)
    said, found = predict(system, dataset, batch_size=4), evaluate(system, dataset)
    wanted = {"class": lambda x: x.exp() / x.exp().sum(-1, keepdim=True), "multilabel": lambda x: 1 / (1 + (-x).exp())}
    values = wanted.get(target, lambda x: x.reshape(-1, outputs))(found.predictions)
    torch.testing.assert_close(said.values, values)
    assert said.ids == found.ids
    assert said.classes == dataset.spec.classes
    assert torch.equal(said.present, found.present)


def test_labels_are_not_needed_and_nothing_observed_is_not_answered():
    dataset = make_dataset(6)
    dataset.targets.fill_(-100)
    said = predict(make_system(), dataset, condition=Patterns("audio", ("text", "audio"), ("audio",)))
    assert said.values[0].isnan().all()
    torch.testing.assert_close(said.values[1:].sum(1), torch.ones(5, dtype=torch.float64))
    assert said.present[0].tolist() == [False, False]
