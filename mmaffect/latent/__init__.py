"""The bottleneck: a Gaussian posterior, free bits, and what weighs its divergence."""

from mmaffect.latent.adaptive import KLController, RecallController
from mmaffect.latent.bottleneck import Bottleneck, GaussianBottleneck, free_bits_kl
from mmaffect.latent.schedules import ConstantWeight, CyclicalWarmup, LinearWarmup

__all__ = [
    "Bottleneck",
    "ConstantWeight",
    "CyclicalWarmup",
    "GaussianBottleneck",
    "KLController",
    "LinearWarmup",
    "RecallController",
    "free_bits_kl",
]
