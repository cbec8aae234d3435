import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.encoders import TokenEmbedding


@given(st.integers(0, 2**31))
def test_a_vector_a_token_and_none_where_nothing_is(seed):
    generator = torch.Generator().manual_seed(seed)
    ids, mask = torch.randint(9, (3, 4), generator=generator), torch.rand(3, 4, generator=generator) < 0.6
    encoder = TokenEmbedding(9, 5)
    onehot = torch.nn.functional.one_hot(ids, 9).float() * mask[..., None]
    torch.testing.assert_close(encoder(ids, mask), onehot @ encoder.table.weight)


def test_no_id_under_a_mask_is_looked_up():
    encoder = TokenEmbedding(9, 5)
    mask = torch.tensor([[True, False, False]])
    out = encoder(torch.tensor([[3, -7, 10**9]]), mask)
    out.sum().backward()
    assert (out[0, 1:] == 0).all()
    touched = encoder.table.weight.grad.any(1)
    assert touched.tolist() == [i == 3 for i in range(9)]  # id 0, that stands in, learns nothing


def test_dropout_is_on_in_training_alone():
    encoder, ids = TokenEmbedding(9, 64, dropout=0.5), torch.ones(1, 50, dtype=torch.int64)
    mask = ids > 0
    assert 0.4 < (encoder(ids, mask) == 0).float().mean() < 0.6
    assert (encoder.eval()(ids, mask) != 0).all()


def test_vectors_start_about_one_long():
    lengths = TokenEmbedding(2000, 64).table.weight.norm(dim=1)
    assert lengths.mean().item() == pytest.approx(1, abs=0.01)  # sd of a length is about 0.09


def test_it_says_what_it_is():
    assert TokenEmbedding(9, 5).width == 5
    assert repr(TokenEmbedding(9, 5)).startswith("TokenEmbedding(\n  9, 5")


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (torch.ones(2, 3, 1).long(), torch.ones(2, 3) > 0, r"ids: expected shape \(B, T\)"),
        (torch.ones(2, 3), torch.ones(2, 3) > 0, "ids: expected an int64 tensor"),
        (torch.ones(2, 3).long(), torch.ones(2, 4) > 0, r"mask: expected shape \(B, T\) with"),
        (torch.ones(2, 3).long(), torch.ones(2, 3), "mask: expected bool"),
    ],
)
def test_what_does_not_fit_is_said(ids, mask, message):
    with pytest.raises(ValueError, match=message):
        TokenEmbedding(9, 5)(ids, mask)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary": 0, "dim": 5}, "vocabulary: expected a value > 0, got 0"),
        ({"vocabulary": 9, "dim": 0}, "dim: expected a value > 0, got 0"),
        ({"vocabulary": 9, "dim": 5, "dropout": 1.5}, "dropout: expected"),
    ],
)
def test_what_cannot_be_is_said(arguments, message):
    with pytest.raises(ValueError, match=message):
        TokenEmbedding(**arguments)
