"""SuperPoint: keypoints and descriptors of a gray picture.

DeTone, Malisiewicz, Rabinovich, "SuperPoint: Self-Supervised Interest Point Detection and Description",
CVPRW 2018, section 3. Layer names are those of the published `superpoint_v1.pth`, so that it loads strictly.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from Networks.checkpoints import check_checkpoint, load_weights
from Networks.fan import in_float32
from Utils.storage.files import load_checkpoint

CELL = 8  # pixels per side of a cell: the encoder pools three times by 2
RECEPTIVE_FIELD = 38  # pixels around a cell on which its outputs depend: 2 (1 + 2 + 4 + 8) + 8
DESCRIPTOR_SIZE = 256
SHIPPED_WEIGHTS = Path(__file__).resolve().parent.parent / "data" / "SuperPoint" / "superpoint.pth"


def _conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)


class SuperPoint(nn.Module):
    """A shared VGG encoder with a detector head and a descriptor head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1a, self.conv1b = _conv3x3(1, 64), _conv3x3(64, 64)
        self.conv2a, self.conv2b = _conv3x3(64, 64), _conv3x3(64, 64)
        self.conv3a, self.conv3b = _conv3x3(64, 128), _conv3x3(128, 128)
        self.conv4a, self.conv4b = _conv3x3(128, 128), _conv3x3(128, 128)
        self.convPa = _conv3x3(128, 256)
        self.convPb = nn.Conv2d(256, CELL * CELL + 1, kernel_size=1)
        self.convDa = _conv3x3(128, 256)
        self.convDb = nn.Conv2d(256, DESCRIPTOR_SIZE, kernel_size=1)

    def encode(self, gray: torch.Tensor) -> torch.Tensor:
        """gray: (B, 1, H, W) in [0, 1] -> features (B, 128, H // 8, W // 8)."""
        x = F.relu(self.conv1b(F.relu(self.conv1a(gray))))
        x = F.max_pool2d(x, 2)
        x = F.relu(self.conv2b(F.relu(self.conv2a(x))))
        x = F.max_pool2d(x, 2)
        x = F.relu(self.conv3b(F.relu(self.conv3a(x))))
        x = F.max_pool2d(x, 2)
        return F.relu(self.conv4b(F.relu(self.conv4a(x))))

    def detect(self, features: torch.Tensor) -> torch.Tensor:
        """features: (B, 128, h, w) -> logits (B, 65, h, w): 64 pixels of a cell row by row, then "no point"."""
        return in_float32(self.convPb, F.relu(self.convPa(features)))

    def describe(self, features: torch.Tensor) -> torch.Tensor:
        """features: (B, 128, h, w) -> descriptors (B, 256, h, w) of length 1."""
        return F.normalize(in_float32(self.convDb, F.relu(self.convDa(features))), dim=1)

    def forward(self, gray: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """gray: (B, 1, H, W) in [0, 1] -> logits (B, 65, H // 8, W // 8), descriptors (B, 256, H // 8, W // 8).

        If 8 does not divide a size, the remainder is cut off at the right or the bottom.
        """
        features = self.encode(gray)
        return self.detect(features), self.describe(features)


def score_map(semi: torch.Tensor) -> torch.Tensor:
    """Logits (B, 65, h, w) -> probability of a keypoint at each pixel, (B, 8 h, 8 w)."""
    probability = semi.float().softmax(dim=1)[:, :-1]
    return F.pixel_shuffle(probability, CELL)[:, 0]


def sample_descriptors(desc: torch.Tensor, points: torch.Tensor, images: torch.Tensor | None = None) -> torch.Tensor:
    """Bilinear samples of descriptors at points, L2-normalised.

    desc: (B, C, h, w); points: (n, 2) x, y in pixels of the network's input, with (0, 0) the centre of the first
    pixel; images: (n,) the picture of each point, default: the first. Returns (n, C). The descriptor of cell (i, j)
    belongs to the cell's centre, x = 8 j + 3.5, y = 8 i + 3.5. Points beyond the outermost centres take the nearest.
    """
    height, width = desc.shape[-2:]
    if images is None:
        images = torch.zeros(len(points), dtype=torch.long, device=desc.device)
    cells = (points.to(desc.device, torch.float32) - (CELL - 1) / 2) / CELL
    x = cells[:, 0].clamp(0, width - 1)
    y = cells[:, 1].clamp(0, height - 1)
    left, top = x.floor().long(), y.floor().long()
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    u, v = (x - left)[:, None], (y - top)[:, None]
    upper = desc[images, :, top, left] * (1 - u) + desc[images, :, top, right] * u
    lower = desc[images, :, bottom, left] * (1 - u) + desc[images, :, bottom, right] * u
    return F.normalize(upper * (1 - v) + lower * v, dim=1)


def load_superpoint(path: Path | str = "", device: torch.device | str = "cpu") -> SuperPoint:
    """SuperPoint for inference, from a `superpoint_v1.pth` or, if `path` is empty, from our own weights.

    The channels come last in memory, which is fastest on any device. Raises UserError if the file is missing,
    damaged or not SuperPoint's.
    """
    source = Path(path) if str(path).strip() else SHIPPED_WEIGHTS
    network = SuperPoint()
    remedy = "give a superpoint_v1.pth or leave path_to_superpoint_checkpoint empty"
    content = load_checkpoint(source, remedy)
    check_checkpoint({"state_dict": content}, source)
    load_weights(network, content, source, remedy)
    return network.requires_grad_(False).eval().to(device).to(memory_format=torch.channels_last)
