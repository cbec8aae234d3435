"""The contract every layer and every system passes; run it on your own.

A :class:`Case` is a layer with one batch of arguments and the meaning of their axes; :func:`check_all` runs every
check of ``CHECKS`` on it, and each check can be run by itself. :func:`check_system` makes the cases of a system.

With one test a check::

    CASE = Case(build=lambda: MyLayer(8), inputs={"x": x, "mask": mask}, masks={"x": "mask"})

    @pytest.mark.parametrize("check", CHECKS)
    def test_contract(check):
        check_all(CASE, [check])
"""

from mmaffect.testing.availability import check_nothing_left, check_subsets
from mmaffect.testing.batches import random_batch, random_dataset
from mmaffect.testing.case import Case
from mmaffect.testing.interface import check_interface, check_refusal
from mmaffect.testing.invariance import (
    check_absent_values,
    check_batch_mates,
    check_batch_order,
    check_padding,
    check_zeros,
)
from mmaffect.testing.layer import CHECKS, check_all
from mmaffect.testing.noise import steady_noise
from mmaffect.testing.numerics import (
    check_autocast,
    check_determinism,
    check_dtypes,
    check_gradients,
    check_inputs_kept,
)
from mmaffect.testing.programs import check_compile, check_export
from mmaffect.testing.state import check_pickle, check_reset, check_state_dict
from mmaffect.testing.system import check_system, system_cases
from mmaffect.testing.unlabelled import check_empty_labels, check_unlabelled

__all__ = [
    "CHECKS",
    "Case",
    "check_absent_values",
    "check_all",
    "check_autocast",
    "check_batch_mates",
    "check_batch_order",
    "check_compile",
    "check_determinism",
    "check_dtypes",
    "check_empty_labels",
    "check_export",
    "check_gradients",
    "check_inputs_kept",
    "check_interface",
    "check_nothing_left",
    "check_padding",
    "check_pickle",
    "check_refusal",
    "check_reset",
    "check_state_dict",
    "check_subsets",
    "check_system",
    "check_unlabelled",
    "check_zeros",
    "random_batch",
    "random_dataset",
    "steady_noise",
    "system_cases",
]
