"""What is checked: a layer, arguments to call it with, and the meaning of their axes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmaffect.ops import check_choice
from mmaffect.testing.noise import steady_noise
from mmaffect.testing.tree import flatten, rebuild


class Gate(NamedTuple):
    """Where a value is there: a bool argument, and its column if it is an availability table ``(B, M)``."""

    mask: str
    column: int | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """A layer (or plain function, or loss) with one batch of arguments, for the checks of this room.

    Arguments and outputs are called by dotted names: ``"x"``, or ``"x.text"`` for the entry ``text`` of a mapping
    ``x`` and for the field ``text`` of a named tuple; a single output tensor is ``"output"``. Tensors whose
    first axis has the size of the batch belong to samples.

    Args:
        build: makes a new layer; it is called under a fixed seed, once or more a check.
        inputs: keyword arguments of the call: tensors, mappings of tensors, None, anything else.
        masks: for each value ``(B, T, ...)``, the bool argument ``(B, T)`` that marks its real steps. For a mapping
            of values name a mapping of masks. Such time axes are padded further, and values at False are poisoned.
            Integers are poisoned with the smallest and largest number given.
        present: for each value ``(B, ...)`` or ``(B, M, ...)``, the bool argument of leading shape ``(B,)`` or
            ``(B, M)`` that marks what is there; for a mapping of M values, one table ``(B, M)``. Such axes are
            not padded.
        along: other arguments that have the time axis of a mask: for each, (mask, axes), such as
            ``("mask", (2, 3))`` for weights ``(B, H, T, T)``. They are padded with the values, and not poisoned.
        labels: like ``masks`` for targets, which are never poisoned: padding holds "unlabelled" (-100, or NaN).
            None as the mask of a target without a time axis.
        aligned: for each output that says nothing at masked steps, the mask of its axis 1, or (mask, axis). Outputs
            not named are compared everywhere, at masked steps too.
        shared: arguments and outputs that belong to the batch as a whole though their first axis might
            suggest otherwise. Outputs without any axis are shared in any case.
        hideable: masks that may be False throughout a sample; by default those of all floating values.
        exempt: checks that do not apply, each with the reason.
        call: how to call the layer, ``call(layer, **inputs)``; ``layer(**inputs)`` by default.
        stochastic: True where an evaluation may draw from PyTorch's global generator, as the loss of a diffusion does.
        fullgraph: False for layers that may break the graph of ``torch.compile``, such as recurrent ones.
        dtype: in which the invariances are checked.
        tolerance: largest deviation allowed, relative to the largest value (at least 1); by default
            1e-8 in float64 and 1e-4 in float32.
        half_tolerance: largest relative deviation (Euclidean norm) of bfloat16 from float32.
        jitter: standard deviation of what is added to the parameters, so that layers that start at zero show.
        seed: of the parameters and of any noise.

    Raises:
        ValueError: if a name is unknown, a mask is not bool or of another shape, the batch has less than two samples,
            or a mask marks nothing (or everything) as absent, so that there would be nothing to check.

    Example:
        >>> from torch import nn
        >>> from mmaffect.ops import masked_mean
        >>> class Pool(nn.Module):
        ...     def forward(self, x, mask):
        ...         return masked_mean(x, mask)
        >>> mask = torch.tensor([[True, True, False], [True, False, True]])
        >>> case = Case(build=Pool, inputs={"x": torch.randn(2, 3, 4), "mask": mask}, masks={"x": "mask"})
        >>> case.size
        2
    """

    build: Callable[[], Callable[..., Any]]
    inputs: Mapping[str, Any]
    masks: Mapping[str, str] = field(default_factory=dict)
    present: Mapping[str, str] = field(default_factory=dict)
    along: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    labels: Mapping[str, str | None] = field(default_factory=dict)
    aligned: Mapping[str, str | tuple[str, int]] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    hideable: tuple[str, ...] | None = None
    exempt: Mapping[str, str] = field(default_factory=dict)
    call: Callable[..., Any] | None = None
    stochastic: bool = False
    fullgraph: bool = True
    dtype: torch.dtype = torch.float64
    tolerance: float | None = None
    half_tolerance: float = 0.1
    jitter: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        tensors = self.arguments()
        for value, (name, _) in [*self.time.items(), *self.available.items(), *self.label_time.items()]:
            mask = tensors[name]
            if mask.dtype != torch.bool:
                raise ValueError(f"{name}: expected a mask of bool for {value!r}, got {mask.dtype}")
            if mask.all() or not mask.any():
                raise ValueError(
                    f"{name}: expected a mask with True and False, so that there is something to check, "
                    f"got {'True' if mask.all() else 'False'} throughout"
                )
        for value, gate in [*self.time.items(), *self.label_time.items()]:
            given, expected = tuple(tensors[value].shape[:2]), tuple(tensors[gate.mask].shape)
            if given != expected:
                raise ValueError(f"{gate.mask}: expected the shape {given} of {value!r} (B, T, ...), got {expected}")
        for name, (mask_name, axes) in self.along.items():
            check_choice("along", name, tensors)
            check_choice("along", mask_name, tensors)
            sizes, steps = [tensors[name].shape[axis] for axis in axes], tensors[mask_name].shape[1]
            if any(size != steps for size in sizes):
                raise ValueError(f"along: expected {steps} steps on the axes {axes} of {name!r}, got {sizes}")
        for name in self.labels:
            check_choice("labels", name, tensors)
        for name in self.hideable or ():
            check_choice("hideable", name, tensors)
        for place in self.aligned.values():
            check_choice("aligned", place if isinstance(place, str) else place[0], tensors)
        if self.size < 2:
            raise ValueError(f"inputs: expected a batch of at least 2 samples, got {self.size}")

    @cached_property
    def time(self) -> dict[str, Gate]:
        """The mask of each value with a time axis, by flat names."""
        return _pairs("masks", self.masks, self.arguments(), table=False)

    @cached_property
    def available(self) -> dict[str, Gate]:
        """The availability of each value that has one, by flat names."""
        return _pairs("present", self.present, self.arguments(), table=True)

    @cached_property
    def label_time(self) -> dict[str, Gate]:
        """The mask of each target with a time axis, by flat names."""
        timed = {n: m for n, m in self.labels.items() if m is not None}
        return _pairs("labels", timed, self.arguments(), table=False)

    @cached_property
    def size(self) -> int:
        """Number of samples B."""
        tensors = self.arguments()
        gates = [*self.time.values(), *self.available.values(), *self.label_time.values()]
        first = [tensors[g.mask] for g in gates] or [t for t in tensors.values() if t.dim() > 0]
        if not first:
            raise ValueError("inputs: expected at least one tensor with a batch axis, got none")
        return first[0].shape[0]

    @property
    def allowed(self) -> float:
        """The tolerance in force."""
        return self.tolerance if self.tolerance is not None else 1e-8 if self.dtype == torch.float64 else 1e-4

    def arguments(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """The tensors among ``inputs`` by flat name, detached; floating ones cast to ``dtype``, if one is given."""
        flat = flatten(self.inputs)
        return {n: (t.to(dtype) if t.is_floating_point() and dtype else t).detach() for n, t in flat.items()}

    def module(self, dtype: torch.dtype | None = None, *, seed: int | None = None, train: bool = False) -> nn.Module:
        """A new layer in ``dtype`` (the case's by default), its parameters drawn from ``seed`` (the case's)."""
        with seeded(self.seed if seed is None else seed):
            built = self.build()
            layer = built if isinstance(built, nn.Module) else PlainFunction(built)
            with torch.no_grad():
                for parameter in layer.parameters():
                    if parameter.is_floating_point():
                        parameter.add_(self.jitter * torch.randn_like(parameter))
        device = next((t.device for t in self.arguments().values()), torch.device("cpu"))
        return layer.to(device=device, dtype=dtype or self.dtype).train(train)

    def run(
        self, layer: Callable[..., Any], tensors: Mapping[str, Tensor], *, steady: bool = False
    ) -> dict[str, Tensor]:
        """Outputs by flat name under the case's seed, zero at the masked steps of ``aligned`` outputs.

        Args:
            layer: as :meth:`module` makes it.
            tensors: arguments by flat name.
            steady: draw noise that is the same for each sample and step (:func:`steady_noise`), so that runs on
                other batches can be compared.

        Raises:
            ValueError: if ``aligned`` names an output that the layer does not give.
        """
        with seeded(self.seed), steady_noise() if steady else nullcontext():
            outputs = self.flat(layer, tensors)
        for name, place in self.aligned.items():
            check_choice("aligned", name, outputs)
            mask_name, axis = (place, 1) if isinstance(place, str) else place
            mask, out = tensors[mask_name], outputs[name]
            shape = [mask.shape[0]] + [1] * (axis - 1) + [mask.shape[1]] + [1] * (out.dim() - axis - 1)
            outputs[name] = torch.where(mask.reshape(shape), out, torch.zeros_like(out))
        return outputs

    def flat(self, layer: Callable[..., Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by flat name as they come, under whatever seed is set.

        Raises:
            ValueError: if the layer gives no tensor.
        """
        keywords = dict(rebuild(self.inputs, tensors))
        outputs = flatten(self.call(layer, **keywords) if self.call else layer(**keywords))
        if not outputs:
            raise ValueError("build: expected a layer that gives tensors, it gave none")
        return outputs

    @staticmethod
    def unlabelled(targets: Tensor) -> float:
        """What stands for a missing label among ``targets``."""
        return float("nan") if targets.is_floating_point() else -100

    def is_shared(self, name: str, tensor: Tensor) -> bool:
        """Whether an argument or output belongs to the batch as a whole."""
        return name in self.shared or tensor.dim() == 0


class PlainFunction(nn.Module):
    """A plain function in the guise of a layer."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, **inputs: Any) -> Any:
        """Call the function."""
        return self.function(**inputs)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """PyTorch's global generators at ``seed`` within the context, and as they were after it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _pairs(what: str, given: Mapping[str, str], tensors: Mapping[str, Tensor], *, table: bool) -> dict[str, Gate]:
    """Flat pairs of value and mask; a mapping of values goes with a mapping of masks, or with a table's columns."""
    flat: dict[str, Gate] = {}
    for value, mask in given.items():
        entries = [n for n in tensors if n.startswith(f"{value}.")]
        if value in tensors:
            check_choice(what, mask, tensors)
            flat[value] = Gate(mask)
        elif not entries:
            check_choice(what, value, tensors)
        elif table and mask in tensors:
            flat |= {n: Gate(mask, column) for column, n in enumerate(entries)}
        else:
            for name in entries:
                pair = f"{mask}{name.removeprefix(value)}"
                check_choice(what, pair, tensors)
                flat[name] = Gate(pair)
    return flat
