"""Backdoor adjustment, prototypes and counterfactuals, put through the library's contract."""

from functools import partial

import pytest
import torch

from mmaffect.causal import BackdoorHead, PrototypeHead, backdoor_adjust, counterfactual_difference, mask_tokens
from mmaffect.testing import Case, check_all

CONFOUNDER = {(3,): torch.tensor([0, 2, 1]), (3, 4): torch.tensor([[0, 2, 1, 1], [1, 0, 2, 2], [2, 2, 0, 1]])}


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("leading", CONFOUNDER)
@pytest.mark.parametrize("known", [True, False])
def test_backdoor_head(leading, known):
    check_all(
        Case(
            build=lambda: BackdoorHead(5, 4, prior=[0.5, 0.3, 0.2]),
            inputs={"hidden": normal(*leading, 5), "confounder": CONFOUNDER[leading] if known else None},
        )
    )


def test_backdoor_head_where_some_strata_are_unknown():
    confounder = CONFOUNDER[3, 4].clone()
    confounder[0, 1], confounder[2] = -100, -100
    check_all(
        Case(
            build=lambda: BackdoorHead(5, 4, prior=[0.5, 0.3, 0.2]),
            inputs={"hidden": normal(3, 4, 5), "confounder": confounder},
            exempt={"gradients": "stopped on purpose where the stratum is unknown; tested by hand"},
        )
    )


@pytest.mark.parametrize(("options", "uniform"), [({}, True), ({"learn_prior": True}, False)])
def test_prototype_head(options, uniform):
    prototypes = {"a": normal(4, 6), "b": normal(4, 3)}
    check_all(
        Case(
            build=lambda: PrototypeHead(5, prototypes, prior=[0.4, 0.3, 0.2, 0.1], hidden=3, **options),
            inputs={"hidden": normal(3, 2, 5), "uniform": uniform},
        )
    )


def test_functions():
    log_prob = normal(3, 2, 4).log_softmax(-1)
    log_prior = torch.tensor([0.3, 0.7]).log()
    check_all(
        Case(
            build=lambda: backdoor_adjust,
            inputs={"log_prob": log_prob, "log_prior": log_prior},
            shared=("log_prior",),
        )
    )
    check_all(
        Case(
            build=lambda: partial(counterfactual_difference, tau=0.5),
            inputs={"log_prob": log_prob, "counterfactual_log_prob": log_prob.flip(0)},
        )
    )


def test_mask_tokens():
    check_all(
        Case(
            build=lambda: partial(mask_tokens, special=[0, 1], mask_id=3),
            inputs={
                "ids": torch.randint(9, (3, 5), generator=torch.Generator().manual_seed(0)),
                "mask": torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [True, False, True, True, False]]),
                "kept": torch.tensor([4, 5]),
            },
            masks={"ids": "mask"},
            aligned={"output": "mask"},
        )
    )
