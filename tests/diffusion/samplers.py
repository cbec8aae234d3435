"""Every sampler, by name, and how many evaluations it takes."""

from functools import partial

from mmaffect.diffusion import ancestral, ddim, dpmpp_2m, euler_maruyama, heun, predictor_corrector

DETERMINISTIC = {"ddim": ddim, "heun": heun, "dpmpp_2m": dpmpp_2m}
STOCHASTIC = {
    "ddim half": partial(ddim, eta=0.5),
    "ancestral": ancestral,
    "euler_maruyama": euler_maruyama,
    "dpmpp_2m sde": partial(dpmpp_2m, eta=1.0),
    "predictor_corrector": predictor_corrector,
}
SAMPLERS = DETERMINISTIC | STOCHASTIC


def evaluations(name, steps):
    return 2 * steps - 1 if name in ("heun", "predictor_corrector") else steps
