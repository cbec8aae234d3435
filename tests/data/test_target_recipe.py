import pytest

from mmaffect.data import load_dataset
from mmaffect.ops import InputError

LABELS = 'array = "label"\nclasses = ["sad", "happy", "calm"]\nunlabelled = [-1]'


@pytest.mark.parametrize(("bins", "wanted"), [("[0, 2]", [1, 1, 2]), ("[1, 1]", [0, 1, 2]), ("[0.5, 1.5]", [0, 1, 2])])
def test_a_recipe_cuts_scores_into_classes(toy, bins, wanted):
    toy.change((LABELS, f"{LABELS}\nbins = {bins}"))
    labels = toy.arrays["label"].copy()
    train = load_dataset(toy.recipe(), toy.save(), sequence="single").train
    names = toy.arrays["name"].tolist()
    assert train.targets.tolist() == [wanted[labels[names.index(name)]] for name in train.ids]


def test_whole_numbers_are_classes_from_the_least_of_the_range(toy):
    toy.change((LABELS, f'{LABELS}\nbins = "round"\nrange = [0, 2]'))
    assert toy.recipe().target.bins == "round"
    toy.arrays["label"] = toy.arrays["label"] + 0.25
    toy.arrays["label"][toy.arrays["label"] < 0] = -1
    toy.arrays["label"][toy.arrays["label"] > 2] = 1.75
    splits = load_dataset(toy.recipe(), toy.save(), sequence="single")
    assert set(splits.train.targets.tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("bins = [1]", r"target\.bins: expected a list of 2 numbers, got \[1\]"),
        ("bins = [2, 1]", r"target\.bins: expected ascending edges, each at most twice, or 'round', got \[2, 1\]"),
        ('bins = "floor"', r"target\.bins: expected a list of 2 numbers"),
        ('bins = "round"', r"target\.bins: expected with 'round' a range of 3 whole numbers, one a class, got 'round'"),
        ('bins = "round"\nrange = [0, 3]', r"target\.bins: expected with 'round' a range of 3 whole numbers"),
        ('bins = "round"\nrange = [0.5, 2.5]', r"target\.bins: expected with 'round' a range of 3 whole numbers"),
        ("bins = [0, 1]\nvalues = [0, 1, 2]", r"target\.bins: expected only for kind = 'class', and not beside values"),
    ],
)
def test_bins_that_cannot_be_are_said(toy, new, message):
    with pytest.raises(InputError, match=message):
        toy.change((LABELS, f"{LABELS}\n{new}")).recipe()


def test_scores_are_not_cut(toy):
    change = (LABELS, 'array = "label"\nclasses = ["joy"]\nbins = []')
    with pytest.raises(InputError, match=r"target\.bins: expected only for kind = 'class'"):
        toy.change(change, ('kind = "class"', 'kind = "score"')).recipe()


def test_no_edge_is_given_three_times(toy):
    classes = ('"sad", "happy", "calm"', '"a", "b", "c", "d"')
    with pytest.raises(InputError, match=r"target\.bins: expected ascending edges, each at most twice"):
        toy.change((LABELS, f"{LABELS}\nbins = [1, 1, 1]"), classes).recipe()
