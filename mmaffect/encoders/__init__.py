"""One modality in, one hidden sequence out."""

from mmaffect.encoders.causal_cue import CausalCueGate, CausalCues
from mmaffect.encoders.convolution import TemporalConvolution
from mmaffect.encoders.recurrent import RecurrentEncoder
from mmaffect.encoders.stream import StreamInput

__all__ = ["CausalCueGate", "CausalCues", "RecurrentEncoder", "StreamInput", "TemporalConvolution"]
