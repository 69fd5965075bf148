# ruff: noqa: ANN001, ANN201, ANN204
"""A vision transformer of any size, in bf16; seeded, made on the fly."""

import torch
from torch import nn


class ViT(nn.Module):
    def __init__(self, pixels, layers, width, heads, classes=1000):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.positions = nn.Parameter(torch.randn(1, (pixels // 16) ** 2, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.scores = nn.Linear(width, classes)

    def forward(self, images):
        """Images of uint8 to scores."""
        x = images.to(self.scores.weight.dtype).div_(127.5).sub_(1)
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.scores(self.blocks(x).mean(1))


def model(sizes, device):
    torch.manual_seed(7)
    net = ViT(sizes["pixels"], sizes["layers"], sizes["width"], sizes["heads"])
    return net.eval().to(device, torch.bfloat16)


def flops(sizes):
    """Return FLOPs of a forward pass for one image: 2 per weight and token, and the attention."""
    tokens, width = (sizes["pixels"] // 16) ** 2, sizes["width"]
    weights = 12 * sizes["layers"] * width**2 + 3 * 256 * width
    return 2 * tokens * weights + 4 * sizes["layers"] * tokens**2 * width
