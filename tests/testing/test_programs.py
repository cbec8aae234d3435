import pytest
from torch import nn

from mmaffect.testing import check_compile, check_export
from tests.testing import specimens
from tests.testing.specimens import case, fusion_case


@pytest.mark.parametrize("check", [check_compile, check_export])
def test_layers_that_keep_the_contract_pass(check):
    check(case())
    check(fusion_case())


def test_a_plain_function_compiles_and_exports():
    plain = case(lambda: lambda x, mask: x.sum(-1) + mask)
    check_compile(plain)
    check_export(plain)


def test_a_broken_graph_is_caught_and_may_be_allowed():
    with pytest.raises(AssertionError, match=r"the layer does not compile \(fullgraph=True\): .+"):
        check_compile(case(specimens.BreaksGraph))
    check_compile(case(specimens.BreaksGraph, fullgraph=False))
    with pytest.raises(AssertionError, match=r"the layer does not export: .+"):
        check_export(case(specimens.BreaksGraph))


def test_another_result_when_traced_is_caught():
    with pytest.raises(AssertionError, match=r"output 'pooled' of sample 0 changes by 1 .* when the layer is compiled"):
        check_compile(case(specimens.OtherWhenTraced))
    with pytest.raises(AssertionError, match=r"output 'pooled' of sample 0 changes by 1 .* when the layer is exported"):
        check_export(case(specimens.OtherWhenTraced))


class _Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(specimens.DIM, 3, batch_first=True)

    def forward(self, x, mask):
        return self.gru(x * mask.unsqueeze(-1))[0]


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
def test_a_recurrent_layer_needs_no_full_graph_to_pass():
    check_compile(case(_Recurrent, fullgraph=False))
    check_export(case(_Recurrent))
