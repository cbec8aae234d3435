"""The contract of a layer, check by check and all at once."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from mmaffect.ops import check_choice
from mmaffect.testing.availability import check_nothing_left, check_subsets
from mmaffect.testing.case import Case
from mmaffect.testing.invariance import (
    check_absent_values,
    check_batch_mates,
    check_batch_order,
    check_padding,
    check_zeros,
)
from mmaffect.testing.numerics import (
    check_autocast,
    check_determinism,
    check_dtypes,
    check_gradients,
    check_inputs_kept,
)
from mmaffect.testing.programs import check_compile, check_export
from mmaffect.testing.state import check_pickle, check_reset, check_state_dict
from mmaffect.testing.unlabelled import check_empty_labels, check_unlabelled

CHECKS: Mapping[str, Callable[[Case], None]] = MappingProxyType(
    {
        "padding": check_padding,
        "batch_order": check_batch_order,
        "batch_mates": check_batch_mates,
        "absent_values": check_absent_values,
        "zeros": check_zeros,
        "subsets": check_subsets,
        "nothing_left": check_nothing_left,
        "unlabelled": check_unlabelled,
        "empty_labels": check_empty_labels,
        "dtypes": check_dtypes,
        "autocast": check_autocast,
        "gradients": check_gradients,
        "determinism": check_determinism,
        "inputs_kept": check_inputs_kept,
        "compile": check_compile,
        "export": check_export,
        "state_dict": check_state_dict,
        "pickle": check_pickle,
        "reset": check_reset,
    }
)


def check_all(case: Case, only: Iterable[str] | None = None) -> None:
    """Run the contract on a layer, a function or a loss, and report all that fails.

    Args:
        case: what is checked; the checks in ``case.exempt`` are left out.
        only: names of the checks to run; all of ``CHECKS`` by default.

    Raises:
        AssertionError: with one line for each check that failed, and the number of those that ran. An error that the
            layer itself raised counts as a failure; the first one is chained.
        ValueError: if ``only`` or ``case.exempt`` names an unknown check.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> class Mean(nn.Module):  # forgets the mask: padding and absent values leak
        ...     def forward(self, x, mask):
        ...         return x.mean(1)
        >>> mask = torch.tensor([[True, True, False], [True, False, False]])
        >>> case = Case(build=Mean, inputs={"x": torch.randn(2, 3, 4), "mask": mask}, masks={"x": "mask"})
        >>> check_all(case, only=["batch_order", "padding"])
        Traceback (most recent call last):
        ...
        AssertionError: 1 of 2 checks failed
        padding: output 'output' of sample 0 becomes NaN or infinite when 3 steps of padding that hold nan are added
    """
    names = list(CHECKS if only is None else only)
    for name in names:
        check_choice("only", name, CHECKS)
    for name in case.exempt:
        check_choice("exempt", name, CHECKS)
    names = [n for n in names if n not in case.exempt]
    failures: dict[str, Exception] = {}
    for name in names:
        try:
            CHECKS[name](case)
        except Exception as error:
            failures[name] = error
    if failures:
        lines = [
            f"{n}: {e if isinstance(e, AssertionError) else f'{type(e).__name__}: {e}'}" for n, e in failures.items()
        ]
        report = "\n".join([f"{len(failures)} of {len(names)} checks failed", *lines])
        raise AssertionError(report) from next(iter(failures.values()))
