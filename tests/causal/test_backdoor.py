"""The backdoor head against tables that can be summed by hand, and against the world it must tell from P(y | x)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import nll_loss

from mmaffect.causal import BackdoorHead, backdoor_adjust, class_frequencies
from mmaffect.causal.backdoor import as_log_prior


def test_doing_and_seeing_differ_by_the_law_that_is_averaged_over():
    # A joint law of c, x, y, all binary: c moves x and y. Doing x leaves P(c); seeing x tells of c.
    prior = torch.tensor([0.7, 0.3], dtype=torch.float64)
    x_given_c = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)  # c by x
    y_given_xc = torch.tensor([[[0.8, 0.2], [0.3, 0.7]], [[0.6, 0.4], [0.1, 0.9]]], dtype=torch.float64)  # x, c, y
    joint = prior[:, None, None] * x_given_c[:, :, None] * y_given_xc.transpose(0, 1)  # c, x, y
    done = backdoor_adjust(y_given_xc.log(), prior.log()).exp()
    torch.testing.assert_close(done[0], torch.tensor([0.8 * 0.7 + 0.3 * 0.3, 0.2 * 0.7 + 0.7 * 0.3]).double())
    torch.testing.assert_close(done[1], torch.tensor([0.6 * 0.7 + 0.1 * 0.3, 0.4 * 0.7 + 0.9 * 0.3]).double())
    seen = joint.sum(0) / joint.sum((0, 2))[:, None]
    for x in (0, 1):
        posterior = (joint.sum(2) / joint.sum((0, 2)))[:, x]
        torch.testing.assert_close(backdoor_adjust(y_given_xc[x].log(), posterior.log()).exp(), seen[x])
    assert (done - seen).abs().max() > 0.1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31))
def test_adjustment_is_the_plain_sum_over_strata(samples, strata, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    conditional = torch.rand(samples, strata, classes, dtype=torch.float64, generator=generator) + 1e-3
    conditional = conditional / conditional.sum(-1, keepdim=True)
    prior = torch.rand(strata, dtype=torch.float64, generator=generator)
    prior = prior / prior.sum()
    expected = sum(prior[k] * conditional[:, k] for k in range(strata))
    torch.testing.assert_close(backdoor_adjust(conditional.log(), prior.log()).exp(), expected)


def test_probabilities_too_small_for_float32_survive():
    log_prob = torch.tensor([[-500.0, 0.0], [-501.0, 0.0]])
    found = backdoor_adjust(log_prob, torch.tensor([0.5, 0.5]).log())[0].item()
    assert found == pytest.approx(-500 + torch.log(torch.tensor(0.5 + 0.5 / torch.e)).item(), abs=1e-3)


def test_a_value_that_never_occurs_has_no_say_and_no_gradient():
    log_prob = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    prior = torch.tensor([0.4, 0.0, 0.6], dtype=torch.float64)
    out = backdoor_adjust(log_prob, prior.log())
    torch.testing.assert_close(out, backdoor_adjust(log_prob[:, [0, 2]], prior[[0, 2]].log()))
    out.sum().backward()
    assert (log_prob.grad[:, 1] == 0).all()
    assert log_prob.grad.isfinite().all()


def test_each_stratum_is_a_linear_map_of_its_own():
    torch.manual_seed(0)
    head = BackdoorHead(3, 4, prior=[0.2, 0.8])
    h, c = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    weight, bias = head.linear.weight.view(2, 4, 3), head.linear.bias.view(2, 4)
    each = torch.stack([(h @ weight[k].T + bias[k]).log_softmax(-1) for k in range(2)])
    torch.testing.assert_close(head(h, c), torch.stack([each[k, i] for i, k in enumerate(c.tolist())]))
    torch.testing.assert_close(head(h).exp(), 0.2 * each[0].exp() + 0.8 * each[1].exp())


def test_dialogues_are_steps_side_by_side():
    torch.manual_seed(0)
    head = BackdoorHead(3, 4, prior=[0.2, 0.8])
    h, c = torch.randn(2, 5, 3), torch.randint(-1, 2, (2, 5))
    torch.testing.assert_close(head(h, c).flatten(0, 1), head(h.flatten(0, 1), c.flatten()))
    torch.testing.assert_close(head(h).flatten(0, 1), head(h.flatten(0, 1)))


def test_a_sample_trains_its_own_stratum_and_one_of_unknown_stratum_none():
    torch.manual_seed(0)
    head = BackdoorHead(3, 4, prior=[0.2, 0.5, 0.3])
    h = torch.randn(3, 3, requires_grad=True)
    c, y = torch.tensor([2, -100, 2]), torch.tensor([0, 1, 3])
    log_prob = head(h, c)
    torch.testing.assert_close(log_prob[1], head(h)[1])
    nll_loss(log_prob, y).backward()
    gradient = head.linear.weight.grad.view(3, 4, 3)
    assert (gradient[:2] == 0).all()
    assert (gradient[2] != 0).any()
    assert (h.grad[1] == 0).all()
    assert (h.grad[0] != 0).any()


def test_a_step_on_the_way_is_no_confounder():
    # x -> c -> y alone: doing is seeing, P(y | x) = Σ P(y | c) P(c | x); averaged over P(c), x would do nothing.
    prior_x = torch.tensor([0.5, 0.5], dtype=torch.float64)
    c_given_x = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)
    y_given_c = torch.tensor([[0.7, 0.3], [0.1, 0.9]], dtype=torch.float64)
    adjusted = backdoor_adjust(y_given_c.expand(2, 2, 2).log(), (prior_x @ c_given_x).log()).exp()
    torch.testing.assert_close(adjusted[0], adjusted[1])
    done = c_given_x @ y_given_c
    assert (adjusted - done).abs().max() > 0.2


def test_half_precision_keeps_a_sum_of_one():
    head = BackdoorHead(2, 3, prior=[0.37, 0.41, 0.22]).bfloat16()
    assert abs(head.log_prior.float().exp().sum().item() - 1) > 1e-4  # what rounding leaves of it
    with torch.no_grad():
        head.linear.bias.view(3, 3)[:, 0] = 100
    torch.testing.assert_close(head(torch.zeros(1, 2).bfloat16())[0, 0].float(), torch.zeros(()), rtol=0, atol=1e-6)


def test_half_precision_is_rounded_once_at_the_end():
    torch.manual_seed(0)
    head, h = BackdoorHead(2, 3, prior=[0.5, 0.5]).bfloat16(), torch.randn(200, 2).bfloat16()
    each = head.linear(h).view(200, 2, 3).float().log_softmax(-1)
    expected = (each + torch.tensor(0.5).log()).logsumexp(1)
    torch.testing.assert_close(head(h), expected.bfloat16(), rtol=0, atol=0)


def test_a_prior_that_sums_to_nearly_one_is_made_to():
    prior = torch.tensor([0.5, 0.500009], dtype=torch.float64)
    assert abs(as_log_prior(prior).double().exp().sum() - 1) < 5e-7


def test_frequencies_leave_out_what_is_unknown():
    labels = torch.tensor([[0, 1, -100], [1, 1, 3]])
    assert class_frequencies(labels, 4).tolist() == pytest.approx([0.2, 0.6, 0.0, 0.2])


def test_the_prior_is_a_buffer_and_is_saved():
    head, other = BackdoorHead(2, 2, prior=[0.1, 0.9]), BackdoorHead(2, 2, prior=[0.5, 0.5])
    assert "log_prior" not in dict(head.named_parameters())
    other.load_state_dict(head.state_dict())
    torch.testing.assert_close(other.log_prior.exp(), torch.tensor([0.1, 0.9]))


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="prior: expected numbers of at least 0 and of sum 1, got"):
        BackdoorHead(2, 2, prior=[0.5, 0.6])
    with pytest.raises(ValueError, match="prior: expected numbers of at least 0 and of sum 1, got"):
        BackdoorHead(2, 2, prior=[-0.5, 1.5])
    with pytest.raises(ValueError, match=r"prior: expected shape \(K\)"):
        BackdoorHead(2, 2, prior=torch.ones(1, 1))
    with pytest.raises(ValueError, match="classes: expected a value > 0, got 0"):
        BackdoorHead(2, 0, prior=[1.0])
    head = BackdoorHead(2, 2, prior=[0.5, 0.5])
    with pytest.raises(ValueError, match=r"hidden: expected shape \(..., D\) with D = 2, got \(3, 4\)"):
        head(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"confounder: expected shape \(3,\), one value a state, got \(2,\)"):
        head(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"log_prob: expected shape \(..., K, C\), got \(3,\)"):
        backdoor_adjust(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"log_prior: expected shape \(K\) with K = 2, got \(3,\)"):
        backdoor_adjust(torch.zeros(1, 2, 4), torch.zeros(3))
    with pytest.raises(ValueError, match=r"labels: expected an int64 tensor, got torch.float32"):
        class_frequencies(torch.zeros(2), 2)
    with pytest.raises(ValueError, match="labels: expected known values from 0 to 1, got 2"):
        class_frequencies(torch.tensor([0, 2]), 2)
    with pytest.raises(ValueError, match="labels: expected known values from 0 to 1, got none"):
        class_frequencies(torch.tensor([-100]), 2)
