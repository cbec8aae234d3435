"""Many sequences in, one out."""

from mmaffect.fusion.concat import ConcatFusion
from mmaffect.fusion.perceptron import PerceptronFusion

__all__ = ["ConcatFusion", "PerceptronFusion"]
