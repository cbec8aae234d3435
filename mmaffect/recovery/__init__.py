"""What was absent, put back."""

from mmaffect.recovery.cascade import Cascade, CascadedResidualAutoencoder
from mmaffect.recovery.condition import ObservedContext
from mmaffect.recovery.diffusion import DiffusionRecovery
from mmaffect.recovery.draws import DrawSummary, summarise_draws
from mmaffect.recovery.gaussian import GaussianConditional, GaussianImputation
from mmaffect.recovery.gaussian_fit import FittedGaussian, fit_gaussian
from mmaffect.recovery.latent_table import LatentTable, MultiViewDecoder, fit_latents, view_error
from mmaffect.recovery.mean_fill import MeanFill
from mmaffect.recovery.refinement import Refinement, ResidualChannelAttention
from mmaffect.recovery.slots import fill_wanted
from mmaffect.recovery.standardise import RunningStandardisation
from mmaffect.recovery.translator import CyclicTranslation, CyclicTranslator

__all__ = [
    "Cascade",
    "CascadedResidualAutoencoder",
    "CyclicTranslation",
    "CyclicTranslator",
    "DiffusionRecovery",
    "DrawSummary",
    "FittedGaussian",
    "GaussianConditional",
    "GaussianImputation",
    "LatentTable",
    "MeanFill",
    "MultiViewDecoder",
    "ObservedContext",
    "Refinement",
    "ResidualChannelAttention",
    "RunningStandardisation",
    "fill_wanted",
    "fit_gaussian",
    "fit_latents",
    "summarise_draws",
    "view_error",
]
