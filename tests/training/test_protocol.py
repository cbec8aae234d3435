import json

import pytest
import torch

from mmaffect.ops import InputError
from mmaffect.training import (
    Complete,
    Deletion,
    FeatureRate,
    ModalityLoss,
    ModalityRates,
    Protocol,
    TimeBlock,
    TimeRate,
    prior_prediction,
    protocol,
)
from mmaffect.training.protocol import CURVES, KINDS
from mmaffect.training.run_directory import plain
from tests.training.tiny import make_dataset

NAMES = ("text", "audio", "vision")


def test_fixed_has_every_pattern_fewest_first():
    made = protocol("fixed", NAMES)
    assert [c.name for c in made.evaluation] == [
        "text",
        "audio",
        "vision",
        "text+audio",
        "text+vision",
        "audio+vision",
        "text+audio+vision",
    ]
    assert made.train.patterns == tuple(c.name for c in made.evaluation)


def test_fixed_takes_chosen_patterns():
    made = protocol("fixed", NAMES, patterns=["audio", "text+vision"])
    assert [c.name for c in made.evaluation] == ["audio", "text+vision"]


def test_many_modalities_need_a_list():
    many = [f"m{i}" for i in range(7)]
    with pytest.raises(ValueError, match="patterns: 7 modalities have 127 patterns; expected a list"):
        protocol("fixed", many)
    assert len(protocol("fixed", many, patterns=["m0"]).evaluation) == 1
    assert len(protocol("fixed", many[:6]).evaluation) == 63


@pytest.mark.parametrize(("modalities", "most"), [(1, 0.0), (2, 0.5), (3, 0.6), (4, 0.7), (5, 0.7)])
def test_default_rates_keep_one_modality(modalities, most):
    made = protocol("random", [f"m{i}" for i in range(modalities)])
    assert made.train.rates[-1] == most
    assert len(made.evaluation) == round(most * 10) + 1


def test_rates_are_checked():
    with pytest.raises(ValueError, match=r"rate: expected 0 <= rate <= 0.666667 .* got 0.7"):
        protocol("random", NAMES, rates=[0.1, 0.7])
    with pytest.raises(ValueError, match="rates: expected at least one"):
        protocol("random", NAMES, rates=[])
    for kind in ("feature", "rmm", "tmfm", "stmfm"):
        with pytest.raises(ValueError, match=r"rate: expected 0 <= rate <= 1, got 1\.1"):
            protocol(kind, NAMES, rates=[0.5, 1.1])


def test_arguments_of_other_kinds_are_refused():
    with pytest.raises(ValueError, match="rates: expected none with the protocol 'fixed'"):
        protocol("fixed", NAMES, rates=[0.1])
    with pytest.raises(ValueError, match="patterns: expected none with the protocol 'random'"):
        protocol("random", NAMES, patterns=["text"])
    with pytest.raises(InputError, match="kind: 'fxed' is unknown; did you mean 'fixed'"):
        protocol("fxed", NAMES)


def test_deletion_is_of_one_modality_at_rates():
    made = protocol("deletion", NAMES, modality="audio", rates=[0.5, 0.2])
    assert [(c.name, c.modality, c.rates) for c in made.evaluation] == [
        ("0.2", "audio", (0.2,)),
        ("0.5", "audio", (0.5,)),
    ]
    assert made.train == Deletion("drawn", NAMES, "audio", (0.2, 0.5))
    assert [c.name for c in protocol("deletion", NAMES, modality="text").evaluation] == ["0.1", "0.3", "0.5"]
    with pytest.raises(ValueError, match="modality: expected one of the modalities with the protocol 'deletion', got"):
        protocol("deletion", NAMES)
    with pytest.raises(ValueError, match="modality: expected none with the protocol 'random', got 'text'"):
        protocol("random", NAMES, modality="text")


@pytest.mark.parametrize(
    ("kind", "make"),
    [("feature", FeatureRate), ("rmm", ModalityLoss), ("tmfm", TimeRate), ("stmfm", TimeBlock)],
)
def test_curves_go_from_nothing_missing_to_nothing_left(kind, make):
    made = protocol(kind, NAMES)
    assert made.evaluation == tuple(make(f"{i / 10:g}", i / 10) for i in range(11))
    assert made.train == make("drawn", None)
    assert made.empty == "prior"
    assert [c.name for c in protocol(kind, NAMES, rates=[1, 0.25]).evaluation] == ["0.25", "1"]


