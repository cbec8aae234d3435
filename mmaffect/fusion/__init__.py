"""Many sequences in, one out."""

from mmaffect.fusion.concat import ConcatFusion
from mmaffect.fusion.cross_modal import CrossModalFusion
from mmaffect.fusion.perceptron import PerceptronFusion

__all__ = ["ConcatFusion", "CrossModalFusion", "PerceptronFusion"]
