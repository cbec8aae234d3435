"""Which of it is absent: availability patterns, rates, per-feature masks, corruptions, augmentation."""

from mmaffect.missing.aligned import stmfm, tmfm
from mmaffect.missing.augmentation import Augmented, augment
from mmaffect.missing.conditional import at_least_one
from mmaffect.missing.corruption import Frames, add_noise, blank_frames, choose_frames, gaussian_noise, mask_frames
from mmaffect.missing.features import feature_rate
from mmaffect.missing.labels import label_dependent
from mmaffect.missing.patterns import Pattern, all_patterns, draw_patterns, fixed_pattern, pattern_name
from mmaffect.missing.rates import random_rate
from mmaffect.missing.rmfm import rmfm, rmfm_per_position, rmfm_same, rmm

__all__ = [
    "Augmented",
    "Frames",
    "Pattern",
    "add_noise",
    "all_patterns",
    "at_least_one",
    "augment",
    "blank_frames",
    "choose_frames",
    "draw_patterns",
    "feature_rate",
    "fixed_pattern",
    "gaussian_noise",
    "label_dependent",
    "mask_frames",
    "pattern_name",
    "random_rate",
    "rmfm",
    "rmfm_per_position",
    "rmfm_same",
    "rmm",
    "stmfm",
    "tmfm",
]
