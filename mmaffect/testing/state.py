"""State: what a layer is made of is in its ``state_dict``, can be pickled and can be drawn again."""

import copy
import io
import pickle

import torch
from torch import nn

from mmaffect.testing.case import Case, PlainFunction
from mmaffect.testing.compare import assert_same


def check_state_dict(case: Case) -> None:
    """A new layer that loads the saved state of another gives the other's outputs.

    The new one is built under another seed, so that state kept outside parameters and buffers shows.

    Args:
        case: what is checked.

    Raises:
        AssertionError: if the state cannot be saved or loaded, or naming the output.
    """
    layer, tensors = case.module(), case.arguments(case.dtype)
    fresh = case.module(seed=case.seed + 1)
    file = io.BytesIO()
    try:
        torch.save(layer.state_dict(), file)
        file.seek(0)
        fresh.load_state_dict(torch.load(file, weights_only=True))
    except (RuntimeError, pickle.PickleError) as error:
        raise AssertionError(f"the state does not survive saving and loading: {error}") from error
    change = "the state is loaded into a new layer: something is neither parameter nor buffer"
    assert_same(case, case.run(layer, tensors), case.run(fresh, tensors), change)


def check_pickle(case: Case) -> None:
    """The layer survives ``pickle`` and ``copy.deepcopy``, with its outputs.

    Args:
        case: what is checked.

    Raises:
        AssertionError: if it cannot be pickled or copied, or naming the output.
    """
    layer, tensors = case.module(), case.arguments(case.dtype)
    reference = case.run(layer, tensors)
    try:
        copies = {"pickled": pickle.loads(pickle.dumps(layer)), "copied": copy.deepcopy(layer)}
    except (pickle.PickleError, AttributeError, TypeError, RuntimeError) as error:
        raise AssertionError(f"the layer cannot be pickled or copied: {error}") from error
    for how, other in copies.items():
        assert_same(case, reference, case.run(other, tensors), f"the layer is {how}")


def check_reset(case: Case) -> None:
    """``reset_parameters`` draws every parameter anew, and ``extra_repr`` says what the layer was built with.

    A layer without ``reset_parameters`` of its own is reset through its parts; one without parameters needs none.

    Args:
        case: what is checked.

    Raises:
        AssertionError: naming the parameters left as they were, or the class without ``extra_repr``.
    """
    layer = case.module()
    if type(layer).extra_repr is nn.Module.extra_repr and not isinstance(layer, PlainFunction):
        raise AssertionError(f"{type(layer).__name__} has no extra_repr: its options do not show in print")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(torch.nan)
        for part in [layer] if hasattr(layer, "reset_parameters") else layer.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
    left = [n for n, p in layer.named_parameters() if p.isnan().any()]
    if left:
        raise AssertionError(f"reset_parameters leaves as they were: {', '.join(left)}")
