import pytest
import torch

from mmaffect.testing import Case, check_nothing_left, check_subsets
from tests.testing import specimens
from tests.testing.specimens import case, fusion_case


@pytest.mark.parametrize("check", [check_subsets, check_nothing_left])
def test_layers_that_keep_the_contract_pass(check):
    check(case())
    check(fusion_case())


def test_one_modality_must_be_enough():
    with pytest.raises(
        AssertionError, match=r"output 'output' is not finite when only present\[:, 0\] is left, first in row"
    ):
        check_subsets(fusion_case(lambda: _Ratio()))


class _Ratio(specimens.Fusion):
    def forward(self, x, present):
        clean = {n: torch.where(present[:, i : i + 1], v, 0.0) for i, (n, v) in enumerate(x.items())}
        return clean["text"].sum(-1) * 0 / clean["audio"].norm(dim=-1)


def test_gradients_must_be_finite_too():
    class Norm(specimens.Encoder):
        def pool(self, y, mask):
            return (y.square().sum((1, 2)) * self.scale.sum() ** 2).sqrt()

    with pytest.raises(
        AssertionError, match=r"gradient of parameter 'scale' is not finite when sample 0 has nothing left"
    ):
        check_nothing_left(case(Norm))


def test_a_sample_with_nothing_left_gives_no_nan():
    with pytest.raises(
        AssertionError, match="output 'pooled' is not finite when sample 0 has nothing left, first in row 0"
    ):
        check_nothing_left(case(specimens.NothingIsNaN))
    check_nothing_left(case(specimens.NothingIsNaN, hideable=()))


def test_a_sample_with_nothing_left_disturbs_nobody():
    class Share(specimens.Encoder):
        def pool(self, y, mask):
            return super().pool(y, mask) * mask.any(1).double().mean()

    with pytest.raises(AssertionError, match=r"output 'pooled' of sample 2 changes .* when sample 0 has nothing left"):
        check_nothing_left(case(Share))


@pytest.mark.parametrize(("count", "runs"), [(2, 3), (4, 15), (5, 10), (6, 12)])
def test_all_subsets_of_few_and_the_extremes_of_many(count, runs):
    seen = set()

    def spy(x, present):
        seen.add(tuple(present[0].tolist()))
        return present.sum(1)

    names = [str(i) for i in range(count)]
    present = torch.ones(2, count, dtype=torch.bool)
    present[1, 0] = False
    case = Case(
        build=lambda: spy,
        inputs={"x": {n: torch.zeros(2, 1) for n in names}, "present": present},
        present={"x": "present"},
    )
    check_subsets(case)
    assert len(seen) == runs
    assert min(map(sum, seen)) == 1
    assert all(any(pattern) for pattern in seen)
