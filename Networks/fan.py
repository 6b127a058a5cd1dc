"""FAN: one stacked-hourglass module with a detector head and a descriptor head (the paper, section 3).

Tensor names are those of the published models, so that their checkpoints load strictly.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

HOURGLASS_DEPTH = 4
PAPER_WIDTH = 256
PAPER_GROUPS = 32  # of GroupNorm, at the paper's width
STRIDE = 4  # input pixels per cell of the output maps


class ConvBlock(nn.Module):
    """Three pre-activated 3x3 convolutions whose outputs are concatenated and added to the input.

    (N, inputs, H, W) -> (N, outputs, H, W)
    """

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        half, quarter = outputs // 2, outputs // 4
        self.bn1 = nn.GroupNorm(groups, inputs)
        self.conv1 = nn.Conv2d(inputs, half, 3, padding=1, bias=False)
        self.bn2 = nn.GroupNorm(groups, half)
        self.conv2 = nn.Conv2d(half, quarter, 3, padding=1, bias=False)
        self.bn3 = nn.GroupNorm(groups, quarter)
        self.conv3 = nn.Conv2d(quarter, quarter, 3, padding=1, bias=False)
        self.downsample = None
        if inputs != outputs:
            self.downsample = nn.Sequential(
                nn.GroupNorm(groups, inputs),
                nn.ReLU(),
                nn.Conv2d(inputs, outputs, 1, bias=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        a = self.conv1(functional.relu(self.bn1(x)))
        b = self.conv2(functional.relu(self.bn2(a)))
        c = self.conv3(functional.relu(self.bn3(b)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.cat((a, b, c), dim=1) + shortcut


class HourGlass(nn.Module):
    """Hourglass of `depth` levels on `features` channels: (N, F, H, W) -> (N, F, H, W)."""

    def __init__(self, depth: int, features: int, groups: int) -> None:
        super().__init__()
        self.depth = depth
        for level in range(depth, 0, -1):
            self.add_module(f"b1_{level}", ConvBlock(features, features, groups))
            self.add_module(f"b2_{level}", ConvBlock(features, features, groups))
        self.b2_plus_1 = ConvBlock(features, features, groups)
        for level in range(1, depth + 1):
            self.add_module(f"b3_{level}", ConvBlock(features, features, groups))
            # No input ever passes through b4; the published checkpoints hold it.
            unused = ConvBlock(features, features, groups)
            self.add_module(f"b4_{level}", unused.requires_grad_(False))

    def forward(self, x: Tensor) -> Tensor:
        return self._level(self.depth, x)

    def _level(self, level: int, x: Tensor) -> Tensor:
        upper = getattr(self, f"b1_{level}")(x)
        lower = getattr(self, f"b2_{level}")(functional.avg_pool2d(x, 2))
        lower = self._level(level - 1, lower) if level > 1 else self.b2_plus_1(lower)
        lower = getattr(self, f"b3_{level}")(lower)
        return upper + functional.interpolate(lower, scale_factor=2, mode="nearest")


def in_float32(layer: nn.Module, x: Tensor) -> Tensor:
    """A last layer in full precision also under autocast: rounded maps have ties, which move their maxima."""
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.float())


def memory_format(weight: Tensor) -> torch.memory_format:
    """How a convolution's weight lies in memory, with the channels last or first."""
    last = torch.channels_last
    return last if weight.is_contiguous(memory_format=last) else torch.contiguous_format


class FAN(nn.Module):
    """Detector and descriptor on one hourglass.

    Args:
        descriptor_channels: channels of the second head; step one: dimensions of a descriptor (default:
            `width`), step two: number of clusters.
        width: features of the hourglass; the paper's 256. All other channel counts scale with it. A multiple
            of 32.

    Pictures are (N, 3, S, S), RGB in [0, 1], S a multiple of 64; maps are (N, ., S / 4, S / 4).
    """

    def __init__(self, descriptor_channels: int | None = None, width: int = PAPER_WIDTH) -> None:
        super().__init__()
        if width < 32 or width % 32:
            raise ValueError(f"width must be a multiple of 32, not {width}")
        groups = PAPER_GROUPS * width // PAPER_WIDTH  # keeps the paper's channels per group
        stem, middle = width // 4, width // 2
        self.width = width
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3)
        self.bn1 = nn.GroupNorm(groups, stem)
        self.conv2 = ConvBlock(stem, middle, groups)
        self.conv3 = ConvBlock(middle, middle, groups)
        self.conv4 = ConvBlock(middle, width, groups)
        self.m0 = HourGlass(HOURGLASS_DEPTH, width, groups)
        self.top_m_0 = ConvBlock(width, width, groups)
        self.conv_last0 = nn.Conv2d(width, width, 1)
        self.bn_end0 = nn.GroupNorm(groups, width)
        self.l0 = nn.Conv2d(width, 1, 1)
        self.top_m_1 = ConvBlock(width, width, groups)
        self.conv_last1 = nn.Conv2d(width, width, 1)
        self.bn_end1 = nn.GroupNorm(groups, width)
        self.l1 = nn.Conv2d(width, descriptor_channels or width, 1)

    def forward_features(self, pictures: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, width, S / 4, S / 4), what both heads read."""
        pictures = pictures.contiguous(memory_format=memory_format(self.conv1.weight))
        x = functional.relu(self.bn1(self.conv1(pictures)))
        x = functional.avg_pool2d(self.conv2(x), 2)
        return self.m0(self.conv4(self.conv3(x)))

    def forward_detector(self, features: Tensor) -> Tensor:
        """(N, width, G, G) -> (N, 1, G, G), how likely each cell holds a keypoint."""
        x = functional.relu(self.bn_end0(self.conv_last0(self.top_m_0(features))))
        return torch.sigmoid(in_float32(self.l0, x))

    def forward_descriptor(self, features: Tensor) -> Tensor:
        """(N, width, G, G) -> (N, D, G, G), raw: descriptors in step one, heatmaps in step two."""
        x = functional.relu(self.bn_end1(self.conv_last1(self.top_m_1(features))))
        return in_float32(self.l1, x)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, S, S) -> detector map (N, 1, G, G) in [0, 1], descriptors (N, D, G, G); step one."""
        features = self.forward_features(pictures)
        return self.forward_detector(features), self.forward_descriptor(features)

    def forward_heatmaps(self, pictures: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, K, G, G), one heatmap per cluster; step two."""
        return self.forward_descriptor(self.forward_features(pictures))

    def replace_descriptor_head(
        self, channels: int, generator: torch.Generator, start: tuple[Tensor, Tensor] | None = None
    ) -> None:
        """Put a fresh 1x1 convolution to `channels` maps in the place of `l1`, as step two begins.

        start: weights (k, width, 1, 1) and biases (k,) of the first k maps, instead of random ones.
        """
        fresh = nn.Conv2d(self.width, channels, 1)
        bound = self.width**-0.5
        with torch.no_grad():
            for parameter in fresh.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
            self.l1 = fresh.to(self.conv1.weight.device)
            for parameter, given in zip(self.l1.parameters(), start or (), strict=False):
                parameter[: len(given)] = given
