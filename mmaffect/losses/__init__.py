"""What is minimised."""

from mmaffect.losses.reconstruction import masked_reconstruction
from mmaffect.losses.task import task_loss

__all__ = ["masked_reconstruction", "task_loss"]
