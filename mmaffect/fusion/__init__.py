"""Many sequences in, one out."""

from mmaffect.fusion.concat import ConcatFusion

__all__ = ["ConcatFusion"]
