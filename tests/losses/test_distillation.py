"""Distillation against loops, closed forms and PyTorch's own, and against what it must not read."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.losses import cosine_distillation, score_map_distillation


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coins(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.6


def divergence_by_hand(student, teacher, sources, queries):
    """Every row by itself, with the sources that count cut out of it."""
    rows = []
    for sample in range(len(student)):
        kept = sources[sample]
        for head in range(student.shape[1]):
            for row in range(student.shape[2]):
                if queries[sample, row] and kept.any():
                    p = teacher[sample, head, row][kept].softmax(0)
                    q = student[sample, head, row][kept].softmax(0)
                    rows.append((p * (p / q).log()).sum())
    return rows


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=25, deadline=None)
def test_score_maps_equal_a_loop_over_rows(seed, apart):
    student, teacher = draw(3, 2, 5, 5, seed=seed), 2 * draw(3, 2, 5, 5, seed=seed + 1)
    sources = coins(3, 5, seed=seed)
    queries = coins(3, 5, seed=seed + 1) if apart else sources
    rows = divergence_by_hand(student, teacher, sources, queries)
    expected = torch.stack(rows).mean() if rows else torch.tensor(0.0, dtype=torch.float64)
    loss = score_map_distillation(student, teacher, sources, queries if apart else None)
    torch.testing.assert_close(loss, expected)
    total = score_map_distillation(student, teacher, sources, queries, reduction="batchmean")
    torch.testing.assert_close(total, expected * len(rows) / 6)


def test_without_masks_the_sum_over_rows_is_what_pytorch_calls_batchmean():
    student, teacher = draw(3, 2, 5, 5), draw(3, 2, 5, 5, seed=1)
    flat = [x.flatten(0, 1).log_softmax(-1) for x in (student, teacher)]
    expected = F.kl_div(*flat, reduction="batchmean", log_target=True)
    torch.testing.assert_close(score_map_distillation(student, teacher, reduction="batchmean"), expected)
    # The mean weighs each of the five rows a fifth: five times its weight is the published one.
    torch.testing.assert_close(5 * score_map_distillation(student, teacher), expected)


def test_two_sources_have_a_closed_form():
    # Over the first two sources the teacher is a fair coin and the student has odds of e: KL = log cosh(1/2).
    student, teacher = torch.zeros(1, 1, 3, 3), torch.full((1, 1, 3, 3), 7.0)
    student[..., 0], student[..., 2], teacher[..., 2] = 1.0, 5.0, -9.0
    loss = score_map_distillation(student, teacher, torch.tensor([[True, True, False]]))
    assert loss.item() == pytest.approx(math.log(math.cosh(0.5)), rel=1e-5)


@pytest.mark.parametrize("change", ["length", "heads", "batch", "padding"])
def test_the_mean_does_not_grow(change):
    student, teacher = draw(2, 2, 4, 4), draw(2, 2, 4, 4, seed=1)
    sources = torch.ones(2, 4, dtype=torch.bool)
    expected = score_map_distillation(student, teacher, sources)
    if change == "batch":
        student, teacher, sources = student.repeat(3, 1, 1, 1), teacher.repeat(3, 1, 1, 1), sources.repeat(3, 1)
    elif change == "heads":
        student, teacher = student.repeat(1, 3, 1, 1), teacher.repeat(1, 3, 1, 1)
    elif change == "padding":
        student, teacher = (F.pad(x, (0, 3, 0, 3), value=torch.nan) for x in (student, teacher))
        sources = F.pad(sources, (0, 3))
    else:  # each source in pieces of equal score, and each row as often
        student, teacher = (x.repeat(1, 1, 3, 3) for x in (student, teacher))
        sources = sources.repeat(1, 3)
    torch.testing.assert_close(score_map_distillation(student, teacher, sources), expected)


def test_score_maps_are_read_up_to_a_constant_a_row():
    student = draw(2, 2, 4, 4)
    teacher = student + draw(2, 2, 4, 1, seed=1)
    assert score_map_distillation(student, teacher).item() == pytest.approx(0, abs=1e-12)


def test_the_gradient_is_the_difference_of_the_maps():
    student, teacher = draw(2, 3, 4, 4).requires_grad_(), draw(2, 3, 4, 4, seed=1)
    score_map_distillation(student, teacher).backward()
    torch.testing.assert_close(student.grad, (student.softmax(-1) - teacher.softmax(-1)).detach() / (2 * 3 * 4))


def test_gradcheck():
    sources, queries = coins(3, 4), coins(3, 4, seed=1)
    student, teacher = draw(3, 2, 4, 4).requires_grad_(), draw(3, 2, 4, 4, seed=1)
    assert torch.autograd.gradcheck(lambda s: score_map_distillation(s, teacher, sources, queries), student)
    state, other = draw(3, 4).requires_grad_(), draw(3, 4, seed=1)
    mask = torch.tensor([True, False, True])
    assert torch.autograd.gradcheck(lambda s: cosine_distillation(s, other, mask), state)


def test_cosine_equals_pytorchs_over_the_pairs_that_count():
    student, teacher, mask = draw(4, 5, 6), draw(4, 5, 6, seed=1), coins(4, 5)
    expected = 1 - F.cosine_similarity(student, teacher, dim=-1)
    torch.testing.assert_close(cosine_distillation(student, teacher, mask), expected[mask].mean())
    torch.testing.assert_close(cosine_distillation(student, teacher), expected.mean())


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_cosine_is_the_same_at_every_length(scale):
    student, teacher = torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])
    assert cosine_distillation(scale * student, teacher / scale).item() == pytest.approx(1 - 24 / 25, rel=1e-5)


def test_a_state_of_zero_has_no_direction_and_no_gradient():
    student = torch.zeros(1, 3, requires_grad=True)
    loss = cosine_distillation(student, torch.ones(1, 3))
    loss.backward()
    assert loss.item() == 1
    assert (student.grad == 0).all()


@pytest.mark.parametrize("name", ["states", "maps"])
def test_the_teacher_gets_no_gradient(name):
    shape = (2, 3) if name == "states" else (2, 1, 3, 3)
    student, teacher = draw(*shape).requires_grad_(), draw(*shape, seed=1).requires_grad_()
    loss = (cosine_distillation if name == "states" else score_map_distillation)(student, teacher)
    loss.backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("which", ["student", "teacher"])
def test_what_does_not_count_is_not_read(which):
    x = {"student": draw(2, 2, 3, 3), "teacher": draw(2, 2, 3, 3, seed=1)}
    sources = torch.tensor([[True, True, False], [False] * 3])
    queries = torch.tensor([[True, False, True], [True] * 3])
    clean = score_map_distillation(**x, sources=sources, queries=queries)
    pairs = (queries.unsqueeze(2) & sources.unsqueeze(1)).unsqueeze(1)
    poisoned = x | {which: torch.where(pairs, x[which], torch.nan)}
    poisoned["student"].requires_grad_()
    loss = score_map_distillation(**poisoned, sources=sources, queries=queries)
    loss.backward()
    assert torch.equal(loss, clean)
    assert (poisoned["student"].grad[~pairs.expand(2, 2, 3, 3)] == 0).all()
    states = {name: values[:, 0, 0] for name, values in x.items()}
    mask = torch.tensor([True, False])
    poison = {n: torch.where(mask[:, None] | (n != which), v, torch.nan).detach() for n, v in states.items()}
    poison["student"].requires_grad_()
    loss = cosine_distillation(**poison, mask=mask)
    loss.backward()
    assert torch.equal(loss, cosine_distillation(**states, mask=mask))
    assert (poison["student"].grad[1] == 0).all()


def test_nothing_that_counts_is_zero_with_zero_gradient():
    student, nothing = draw(2, 2, 3, 3).requires_grad_(), torch.zeros(2, 3, dtype=torch.bool)
    for reduction in ("mean", "batchmean"):
        loss = score_map_distillation(student, draw(2, 2, 3, 3, seed=1), nothing, ~nothing, reduction=reduction)
        loss.backward()
        assert loss.item() == 0
    state = draw(2, 3).requires_grad_()
    cosine_distillation(state, draw(2, 3, seed=1), torch.zeros(2, dtype=torch.bool)).backward()
    assert (student.grad == 0).all()
    assert (state.grad == 0).all()


def test_certainty_costs_a_finite_price():
    teacher, student = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    teacher[..., 0], student[..., 1] = 1e4, 1e4
    assert score_map_distillation(student, teacher).item() == pytest.approx(1e4)


def test_half_precision_is_computed_in_single():
    student, teacher = draw(2, 2, 40, 40).half(), draw(2, 2, 40, 40, seed=1).half()
    expected = score_map_distillation(student.float(), teacher.float())
    assert torch.equal(score_map_distillation(student, teacher), expected)
    wide = torch.full((3, 4000), 50.0)
    assert cosine_distillation(wide.half(), wide.half()).item() == pytest.approx(0, abs=1e-5)


def test_errors_name_the_argument():
    maps, mask = torch.zeros(2, 1, 3, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"student: expected shape \(B, H, N, N\), got \(2, 1, 3, 4\)"):
        score_map_distillation(torch.zeros(2, 1, 3, 4), maps)
    with pytest.raises(ValueError, match=r"student: expected shape \(B, H, N, N\), got \(\)"):
        score_map_distillation(torch.zeros(()), maps)
    with pytest.raises(ValueError, match=r"teacher: expected shape .* H = 1, .* got \(2, 2, 3, 3\)"):
        score_map_distillation(maps, torch.zeros(2, 2, 3, 3))
    with pytest.raises(ValueError, match=r"sources: expected shape \(B, N\)"):
        score_map_distillation(maps, maps, mask[:1])
    with pytest.raises(ValueError, match="queries: expected bool"):
        score_map_distillation(maps, maps, mask, mask.float())
    with pytest.raises(ValueError, match="reduction: 'sum' is unknown"):
        score_map_distillation(maps, maps, reduction="sum")
    states = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"teacher: expected the shape \(2, 3\) of student, got \(2, 4\)"):
        cosine_distillation(states, torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"student: expected shape \(\.\.\., D\), got \(\)"):
        cosine_distillation(torch.zeros(()), torch.zeros(()))
    with pytest.raises(ValueError, match=r"mask: expected bool of shape \(2,\), got torch.float32 of shape \(2,\)"):
        cosine_distillation(states, states, torch.ones(2))
