"""How steps look at steps."""

from mmaffect.attention.aligner import AlignerOutput, WordAligner
from mmaffect.attention.attend import attend, merge_heads, split_heads
from mmaffect.attention.causal_entmax import AttentionOutput, CausalEntmaxAttention
from mmaffect.attention.composite import CompositeAttention, CompositeOutput, subset_attention, subsets_of
from mmaffect.attention.composite_encoder import CompositeEncoder
from mmaffect.attention.cross_modal import CrossModalEncoder, PreparedSource
from mmaffect.attention.guided_cross_modal import GuidedCrossModalEncoder
from mmaffect.attention.pool import AttentionPool, PoolOutput
from mmaffect.attention.positions import distance_bias, sinusoidal_positions
from mmaffect.attention.transformer import TransformerEncoder
from mmaffect.attention.weights import attention_mask, attention_weights

__all__ = [
    "AlignerOutput",
    "AttentionOutput",
    "AttentionPool",
    "CausalEntmaxAttention",
    "CompositeAttention",
    "CompositeEncoder",
    "CompositeOutput",
    "CrossModalEncoder",
    "GuidedCrossModalEncoder",
    "PoolOutput",
    "PreparedSource",
    "TransformerEncoder",
    "WordAligner",
    "attend",
    "attention_mask",
    "attention_weights",
    "distance_bias",
    "merge_heads",
    "sinusoidal_positions",
    "split_heads",
    "subset_attention",
    "subsets_of",
]
