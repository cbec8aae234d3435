"""A layer that keeps the contract, and ones that each break it in one way."""

import random
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmaffect.ops import keep, masked_mean, masked_softmax
from mmaffect.testing import Case

DIM = 4


class Encoded(NamedTuple):
    y: Tensor
    pooled: Tensor


class Encoder(nn.Module):
    """Masked attention and a masked mean: keeps the whole contract."""

    def __init__(self, dim: int = DIM):
        super().__init__()
        self.dim = dim
        self.linear = nn.Linear(dim, dim)
        self.scale = nn.Parameter(torch.empty(dim))
        self.register_buffer("offset", torch.linspace(-1, 1, dim))
        self.reset_parameters()

    def reset_parameters(self):
        self.linear.reset_parameters()
        nn.init.normal_(self.scale)

    def extra_repr(self):
        return f"{self.dim}"

    def clean(self, x, mask):
        return keep(x, mask)

    def encode(self, x, mask):
        hidden = self.linear(x) * self.scale + self.offset
        weights = masked_softmax(hidden @ hidden.mT, mask.unsqueeze(1))
        return keep(torch.tanh(weights @ hidden), mask)

    def pool(self, y, mask):
        return masked_mean(y, mask)

    def forward(self, x, mask):
        y = self.encode(self.clean(x, mask), mask)
        return Encoded(y, self.pool(y, mask))


class LongMean(Encoder):
    """Divides by the padded length."""

    def pool(self, y, mask):
        return y.mean(1)


class Centred(Encoder):
    """Takes the mean of the batch away, in evaluation too."""

    def pool(self, y, mask):
        pooled = super().pool(y, mask)
        return pooled - pooled.mean(0)


class NaNSpreads(Encoder):
    """Samples are blind to one another, as long as all are finite."""

    def pool(self, y, mask):
        return super().pool(y, mask) + 0 * y.sum()


class RowPosition(Encoder):
    """Takes the number of a sample in the batch for something it is."""

    def pool(self, y, mask):
        return super().pool(y, mask) + torch.arange(len(y)).unsqueeze(1)


class ProductMask(Encoder):
    """Masks by a product, through which NaN passes."""

    def clean(self, x, mask):
        return x * mask.unsqueeze(-1)


class MaskedLate(Encoder):
    """Selects after the linear map: outputs are right, the gradient of its weight is 0 times NaN."""

    def clean(self, x, mask):
        return keep(self.linear(x), mask)


class HiddenGradient(Encoder):
    """Right outputs, but gradients reach what is absent."""

    def forward(self, x, mask):
        y, pooled = super().forward(x, mask)
        clean = x.nan_to_num()
        return Encoded(y, pooled + (clean - clean.detach()).sum(1))


class BatchNormed(Encoder):
    """Normalises over all steps in training, absent ones among them."""

    def __init__(self, dim: int = DIM):
        super().__init__(dim)
        self.norm = nn.BatchNorm1d(dim, affine=False)

    def clean(self, x, mask):
        return keep(self.norm(x.transpose(1, 2)).transpose(1, 2), mask)


class ZeroIsAbsent(Encoder):
    """Takes a step of zeros for an absent one."""

    def forward(self, x, mask):
        return super().forward(x, mask & (x != 0).any(-1))


class NothingIsNaN(Encoder):
    """Divides by the number of steps, which may be none."""

    def pool(self, y, mask):
        return y.sum(1) / mask.sum(1, keepdim=True)


class InPlace(Encoder):
    """Cleans the argument itself."""

    def clean(self, x, mask):
        with torch.no_grad():
            x.mul_(2)
        return keep(x / 2, mask)


class Unseeded(Encoder):
    """Draws from Python's generator, which no seed of PyTorch reaches."""

    def pool(self, y, mask):
        return super().pool(y, mask) + random.random()


class UnseededParameters(Encoder):
    """Is another layer each time it is built."""

    def reset_parameters(self):
        super().reset_parameters()
        self.scale.data.mul_(1 + random.random())


