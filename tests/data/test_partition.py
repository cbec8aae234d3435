import numpy as np
import pytest

from mmaffect.data import word_label_mismatch
from mmaffect.data.arrays import ArrayFile
from mmaffect.data.layout import lay_out
from mmaffect.data.partition import assign_splits
from mmaffect.data.recipe import ModalityRecipe, Recipe, SplitRecipe, TargetRecipe
from mmaffect.data.targets import encode_targets
from mmaffect.ops import InputError

PART = np.array([3, 3, 10, 10, 20, 20, 100, 100])


@pytest.fixture
def assign(tmp_path):
    def go(split, *, column=None, kind="single", holdout=None, target=None, array=None):
        np.savez(tmp_path / "d.npz", part=PART, split=np.zeros(8) if column is None else np.array(column))
        target = target or TargetRecipe("class", "y", ("a", "b"))
        recipe = Recipe("toy", "d.npz", {"m": ModalityRecipe("x")}, target, split, sequence_by="part", fold=("part",))
        found = encode_targets(np.arange(8) % 2 if array is None else array, target, "y")
        return assign_splits(ArrayFile(tmp_path / "d.npz"), recipe, kind, lay_out(PART), found, holdout).tolist()

    return go


COLUMN = SplitRecipe("split")


def test_a_column_says_it(assign):
    words = ["train", "train", "train", "train", "valid", "valid", "test", "test"]
    assert assign(COLUMN, column=words, kind="dialogue") == [0, 0, 0, 0, 1, 1, 2, 2]
    assert assign(SplitRecipe("split", (5, 7, 9)), column=[5, 5, 9, 9, 7, 7, 5, 5]) == [0, 0, 2, 2, 1, 1, 0, 0]


def test_groups_may_be_dealt_out(assign):
    shares = SplitRecipe(None, by="part", shares=(0.5, 0.25, 0.25), seed=1)
    for target, array in [
        (None, None),
        (TargetRecipe("score", "y", ("v",)), np.linspace(-1, 1, 8)),
        (TargetRecipe("score", "y", ("v", "a")), np.stack([np.linspace(-1, 1, 8), np.full(8, np.nan)], 1)),
        (TargetRecipe("multilabel", "y", ("a", "b")), np.tile([[0, 1], [1, 1]], (4, 1))),
    ]:
        split = assign(shares, kind="dialogue", target=target, array=array)
        assert split == assign(shares, kind="dialogue", target=target, array=array)
        assert sorted(split) == [0, 0, 0, 0, 1, 1, 2, 2]
        assert all(split[i] == split[i + 1] for i in range(0, 8, 2))


@pytest.fixture
def by_words(tmp_path):
    """Forty rows of two classes in twenty groups, whose words go with the class in three rows of four."""
    label = np.tile([0, 1, 1, 0], 10)
    words = np.where(np.arange(40) % 8 < 6, np.array(["poor", "fine"])[label], np.array(["fine", "poor"])[label])
    names = np.array([f"u{i:02d}" for i in range(40)])

    def go(order=None, *, target=None, array=None, text=words, **split):
        order = np.arange(40) if order is None else np.array(order)
        group = np.arange(40) // 2
        np.savez(tmp_path / "d.npz", id=names[order], text=np.asarray(text)[order], group=group[order])
        target = target or TargetRecipe("class", "y", ("a", "b"))
        modalities = {"m": ModalityRecipe("x")}
        chosen = SplitRecipe(text="text", shares=(0.5, 0.25, 0.25), **split)
        recipe = Recipe("toy", "d.npz", modalities, target, chosen, id="id")
        found = encode_targets((label if array is None else array)[order], target, "y")
        return assign_splits(ArrayFile(tmp_path / "d.npz"), recipe, "single", lay_out(np.arange(40)), found, None)

    go.words, go.label = words, label
    return go


