"""Noise and back: processes, denoisers, samplers."""

from mmaffect.diffusion.continuous import VESDE, VPSDE, CosineVP
from mmaffect.diffusion.ddim import ddim
from mmaffect.diffusion.descent import SamplerStep
from mmaffect.diffusion.dpmpp_2m import dpmpp_2m
from mmaffect.diffusion.grids import karras_times, log_snr_times, uniform_times
from mmaffect.diffusion.process import Process

__all__ = [
    "VESDE",
    "VPSDE",
    "CosineVP",
    "Process",
    "SamplerStep",
    "ddim",
    "dpmpp_2m",
    "karras_times",
    "log_snr_times",
    "uniform_times",
]
