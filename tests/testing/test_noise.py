import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from mmaffect.testing import steady_noise

DRAWS = {
    "randn": lambda b, t: torch.randn(b, t, 3),
    "randn with a generator": lambda b, t: torch.randn(b, t, 3, generator=torch.Generator().manual_seed(b)),
    "randn_like": lambda b, t: torch.randn_like(torch.zeros(b, t, 3)),
    "normal_": lambda b, t: torch.empty(b, t, 3).normal_(1, 2),
    "normal": lambda b, t: torch.normal(torch.ones(b, t, 3), torch.ones(b, t, 3)),
    "rand": lambda b, t: torch.rand(b, t),
    "uniform_": lambda b, t: torch.empty(b, t).uniform_(2, 3),
    "exponential_": lambda b, t: torch.empty(b, t, 3).exponential_(2.0),
    "bernoulli": lambda b, t: torch.bernoulli(torch.tensor([0.1, 0.9]).expand(b, t, 2)),
    "bernoulli with p": lambda b, t: torch.bernoulli(torch.zeros(b, t), 0.5),
    "bernoulli_": lambda b, t: torch.empty(b, t).bernoulli_(0.5),
    "randint": lambda b, t: torch.randint(2, 9, (b, t, 4)),
    "randint_like": lambda b, t: torch.randint_like(torch.zeros(b, t, 4), 9),
    "multinomial": lambda b, t: torch.multinomial(torch.tensor([[0.1, 0.9]]).expand(b, 2), 1).expand(b, t),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_knows_neither_batch_nor_padding_nor_seed(name):
    torch.manual_seed(0)
    with steady_noise():
        short = DRAWS[name](2, 3)
    torch.manual_seed(1)
    with steady_noise():
        long = DRAWS[name](4, 8)
    assert torch.equal(short, long[:2, :3])
    assert torch.equal(long, long.flip(0))


def test_draws_are_quantiles_of_the_distribution_asked_for():
    with steady_noise():
        uniform = torch.rand(1, 1, 2000, dtype=torch.float64)
        normal = torch.empty(1, 1, 2000, dtype=torch.float64).normal_(1, 2)
        exponential = torch.empty(1, 1, 2000, dtype=torch.float64).exponential_(0.5)
        whole = torch.randint(2, 5, (1, 1, 3000))
        coins = torch.bernoulli(torch.full((1, 1, 2000), 0.3))
    # Kolmogorov's distance of a low-discrepancy sequence is far below the 0.03 of 2000 random draws.
    assert stats.kstest(uniform.flatten(), "uniform").statistic < 0.005
    assert stats.kstest(normal.flatten(), stats.norm(1, 2).cdf).statistic < 0.005
    assert stats.kstest(exponential.flatten(), stats.expon(scale=2).cdf).statistic < 0.005
    assert torch.bincount(whole.flatten()).tolist()[2:] == pytest.approx([1000] * 3, abs=15)
    assert coins.mean().item() == pytest.approx(0.3, abs=0.005)


def test_one_draw_after_the_other_differs_and_a_new_context_starts_again():
    with steady_noise():
        first, second = torch.randn(2), torch.randn(2)
    with steady_noise():
        again = torch.randn(2)
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


def test_a_permutation_is_the_identity_and_what_is_not_random_is_left_alone():
    with steady_noise():
        assert torch.randperm(4).tolist() == [0, 1, 2, 3]
        assert torch.ones(2).sum() == 2


def test_gradients_pass_through_a_reparametrised_draw():
    mean = torch.zeros(2, requires_grad=True)
    with steady_noise():
        (mean + torch.randn_like(mean)).sum().backward()
    assert mean.grad.tolist() == [1, 1]


def test_attention_without_dropout_is_not_random():
    x = torch.randn(1, 2, 3, 4)
    with steady_noise():
        attended = F.scaled_dot_product_attention(x, x, x)
    torch.testing.assert_close(attended, F.scaled_dot_product_attention(x, x, x))


def test_an_operation_without_steady_counterpart_is_named():
    with (
        steady_noise(),
        pytest.raises(NotImplementedError, match=r"steady_noise: no steady counterpart of aten.random_"),
    ):
        torch.empty(3).random_(4)


def test_outside_the_context_noise_is_noise():
    torch.manual_seed(0)
    expected = torch.randn(3)
    with steady_noise():
        torch.randn(3)
    torch.manual_seed(0)
    assert torch.equal(torch.randn(3), expected)
