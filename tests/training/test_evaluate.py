import pytest
import torch
from torch import nn

from mmaffect.metrics import emotion_metrics
from mmaffect.ops import InputError
from mmaffect.training import Complete, FeatureRate, Patterns, evaluate, evaluate_all, prior_prediction
from tests.training.tiny import Config, make_dataset, make_spec, make_system

NAMES = ("text", "audio")
KINDS = [("class", 3), ("multilabel", 3), ("score", 1), ("score", 3)]


@pytest.mark.parametrize("sequence", ["single", "window", "dialogue"])
@pytest.mark.parametrize(("target", "outputs"), KINDS)
def test_rows_do_not_depend_on_the_batch_size(sequence, target, outputs):
    dataset = make_dataset(11, sequence=sequence, target=target, outputs=outputs)
    system = make_system(spec=dataset.spec)
    whole, cut = (evaluate(system, dataset, batch_size=size, condition=FeatureRate("x", 0.4)) for size in (11, 3))
    torch.testing.assert_close(whole.predictions, cut.predictions, rtol=0, atol=1e-12)
    assert torch.equal(whole.present, cut.present)
    assert whole.ids == cut.ids
    assert whole.excluded == cut.excluded
    assert whole.metrics == pytest.approx(cut.metrics, nan_ok=True)


def test_metrics_are_those_of_the_counted_rows():
    dataset = make_dataset(40, sequence="dialogue")
    system = make_system(spec=dataset.spec)
    found = evaluate(system, dataset, condition=FeatureRate("x", 0.5))
    rows = len(dataset.targets)
    assert found.predictions.shape == (rows, 3)
    assert torch.equal(found.targets, dataset.targets)
    assert 0 < found.excluded < rows
    assert found.excluded == int((~found.present.any(1)).sum())
    assert torch.equal(found.counted, found.present.any(1))
    wanted = emotion_metrics(found.predictions[found.counted], found.targets[found.counted])
    assert found.metrics["balanced_accuracy"] == wanted["balanced_accuracy"]
    assert found.ids[: len(dataset[0].target) + 1] == (*(f"s0#{t}" for t in range(len(dataset[0].target))), "s1#0")


def test_a_sample_without_the_one_modality_shown_is_excluded():
    dataset = make_dataset(8)
    found = evaluate(make_system(), dataset, condition=Patterns("audio", NAMES, ("audio",)))
    assert found.excluded == 1
    assert found.counted.tolist() == [False] + [True] * 7
    assert found.present[:, 0].sum() == 0


def test_masks_depend_on_neither_system_nor_torch_seed():
    dataset = make_dataset(20)
    condition = FeatureRate("x", 0.5)
    torch.manual_seed(1)
    one = evaluate(make_system(seed=1), dataset, condition=condition)
    torch.manual_seed(2)
    other = evaluate(make_system(Config(width=9), seed=2), dataset, condition=condition, batch_size=3)
    assert torch.equal(one.present, other.present)
    assert not torch.equal(one.present, evaluate(make_system(), dataset, condition=condition, seed=5).present)


