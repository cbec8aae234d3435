"""The fusions, put through the library's contract."""

import torch

from mmaffect.fusion import ConcatFusion, PerceptronFusion
from mmaffect.testing import Case, check_all


def test_concat_fusion():
    generator = torch.Generator().manual_seed(0)
    hidden = {"a": torch.randn(3, 4, 2, generator=generator), "b": torch.randn(3, 4, 5, generator=generator)}
    check_all(Case(build=lambda: ConcatFusion({"a": 2, "b": 5}), inputs={"hidden": hidden}))


def test_perceptron_fusion():
    generator = torch.Generator().manual_seed(0)
    hidden = {"a": torch.randn(3, 4, 2, generator=generator), "b": torch.randn(3, 4, 5, generator=generator)}
    check_all(Case(build=lambda: PerceptronFusion({"a": 2, "b": 5}, 6, hidden=7), inputs={"hidden": hidden}))
