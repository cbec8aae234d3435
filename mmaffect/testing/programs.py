"""Programs made of a layer: compiled whole, and exported."""

from typing import Any

import torch

from mmaffect.testing.case import Case
from mmaffect.testing.change import take
from mmaffect.testing.compare import assert_same, differentiate
from mmaffect.testing.tree import rebuild


def check_compile(case: Case) -> None:
    """``torch.compile`` gives the same outputs and gradients; in one graph unless ``fullgraph`` is False.

    The backend is ``aot_eager``: what is checked is that the layer can be traced, and no C++ compiler is needed.

    Args:
        case: what is checked.

    Raises:
        AssertionError: if the graph breaks, or naming what differs.
    """
    layer, tensors = case.module(), case.arguments(case.dtype)
    reference = differentiate(case, layer, tensors)
    torch.compiler.reset()
    compiled: Any = torch.compile(layer, fullgraph=case.fullgraph, backend="aot_eager")
    try:
        run = differentiate(case, compiled, tensors)
    except Exception as error:
        raise AssertionError(
            f"the layer does not compile (fullgraph={case.fullgraph}): {_first_line(error)}"
        ) from error
    finally:
        torch.compiler.reset()
    change = "the layer is compiled"
    assert_same(case, reference.outputs, run.outputs, change)
    assert_same(case, reference.inputs, run.inputs, change, what="gradient of")
    # Names of a compiled layer's parameters carry a prefix; their order is the layer's.
    parameters = dict(zip(reference.parameters, run.parameters.values(), strict=True))
    assert_same(case, reference.parameters, parameters, change, what="gradient of parameter")


def check_export(case: Case) -> None:
    """``torch.export`` succeeds, and the exported program gives the layer's outputs.

    Also on other values of the same shapes (the samples in another order): nothing of the example is baked in.

    Args:
        case: what is checked.

    Raises:
        AssertionError: if the export fails, or naming what differs.
    """
    layer, tensors = case.module(), case.arguments(case.dtype)
    try:
        program = torch.export.export(layer, (), rebuild(case.inputs, tensors)).module()
    except Exception as error:
        raise AssertionError(f"the layer does not export: {_first_line(error)}") from error
    for rows in (torch.arange(case.size), torch.arange(case.size).roll(1)):
        given = take(case, tensors, rows)
        change = "the layer is exported" if int(rows[0]) == 0 else "the exported layer is given other values"
        assert_same(case, case.run(layer, given), case.run(program, given), change)


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
