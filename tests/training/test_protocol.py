import json

import pytest

from mmaffect.ops import InputError
from mmaffect.training import Complete, Deletion, Protocol, protocol
from mmaffect.training.run_directory import plain

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
    with pytest.raises(ValueError, match=r"rates: expected 0 <= rate < 1 \(at 1 nothing is left"):
        protocol("feature", NAMES, rates=[0.5, 1.0])


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


@pytest.mark.parametrize("kind", ["fixed", "random", "corruption"])
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


@pytest.mark.parametrize("kind", ["none", "fixed", "random", "deletion", "feature", "corruption"])
def test_every_protocol_describes_itself_in_json(kind):
    modality = "text" if kind == "deletion" else None
    described = plain(protocol(kind, NAMES, modality=modality).describe())
    assert json.loads(json.dumps(described)) == described
    assert described["name"] == kind