class DrawsInEvaluation(Encoder):
    """Draws from the global generator when it should not."""

    def pool(self, y, mask):
        return super().pool(y, mask) + torch.rand_like(y[:, 0])


class Unregistered(Encoder):
    """Keeps random state out of parameters and buffers."""

    def __init__(self, dim: int = DIM):
        super().__init__(dim)
        self.shift = torch.randn(dim)

    def pool(self, y, mask):
        return super().pool(y, mask) + self.shift.to(y)


class Unpicklable(Encoder):
    """Holds a local function."""

    def __init__(self, dim: int = DIM):
        super().__init__(dim)
        self.activation = lambda x: x


class SingleOnly(Encoder):
    """Gives float32 whatever it is given."""

    def pool(self, y, mask):
        return super().pool(y, mask).float()


class Cancels(Encoder):
    """Loses all digits of bfloat16."""

    def encode(self, x, mask):
        return keep(self.linear(x) + 1e4 - 1e4, mask)


class WritesRows(Encoder):
    """Writes what autocast made bfloat16 into float32."""

    def encode(self, x, mask):
        y = torch.zeros_like(x)
        y[mask] = self.linear(x)[mask]
        return y


class StraightThrough(Encoder):
    """Rounds, and pretends not to have."""

    def pool(self, y, mask):
        pooled = super().pool(y, mask)
        return pooled + (pooled.round() - pooled).detach()


class BreaksGraph(Encoder):
    """Reads a value in Python."""

    def pool(self, y, mask):
        pooled = super().pool(y, mask)
        return -pooled if pooled.sum().item() > 0 else pooled


class OtherWhenTraced(Encoder):
    """Gives something else when traced."""

    def pool(self, y, mask):
        pooled = super().pool(y, mask)
        return pooled + 1 if torch.compiler.is_compiling() else pooled


class ForgetsParameter(Encoder):
    """``reset_parameters`` leaves one out."""

    def __init__(self, dim: int = DIM):
        super().__init__(dim)
        self.bias = nn.Parameter(torch.zeros(dim))

    def pool(self, y, mask):
        return super().pool(y, mask) + self.bias


class Silent(nn.Module):
    """No parameter, no ``extra_repr``."""

    def forward(self, x, mask):
        y = keep(x, mask)
        return Encoded(y, masked_mean(y, mask))


class Late(Encoder):
    """Starts at zero, so that its leak does not show before it has learned."""

    def reset_parameters(self):
        super().reset_parameters()
        nn.init.zeros_(self.scale)

    def pool(self, y, mask):
        return super().pool(y, mask) + self.scale * y.mean(1)


MASK = torch.tensor(
    [[True, True, True, True, False], [True, True, False, False, False], [True, False, True, True, True]]
)


def case(build=Encoder, **options):
    """The specimens' case: three samples, one of them with a hole."""
    x = torch.randn(*MASK.shape, DIM, generator=torch.Generator().manual_seed(0))
    given = {"masks": {"x": "mask"}} | options
    return Case(build=build, inputs={"x": x, "mask": MASK}, **given)


class Fusion(nn.Module):
    """Several modalities by name, with an availability table: keeps the contract."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({"text": nn.Linear(3, DIM), "audio": nn.Linear(2, DIM)})

    def extra_repr(self):
        return f"{DIM}"

    def forward(self, x, present):
        hidden = [self.parts[n](keep(v, present[:, i])) for i, (n, v) in enumerate(x.items())]
        return masked_mean(torch.stack(hidden, dim=1), present)


class OnlyTogether(Fusion):
    """Compares the two modalities, and divides by zero when one is alone."""

    def forward(self, x, present):
        joint = super().forward(x, present)
        return joint / present.all(1, keepdim=True)


PRESENT = torch.tensor([[True, True], [True, False], [False, True]])


def fusion_case(build=Fusion, **options):
    generator = torch.Generator().manual_seed(0)
    x = {"text": torch.randn(3, 3, generator=generator), "audio": torch.randn(3, 2, generator=generator)}
    return Case(build=build, inputs={"x": x, "present": PRESENT}, present={"x": "present"}, **options)
