"""The ground floor: pure functions that every room may use."""

from mmaffect.ops.acyclicity import acyclicity
from mmaffect.ops.broadcast import per_sample
from mmaffect.ops.checks import (
    InputError,
    check_choice,
    check_dropout,
    check_int64,
    check_mask,
    check_modalities,
    check_names,
    check_positive,
    check_shape,
)
from mmaffect.ops.contrastive import info_nce_rows
from mmaffect.ops.dropout import dropout
from mmaffect.ops.entmax import entmax
from mmaffect.ops.group_norm import masked_group_norm
from mmaffect.ops.keyed_noise import keyed_normal
from mmaffect.ops.masks import (
    at_least_float32,
    full_precision,
    keep,
    last_step,
    lengths_to_mask,
    masked_mean,
    read_out,
    reverse_steps,
    sources_and_queries,
    step_mask,
)
from mmaffect.ops.quantiles import central_interval
from mmaffect.ops.softmax import masked_softmax
from mmaffect.ops.transforms import is_transformed, under_transform

__all__ = [
    "InputError",
    "acyclicity",
    "at_least_float32",
    "central_interval",
    "check_choice",
    "check_dropout",
    "check_int64",
    "check_mask",
    "check_modalities",
    "check_names",
    "check_positive",
    "check_shape",
    "dropout",
    "entmax",
    "full_precision",
    "info_nce_rows",
    "is_transformed",
    "keep",
    "keyed_normal",
    "last_step",
    "lengths_to_mask",
    "masked_group_norm",
    "masked_mean",
    "masked_softmax",
    "per_sample",
    "read_out",
    "reverse_steps",
    "sources_and_queries",
    "step_mask",
    "under_transform",
]
