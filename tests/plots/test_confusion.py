import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix as oracle

from mmaffect.metrics import confusion_matrix as count
from mmaffect.ops import InputError
from mmaffect.plots import confusion_matrix


def test_colours_are_sklearns_shares_of_the_truth_and_texts_the_counts():
    generator = torch.Generator().manual_seed(0)
    predicted, target = torch.randint(0, 3, (2, 60), generator=generator)
    figure = confusion_matrix(count(predicted, target, 3), ["sad", "happy", "angry"])
    axes, bar = figure.axes
    np.testing.assert_allclose(axes.images[0].get_array(), oracle(target, predicted, normalize="true"))
    assert axes.images[0].get_clim() == (0.0, 1.0)
    counts = [int(text.get_text().split("\n")[1]) for text in axes.texts]
    assert counts == oracle(target, predicted).flatten().tolist()
    assert (axes.get_xlabel(), axes.get_ylabel(), bar.get_ylabel()) == ("predicted", "true", "share of the true class")
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["sad", "happy", "angry"]


def test_a_class_that_does_not_occur_is_empty_not_zero():
    axes = confusion_matrix(torch.tensor([[2, 1], [0, 0]]), ["a", "b"]).axes[0]
    assert [text.get_text() for text in axes.texts[2:]] == ["–", "–"]  # noqa: RUF001
    assert np.ma.getmaskarray(axes.images[0].get_array())[1].all()


def test_nothing_is_clipped_with_long_names():
    names = [f"a rather long emotion {k}" for k in range(7)]
    figure = confusion_matrix(torch.eye(7), names)
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= figure.get_figwidth()
    assert box.y1 <= figure.get_figheight()


def test_refusals():
    with pytest.raises(InputError, match="classes: expected at least one, got none"):
        confusion_matrix(torch.zeros(0, 0), [])
    with pytest.raises(ValueError, match=r"confusion: expected shape \(C, C\) with C = 2.*got \(3, 3\)"):
        confusion_matrix(torch.eye(3), ["a", "b"])
    with pytest.raises(InputError, match=r"confusion: expected finite counts of at least 0, got -1"):
        confusion_matrix(torch.tensor([[-1]]), ["a"])
