"""Noise and back: processes, denoisers, samplers."""

from mmaffect.diffusion.ancestral import ancestral
from mmaffect.diffusion.continuous import VESDE, VPSDE, CosineVP
from mmaffect.diffusion.cross_modal_unet1d import CrossModalUNet1d
from mmaffect.diffusion.ddim import ddim
from mmaffect.diffusion.denoiser import Denoiser
from mmaffect.diffusion.descent import SamplerStep
from mmaffect.diffusion.discrete import DiscreteVP
from mmaffect.diffusion.dpmpp_2m import dpmpp_2m
from mmaffect.diffusion.ema import EMA
from mmaffect.diffusion.euler_maruyama import euler_maruyama
from mmaffect.diffusion.grids import karras_times, log_snr_times, uniform_times
from mmaffect.diffusion.guidance import classifier_free_guidance
from mmaffect.diffusion.heun import heun
from mmaffect.diffusion.latent_prior import LatentPrior
from mmaffect.diffusion.predictor_corrector import predictor_corrector
from mmaffect.diffusion.process import Process
from mmaffect.diffusion.score_networks import fast_score_network, reference_score_network
from mmaffect.diffusion.time_embedding import TimeEmbedding, sinusoidal_time
from mmaffect.diffusion.training_times import draw_times
from mmaffect.diffusion.unet1d import PreparedContext, UNet1d

__all__ = [
    "EMA",
    "VESDE",
    "VPSDE",
    "CosineVP",
    "CrossModalUNet1d",
    "Denoiser",
    "DiscreteVP",
    "LatentPrior",
    "PreparedContext",
    "Process",
    "SamplerStep",
    "TimeEmbedding",
    "UNet1d",
    "ancestral",
    "classifier_free_guidance",
    "ddim",
    "dpmpp_2m",
    "draw_times",
    "euler_maruyama",
    "fast_score_network",
    "heun",
    "karras_times",
    "log_snr_times",
    "predictor_corrector",
    "reference_score_network",
    "sinusoidal_time",
    "uniform_times",
]
