import pytest
import torch
from torch import nn

from mmaffect.testing import check_pickle, check_reset, check_state_dict
from tests.testing import specimens
from tests.testing.specimens import case, fusion_case


@pytest.mark.parametrize("check", [check_state_dict, check_pickle, check_reset])
def test_layers_that_keep_the_contract_pass(check):
    check(case())
    check(fusion_case())


def test_a_plain_function_has_no_state():
    plain = case(lambda: lambda x, mask: x)
    check_state_dict(plain)
    check_reset(plain)


def test_state_outside_parameters_and_buffers_is_caught():
    with pytest.raises(
        AssertionError, match=r"output 'pooled' of sample . .* something is neither parameter nor buffer"
    ):
        check_state_dict(case(specimens.Unregistered))


def test_state_that_depends_on_the_building_is_caught():
    class Grows(specimens.Encoder):
        built = 0

        def __init__(self):
            super().__init__()
            Grows.built += 1
            self.register_parameter(f"extra{Grows.built}", nn.Parameter(torch.zeros(1)))

    with pytest.raises(AssertionError, match=r"(?s)the state does not survive saving and loading: .*Missing key"):
        check_state_dict(case(Grows))


def test_what_cannot_be_pickled_is_caught():
    with pytest.raises(AssertionError, match=r"the layer cannot be pickled or copied: .*lambda"):
        check_pickle(case(specimens.Unpicklable))


def test_a_parameter_that_is_not_drawn_again_is_caught():
    with pytest.raises(AssertionError, match=r"reset_parameters leaves as they were: bias$"):
        check_reset(case(specimens.ForgetsParameter))


def test_a_layer_that_does_not_say_its_options_is_caught():
    with pytest.raises(AssertionError, match="Silent has no extra_repr"):
        check_reset(case(specimens.Silent))


def test_parts_are_reset_where_the_layer_has_no_reset_of_its_own():
    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([nn.Linear(2, 2), nn.GRU(2, 2)])

        def extra_repr(self):
            return "2"

    check_reset(case(Parts))
