"""Every message names the argument, what was given and what was expected."""

import pytest
import torch

from mmaffect.ops import InputError, check_choice, check_positive, check_shape


def test_shapes():
    check_shape("x", torch.zeros(2, 3, 4), "B T D", D=4)
    check_shape("x", torch.zeros(2, 3), "B 3")
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, D\), got \(2, 3\)"):
        check_shape("x", torch.zeros(2, 3), "B T D")
    with pytest.raises(ValueError, match=r"x: expected shape \(B, 3\), got \(2, 4\)"):
        check_shape("x", torch.zeros(2, 4), "B 3")


def test_choices_offer_the_nearest():
    check_choice("kind", "a", ["a", "b"])
    with pytest.raises(InputError, match=r"kind: 'textt' is unknown; did you mean 'text'.* Known: audio, text"):
        check_choice("kind", "textt", ["text", "audio"])
    with pytest.raises(InputError, match="kind: 'zzz' is unknown; Known: audio, text"):
        check_choice("kind", "zzz", ["text", "audio"])


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_positive(value):
    with pytest.raises(ValueError, match="dim: expected a value > 0"):
        check_positive(dim=value)