def test_the_published_training_rates_are_a_coin_a_position():
    assert protocol("feature", NAMES, training_rates="position").train.rate == 0.5
    assert protocol("feature", NAMES, training_rates="sample") == protocol("feature", NAMES)
    with pytest.raises(InputError, match="training_rates: 'positions' is unknown; did you mean 'position'"):
        protocol("feature", NAMES, training_rates="positions")
    with pytest.raises(ValueError, match="training_rates: expected none with the protocol 'rmm', got 'sample'"):
        protocol("rmm", NAMES, training_rates="sample")


def test_rmm_may_keep_one():
    made = protocol("rmm", NAMES, keep_one=True)
    assert all(c.keep_one for c in (made.train, *made.evaluation))
    with pytest.raises(ValueError, match="keep_one: expected False with the protocol 'feature', got True"):
        protocol("feature", NAMES, keep_one=True)


def test_rmfm_same_has_a_rate_for_each_modality():
    made = protocol("rmfm_same", NAMES, patterns=["text=0.5+audio", "vision=0.25"])
    assert [c.rates for c in made.evaluation] == [(0.5, 0.0, 1.0), (1.0, 1.0, 0.25)]
    assert made.train == ModalityRates("drawn", NAMES, None)
    every = protocol("rmfm_same", NAMES).evaluation
    assert [c.name for c in every] == [c.name for c in protocol("fixed", NAMES).evaluation]
    assert [c.rates for c in every][:4] == [(0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
    with pytest.raises(InputError, match="patterns: 'txt' is unknown; did you mean 'text'"):
        protocol("rmfm_same", NAMES, patterns=["txt=0.5"])
    with pytest.raises(ValueError, match=r"patterns: expected NAME or NAME=RATE joined by \+, got 'text=half'"):
        protocol("rmfm_same", NAMES, patterns=["text=half"])
    with pytest.raises(ValueError, match="rates: expected none with the protocol 'rmfm_same'"):
        protocol("rmfm_same", NAMES, rates=[0.5])


def test_rows_left_with_nothing_are_excluded_unless_a_prior_is_asked_for():
    train = make_dataset(20)
    for kind in KINDS:
        made = protocol(kind, NAMES, modality="text" if kind == "deletion" else None)
        prior = made.prior(train)
        filled = kind in ("feature", "rmfm_same", "rmm", "tmfm", "stmfm")
        assert (prior is not None) == filled
        assert ("empty" in made.describe()) == filled  # what was recorded before there was a choice stays the same
        assert all(part.empty == made.empty for part in made.apart())
    assert torch.equal(protocol("feature", NAMES).prior(train), prior_prediction(train))
    with pytest.raises(InputError, match="empty: 'priors' is unknown; did you mean 'prior'"):
        Protocol("mine", Complete(), (Complete(),), "priors")


def test_the_conditions_of_a_curve_are_its_rates():
    for kind in CURVES:
        made = protocol(kind, NAMES, modality="text" if kind == "deletion" else None)
        assert all(0 <= float(c.name) <= 1 for c in made.evaluation)


@pytest.mark.parametrize("kind", ["fixed", "random", "corruption", "rmm"])
def test_apart_trains_under_each_condition_what_it_measures_under_it(kind):
    made = protocol(kind, NAMES)
    apart = made.apart()
    assert [p.train for p in apart] == list(made.evaluation)
    assert all(p.name == kind and p.evaluation == (p.train,) for p in apart)


def test_corruption_trains_clean_and_measures_levels():
    made = protocol("corruption", NAMES)
    assert made.train == Complete()
    assert [c.name for c in made.evaluation] == [
        "complete",
        "noise 0.25",
        "noise 0.5",
        "noise 1",
        "frames 0.1",
        "frames 0.3",
        "frames 0.5",
    ]


def test_evaluation_conditions_need_names_of_their_own():
    with pytest.raises(ValueError, match="evaluation: expected at least one condition, of different names"):
        Protocol("mine", Complete(), (Complete(), Complete()))
    with pytest.raises(ValueError, match="evaluation: expected at least one condition"):
        Protocol("mine", Complete(), ())


@pytest.mark.parametrize("kind", KINDS)
def test_every_protocol_describes_itself_in_json(kind):
    modality = "text" if kind == "deletion" else None
    described = plain(protocol(kind, NAMES, modality=modality).describe())
    assert json.loads(json.dumps(described)) == described
    assert described["name"] == kind