class Drawing(nn.Module):
    """Draws at inference, and keeps one part in evaluation mode for good."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Dropout(0.5).eval()
        self.used = nn.Dropout(0.5)
        self.modes = set()

    def forward(self, batch):
        self.modes.add((self.training, self.used.training, torch.is_inference_mode_enabled()))
        return torch.randn(batch.size, 3)


def test_modes_and_random_state_are_given_back_and_draws_are_seeded():
    system, dataset = Drawing(), make_dataset(10)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, other = evaluate(system, dataset), evaluate(system, dataset)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.predictions, other.predictions)
    assert not torch.equal(one.predictions, evaluate(system, dataset, seed=1).predictions)
    assert system.modes == {(False, False, True)}
    assert system.training
    assert system.used.training
    assert not system.frozen.training
    assert not one.predictions.is_inference()


def test_modes_are_given_back_after_an_error():
    class Failing(Drawing):
        def forward(self, batch):
            raise RuntimeError("broken")

    system = Failing()
    with pytest.raises(RuntimeError, match="broken"):
        evaluate(system, make_dataset(4))
    assert system.training


def test_what_cannot_be_measured_is_refused():
    dataset = make_dataset(5)
    with pytest.raises(InputError, match="dataset: expected at least one sample, got none"):
        evaluate(make_system(), dataset.subset([]))
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        evaluate(make_system(), dataset, batch_size=0)
    with pytest.raises(InputError, match="nothing to measure; of 5 rows 0 have something observed and 5 a label"):
        evaluate(make_system(), dataset, condition=FeatureRate("x", 1.0))
    wide = make_system(spec=make_spec(outputs=4))
    with pytest.raises(ValueError, match=r"system: expected an output of shape \(5, 3\), got \(5, 4\)"):
        evaluate(wide, dataset)


def test_all_conditions_in_one_pass_are_each_as_alone():
    dataset = make_dataset(11, sequence="dialogue")
    system = make_system(spec=dataset.spec)
    conditions = (Complete(), FeatureRate("x", 0.4), Patterns("audio", NAMES, ("audio",)))
    found = evaluate_all(system, dataset, conditions, batch_size=4)
    assert tuple(found) == ("complete", "x", "audio")
    for condition in conditions:
        alone = evaluate(system, dataset, condition=condition, batch_size=4)
        assert torch.equal(found[condition.name].predictions, alone.predictions)
        assert torch.equal(found[condition.name].present, alone.present)
        assert found[condition.name].metrics == pytest.approx(alone.metrics, nan_ok=True)


def test_conditions_need_names_of_their_own():
    with pytest.raises(
        ValueError, match=r"conditions: expected at least one, of different names, got \['complete', 'c"
    ):
        evaluate_all(make_system(), make_dataset(4), (Complete(), Complete()))
    with pytest.raises(ValueError, match="conditions: expected at least one"):
        evaluate_all(make_system(), make_dataset(4), ())


@pytest.mark.parametrize("sequence", ["single", "window", "dialogue"])
@pytest.mark.parametrize(("target", "outputs"), KINDS)
def test_a_prior_takes_the_place_of_what_is_said_of_nothing(sequence, target, outputs):
    dataset = make_dataset(30, sequence=sequence, target=target, outputs=outputs)
    if sequence == "dialogue":  # a turn that has nothing to begin with, in a dialogue that has something
        long = int(dataset.lengths["text"].argmax())
        for name in NAMES:
            dataset.observed[name][dataset.spans[name][long, 1] - 1] = False
    system = make_system(spec=dataset.spec)
    prior = prior_prediction(dataset)
    rates = {rate: FeatureRate(f"{rate:g}", rate) for rate in (0.0, 0.5, 1.0)}
    with_prior = evaluate_all(system, dataset, list(rates.values()), prior=prior, batch_size=7)
    without = evaluate_all(system, dataset, [rates[0.0], rates[0.5]], batch_size=7)
    none = with_prior["0"]
    lost = int((~none.present.any(1)).sum())
    assert lost == (sequence == "dialogue")
    for found in with_prior.values():  # the same rows at every rate
        assert torch.equal(found.counted, none.counted)
        assert found.excluded == lost
        assert not (found.filled & found.present.any(1)).any()
        assert torch.equal(found.counted, found.filled | found.present.any(1))
    assert not none.filled.any()
    assert with_prior["1"].filled.equal(none.present.any(1))
    assert none.metrics == pytest.approx(without["0"].metrics, nan_ok=True)
    half = with_prior["0.5"]
    assert 0 < half.filled.sum() == without["0.5"].excluded - lost
    predictions = half.predictions.reshape(len(half.ids), -1)
    given = prior.to(predictions).expand(int(half.filled.sum()), -1)
    assert torch.equal(predictions[half.filled], given)
    assert torch.equal(half.predictions[~half.filled], without["0.5"].predictions[~half.filled])


def test_at_rate_one_all_systems_are_alike():
    dataset = make_dataset(30)
    prior = prior_prediction(dataset)
    one, other = (
        evaluate(make_system(seed=seed), dataset, condition=FeatureRate("1", 1.0), prior=prior) for seed in (0, 1)
    )
    assert one.metrics == other.metrics
    assert one.metrics["balanced_accuracy"] == pytest.approx(1 / 3)
    assert one.metrics["accuracy"] == (dataset.targets == prior.argmax()).double().mean().item()
