import numpy as np
import pytest
import torch

from mmaffect.metrics.labelled import labelled_classes, labelled_scores, number_list

NAN, INF = float("nan"), float("inf")


def test_scores_keep_labelled_entries_in_order_whatever_stands_elsewhere():
    target = torch.tensor([[1.0, NAN], [2.0, 3.0]])
    pred = torch.tensor([[10.0, NAN], [20.0, 30.0]])
    score, truth = labelled_scores(pred, target)
    assert score.tolist() == [10.0, 20.0, 30.0]
    assert truth.tolist() == [1.0, 2.0, 3.0]
    assert score.dtype == truth.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_scores_take_any_dtype_and_need_no_gradient(dtype):
    pred = torch.ones(3, dtype=dtype, requires_grad=dtype.is_floating_point)
    score, truth = labelled_scores(pred, torch.ones(3, dtype=dtype))
    assert score.dtype == truth.dtype == torch.float64
    assert not score.requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
def test_arguments_may_live_on_an_accelerator():
    score, truth = labelled_scores(torch.ones(3, device="cuda"), torch.ones(3, device="cuda"))
    logits, classes = labelled_classes(torch.ones(3, 2, device="cuda"), torch.ones(3, dtype=torch.long, device="cuda"))
    numbers = number_list("x", torch.ones(3, device="cuda"), least=1)
    assert {t.device.type for t in (score, truth, logits, classes, numbers)} == {"cpu"}


def test_scores_refuse_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match=r"pred: expected the shape of target \(3,\), got \(3, 1\)"):
        labelled_scores(torch.zeros(3, 1), torch.zeros(3))


def test_scores_refuse_no_label():
    with pytest.raises(ValueError, match="target: expected at least one labelled entry, got none among 2"):
        labelled_scores(torch.zeros(2), torch.full((2,), NAN))


@pytest.mark.parametrize("size", [0, 1])
def test_empty_input_is_no_label(size):
    with pytest.raises(ValueError, match=f"got none among {0 if size == 0 else 1}"):
        labelled_classes(torch.zeros(size, 3), torch.full((size,), -100))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_scores_refuse_what_is_not_finite(value):
    with pytest.raises(ValueError, match="pred: expected finite values where target is labelled, got 1 that are not"):
        labelled_scores(torch.tensor([0.0, value]), torch.zeros(2))


def test_scores_refuse_infinite_truth():
    with pytest.raises(ValueError, match="target: expected finite values"):
        labelled_scores(torch.zeros(2), torch.tensor([0.0, INF]))


def test_classes_flatten_time_and_drop_unlabelled():
    logits = torch.arange(12.0).reshape(2, 3, 2)
    logits[0, 1] = NAN
    score, truth = labelled_classes(logits, torch.tensor([[0, -100, 1], [1, -100, 0]]))
    assert score.tolist() == [[0.0, 1.0], [4.0, 5.0], [6.0, 7.0], [10.0, 11.0]]
    assert truth.tolist() == [0, 1, 1, 0]


def test_classes_accept_a_class_ruled_out():
    score, _ = labelled_classes(torch.tensor([[-INF, 0.0]]), torch.tensor([1]))
    assert score.tolist() == [[-INF, 0.0]]


@pytest.mark.parametrize("row", [[NAN, 0.0], [INF, 0.0], [-INF, -INF]])
def test_classes_refuse_logits_without_a_distribution(row):
    with pytest.raises(ValueError, match="logits: expected a distribution where target is labelled, got 1 rows"):
        labelled_classes(torch.tensor([row, [0.0, 0.0]]), torch.tensor([1, 1]))


@pytest.mark.parametrize("wrong", [2, -1])
def test_classes_refuse_numbers_out_of_range(wrong):
    with pytest.raises(ValueError, match=f"target: expected classes from 0 to 1 or -100, got {wrong}"):
        labelled_classes(torch.zeros(2, 2), torch.tensor([0, wrong]))


def test_classes_refuse_float_targets():
    with pytest.raises(ValueError, match=r"target: expected integer classes, got torch.float32"):
        labelled_classes(torch.zeros(2, 2), torch.zeros(2))


def test_classes_refuse_a_single_column():
    with pytest.raises(ValueError, match="logits: expected at least 2 classes on the last axis, got 1"):
        labelled_classes(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("shape", [(2,), (3, 4), (2, 2, 4)])
def test_classes_refuse_shapes_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"logits: expected shape \(\.\.\., C\) over target's \(2,\)"):
        labelled_classes(torch.zeros(shape), torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("values", [[0.1, 0.2], (0.1, 0.2), np.array([0.1, 0.2])])
def test_number_list_keeps_double_precision(values):
    assert number_list("x", values, least=2).tolist() == [0.1, 0.2]


@pytest.mark.parametrize("values", [[1.0], torch.zeros(2, 2), torch.tensor(1.0)])
def test_number_list_refuses_other_shapes(values):
    with pytest.raises(ValueError, match="x: expected a list of at least 2 numbers, got shape"):
        number_list("x", values, least=2)
