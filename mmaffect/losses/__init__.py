"""What is minimised."""

from mmaffect.losses.focal import focal_cross_entropy
from mmaffect.losses.reconstruction import masked_reconstruction
from mmaffect.losses.task import task_loss

__all__ = ["focal_cross_entropy", "masked_reconstruction", "task_loss"]
