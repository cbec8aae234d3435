"""What enters: the batch, recipes for one's own data, splits, normalisation, synthetic worlds."""

from mmaffect.data.batch import MultimodalBatch
from mmaffect.data.spec import DataSpec

__all__ = ["DataSpec", "MultimodalBatch"]
