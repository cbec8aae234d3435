"""Every process, by name."""

from mmaffect.diffusion import VESDE, VPSDE, CosineVP, DiscreteVP, Process


class Straight(Process):
    """As a user would write one."""

    t_min, t_max = 0.03, 0.975

    def alpha(self, t):
        return 1 - t

    def std(self, t):
        return 1 * t


CONTINUOUS = {"ve": VESDE(), "vp": VPSDE(), "cosine": CosineVP(), "straight": Straight()}
PROCESSES = CONTINUOUS | {"table": DiscreteVP.linear(), "cosine table": DiscreteVP.cosine()}
