import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.ops import InputError
from mmaffect.training import FeatureRate, evaluate, leave_one_group_out, pool, prior_prediction
from tests.training.tiny import make_dataset, make_spec, make_system


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from("abcdef"), min_size=8, max_size=24), st.integers(1, 2))
def test_every_row_is_tested_once_and_no_group_is_on_two_sides(column, valid_groups):
    dataset = make_dataset(len(column))
    dataset.groups["who"] = tuple(column)
    if len(set(column)) < valid_groups + 2:
        with pytest.raises(InputError, match="valid_groups: expected at least 1, with 1 group to test"):
            list(leave_one_group_out(dataset, "who", valid_groups=valid_groups))
        return
    folds = list(leave_one_group_out(dataset, "who", valid_groups=valid_groups))
    assert [f.name for f in folds] == sorted(set(column))
    assert sorted(row for f in folds for row in f.test) == list(range(len(column)))
    for fold in folds:
        assert sorted((*fold.train, *fold.valid, *fold.test)) == list(range(len(column)))
        sides = [{column[row] for row in rows} for rows in fold[1:]]
        assert sum(map(len, sides)) == len(set(column))
        assert sides[2] == {fold.name}
        assert len(sides[1]) == valid_groups
    assert sorted(row for f in folds for row in f.valid) == sorted(list(range(len(column))) * valid_groups)


def test_numbered_groups_stand_in_order():
    dataset = make_dataset(12)
    dataset.groups["subject"] = tuple(str(i % 12) for i in range(12))
    assert [f.name for f in leave_one_group_out(dataset, "subject")] == [str(i) for i in range(12)]


def test_unknown_groupings_are_refused():
    with pytest.raises(InputError, match="by: 'sesion' is unknown; did you mean 'session'"):
        list(leave_one_group_out(make_dataset(6), "sesion"))


def test_pooled_folds_are_one_evaluation():
    dataset, system = make_dataset(23, sequence="dialogue"), make_system(spec=make_spec("dialogue"))
    folds = list(leave_one_group_out(dataset, "session"))
    pooled = pool(dataset.spec, [evaluate(system, dataset.subset(f.test)) for f in folds])
    whole = evaluate(system, dataset.subset([row for f in folds for row in f.test]))
    assert pooled.ids == whole.ids
    torch.testing.assert_close(pooled.predictions, whole.predictions)
    assert pooled.metrics == pytest.approx(whole.metrics)
    with pytest.raises(InputError, match="evaluations: expected at least one, got none"):
        pool(dataset.spec, [])


def test_each_fold_keeps_the_prior_of_its_own_training_split():
    dataset, system = make_dataset(40), make_system()
    gone = FeatureRate("1", 1.0)
    parts = []
    for fold in leave_one_group_out(dataset, "session"):
        prior = prior_prediction(dataset.subset(fold.train))
        parts.append(evaluate(system, dataset.subset(fold.test), condition=gone, prior=prior))
    pooled = pool(dataset.spec, parts)
    assert torch.equal(pooled.predictions, torch.cat([part.predictions for part in parts]))
    assert len(pooled.predictions.unique(dim=0)) > 1
    assert pooled.filled.all()
    assert pooled.counted.all()
    assert pooled.excluded == 0
