"""The fusions, put through the library's contract."""

import torch

from mmaffect.fusion import ConcatFusion, CrossModalFusion, PerceptronFusion
from mmaffect.testing import Case, check_all


def test_concat_fusion():
    generator = torch.Generator().manual_seed(0)
    hidden = {"a": torch.randn(3, 4, 2, generator=generator), "b": torch.randn(3, 4, 5, generator=generator)}
    check_all(Case(build=lambda: ConcatFusion({"a": 2, "b": 5}), inputs={"hidden": hidden}))


def test_perceptron_fusion():
    generator = torch.Generator().manual_seed(0)
    hidden = {"a": torch.randn(3, 4, 2, generator=generator), "b": torch.randn(3, 4, 5, generator=generator)}
    check_all(Case(build=lambda: PerceptronFusion({"a": 2, "b": 5}, 6, hidden=7), inputs={"hidden": hidden}))


def cross_modal_case(lengths, queries):
    """Modalities of unequal lengths, each absent in one sample; with queries, also at steps that still gather."""
    generator = torch.Generator().manual_seed(0)
    hidden = {n: torch.randn(4, t, 4, generator=generator) for n, t in lengths.items()}
    masks = {n: torch.rand(4, t, generator=generator) < 0.6 for n, t in lengths.items()}
    for row, name in enumerate(masks):
        masks[name][row] = False
        masks[name][3] = True
    inputs = {"hidden": hidden, "masks": masks}
    if queries:
        inputs["queries"] = {n: m | (torch.arange(m.shape[1]) < 2) for n, m in masks.items()}
    asked = "queries" if queries else "masks"
    return Case(
        build=lambda: CrossModalFusion(tuple(lengths), 4, layers=1, heads=2, memory_layers=1),
        inputs=inputs,
        masks={"hidden": "masks"} | ({"queries": "queries"} if queries else {}),
        aligned={n: f"{asked}.{n}" for n in lengths},
    )


def test_cross_modal_fusion():
    check_all(cross_modal_case({"a": 3, "b": 5}, queries=True))


def test_cross_modal_fusion_of_three():
    case = cross_modal_case({"a": 3, "b": 5, "c": 4}, queries=False)
    check_all(case, ["padding", "absent_values", "subsets", "batch_order"])


def test_cross_modal_fusion_of_one():
    check_all(cross_modal_case({"a": 4}, queries=False), ["padding", "absent_values", "subsets", "batch_order"])