def test_a_split_may_go_by_words(by_words):
    ood, iid = by_words(method="ood"), by_words(method="iid")
    assert (
        word_label_mismatch(by_words.words, by_words.label, ood)
        > 0
        > word_label_mismatch(by_words.words, by_words.label, iid)
    )
    for split in (ood, iid):
        assert np.bincount(split * 2 + by_words.label).tolist() == [10, 10, 5, 5, 5, 5]
    order = np.random.default_rng(0).permutation(40)
    assert by_words(order, method="ood").tolist() == ood[order].tolist()  # by names, not by the order of rows
    assert (by_words(method="ood", by="group").reshape(20, 2).std(1) == 0).all()
    assert word_label_mismatch(by_words.words, by_words.label, by_words(method="ood", most=0.1)) <= 0.1


def test_scores_are_split_by_quarters_and_several_labels_are_refused(by_words):
    score = TargetRecipe("score", "y", ("v",))
    split = by_words(method="ood", target=score, array=np.linspace(-1, 1, 40))
    assert [np.bincount(split[q * 10 : q * 10 + 10], minlength=3).tolist() for q in range(4)] == [[5, 3, 2]] * 4
    with pytest.raises(InputError, match=r"split\.text = 'text': split\.method needs a target of one class or of sc"):
        by_words(method="ood", target=TargetRecipe("multilabel", "y", ("a", "b")), array=np.tile([[0, 1]], (40, 1)))
    with pytest.raises(InputError, match=r"split\.text = 'text': expected strings, got int64"):
        by_words(method="ood", text=np.arange(40))
    with pytest.raises(InputError, match=r"split\.text = 'text': documents: expected words in at least min_count = 99"):
        by_words(method="ood", min_count=99)


@pytest.mark.parametrize(
    ("holdout", "expected"),
    [
        (("part", 3), [2, 2, 1, 1, 0, 0, 0, 0]),
        (("part", "20"), [0, 0, 0, 0, 2, 2, 1, 1]),
        (("part", 100), [1, 1, 0, 0, 0, 0, 2, 2]),  # after the last comes the first
        (("part", 10, 20), [0, 0, 2, 2, 2, 2, 1, 1]),
        (("part", 3, 20), [2, 2, 0, 0, 2, 2, 1, 1]),
        (("part", 3, 100), [2, 2, 1, 1, 0, 0, 2, 2]),
    ],
)
def test_a_group_is_left_out_and_the_next_validates(assign, holdout, expected):
    assert assign(COLUMN, holdout=holdout, kind="dialogue") == expected


@pytest.mark.parametrize(
    ("holdout", "message"),
    [
        (("part",), r"holdout: expected a column and at least one of its values, got \('part',\)"),
        (("prat", 3), "holdout: 'prat' is unknown; did you mean 'part'"),
        (("part", 4), r"d\.npz: part: no group '4' to hold out; .*known: 3, 10, 20, 100"),
        (("part", 3, 10, 20), r"d\.npz: part: expected two groups beside the 3 held out, got 1"),
    ],
)
def test_a_fold_that_cannot_be_is_said(assign, holdout, message):
    with pytest.raises(InputError, match=message):
        assign(COLUMN, holdout=holdout)


def test_splits_that_cannot_be_are_said(assign):
    with pytest.raises(
        InputError, match=r"d\.npz: split\.array = 'split': 'dev' is not expected \(2 rows hold such values\)"
    ):
        assign(COLUMN, column=["train"] * 4 + ["dev", "dev", "test", "test"])
    with pytest.raises(InputError, match=r"d\.npz: split\.array = 'split': expected rows in split 'valid', got none"):
        assign(COLUMN, column=["train"] * 6 + ["test"] * 2)
    with pytest.raises(InputError, match=r"split\.array = 'split': nan is not expected \(1 rows"):
        assign(SplitRecipe("split", (0, 1, 2)), column=[0, 0, 0, 0, 1, 1, 2, np.nan])
    with pytest.raises(InputError, match=r"d\.npz: split\.by = 'prat': no such array; did you mean 'part'"):
        assign(SplitRecipe(None, by="prat"))


def test_a_sequence_never_crosses(assign):
    column = ["train", "train", "train", "valid", "valid", "valid", "test", "test"]
    for kind in ("dialogue", "window"):
        with pytest.raises(
            InputError, match=r"sequence '10' is in 'train' and in 'valid'; expected every sequence \(part\)"
        ):
            assign(COLUMN, column=column, kind=kind)
    assert assign(COLUMN, column=column) == [0, 0, 0, 1, 1, 1, 2, 2]
