"""How SuperPoint learns: its losses, its training loop, and labels by its own homographic adaptation.

DeTone et al., "SuperPoint", CVPRW 2018, sections 3.4 and 4 to 6. Beside the paper's losses, its descriptor may
follow a classical one, which a short training on few pictures does not find by itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from Networks.superpoint import SuperPoint, score_map
from tools.superpoint.samples import (
    AREA_PER_POINT,
    CELL,
    RELIABLE,
    LabelledPicture,
    PairBatch,
    PairSource,
    adapt,
    all_pictures,
    cell_centres,
    local_maxima,
)
from Utils.files import dump_pickle, load_checkpoint, load_pickle, save_checkpoint
from Utils.progress import Progress


@dataclass(frozen=True)
class TrainingOptions:
    """One stage of training. The descriptor's margins and weights are the paper's."""

    iterations: int
    batch_size: int = 8  # pairs, hence twice as many pictures
    learning_rate: float = 1e-3
    warm_up: int = 200  # iterations
    place_weight: float = 4.0  # of the detector's cross-entropy within a cell
    describes: bool = True  # False: the detector alone
    descriptor_weight: float = 2e-5  # lambda
    contrast_weight: float = 0.5  # of the softmax over all cells, without which few iterations teach no matching
    contrast_temperature: float = 0.1
    classical_weight: float = 0.0  # of the distance to `gradient_histograms`
    positive_weight: float = 250.0  # lambda_d
    positive_margin: float = 1.0
    negative_margin: float = 0.2
    average_decay: float = 0.999  # of the moving average of the weights, which is what a stage hands on
    gradient_norm: float = 5.0
    seed: int = 1993
    stage: int = 0  # number of the stage, part of the seed
    half_precision: bool = True  # bfloat16 where it is quick


def raw_descriptors(network: SuperPoint, pictures: Tensor) -> Tensor:
    """Descriptors before they are normalised: (B, 1, S, S) -> (B, 256, S / 8, S / 8)."""
    return network.convDb(F.relu(network.convDa(network.encode(pictures))))


@torch.no_grad()
def unit_length(network: SuperPoint, pictures: Tensor) -> SuperPoint:
    """The same network, its descriptors being 1 long on average before they are normalised.

    Lengths are free and grow in training, and the longer they are, the less a step of Adam turns them.
    """
    layer = network.convDb
    length = raw_descriptors(network, pictures).norm(dim=1).mean()
    layer.weight /= length
    layer.bias /= length
    return network


def detector_loss(semi: Tensor, target: Tensor, known: Tensor, place_weight: float = 0.0) -> Tensor:
    """Cross-entropy over the 65 classes of a cell, averaged over the known cells.

    semi: (B, 65, h, w) logits; target: (B, 65, h, w) adding up to 1 over the classes; known: (B, h, w) bool.
    place_weight times the cross-entropy over the 64 pixels alone is added for the share of a cell that is a
    point: where a point lies is learned much later than whether there is one, and is forgotten first.
    """
    logits = semi.float()
    whether = -(target * logits.log_softmax(1)).sum(1)
    where = -(target[:, :-1] * logits[:, :-1].log_softmax(1)).sum(1)
    return ((whether + place_weight * where) * known).sum() / known.sum().clamp(min=1)


def mapped_centres(homography: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Where the n cells of view 1 land in view 2: (B, n, 2) x, y in pixels; and the centres of cells, (n, 2)."""
    centres = torch.from_numpy(cell_centres(size)).to(homography)
    lifted = centres @ homography[:, :, :2].transpose(1, 2) + homography[:, None, :, 2]
    return lifted[..., :2] / lifted[..., 2:], centres


def gaps_of_cells(homography: Tensor, size: int) -> Tensor:
    """(B, n, n) pixels between the mapped centre of cell i of view 1 and the centre of cell j of view 2.

    Cells at most 8 pixels apart correspond (section 3.4).
    """
    mapped, centres = mapped_centres(homography, size)
    return torch.cdist(mapped, centres.expand(len(homography), -1, -1))


def descriptor_loss(first: Tensor, second: Tensor, same: Tensor, known: Tensor, options: TrainingOptions) -> Tensor:
    """Hinge loss over all pairs of cells (section 3.4), summed over the pairs, averaged over the pictures.

    first, second: (B, D, h, w) descriptors of length 1; same, known: (B, h w, h w) bool, the pairs that
    correspond and those that count.
    """
    likeness = first.float().flatten(2).transpose(1, 2) @ second.float().flatten(2)
    pull = options.positive_weight * F.relu(options.positive_margin - likeness)
    push = F.relu(likeness - options.negative_margin)
    return (torch.where(same, pull, push) * known).sum() / len(first)


def contrast_loss(first: Tensor, second: Tensor, homography: Tensor, known: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each cell of view 1 again among the cells of view 2, averaged over the cells.

    first, second: (B, D, h, w) descriptors of length 1; homography: (B, 3, 3); known: (B, h w) bool, cells of
    view 1. The right answer is view 2 sampled at the very place where the cell's centre lands, the wrong ones
    are the cells more than 12 pixels from there.
    """
    cells = first.shape[-1]
    size = cells * CELL
    mapped, centres = mapped_centres(homography, size)
    grid = (mapped + 0.5) * (2 / size) - 1
    landed = known & (grid.abs() < 1 - 1 / cells + 1e-4).all(-1)  # within the outermost centres
    right = F.grid_sample(second.float(), grid[:, :, None], align_corners=False, padding_mode="border")
    right = F.normalize(right[..., 0], dim=1)  # (B, D, n)
    own = first.float().flatten(2)
    wrong = own.transpose(1, 2) @ second.float().flatten(2)
    near = torch.cdist(mapped, centres.expand(len(mapped), -1, -1)) <= 1.5 * CELL
    logits = torch.cat([(own * right).sum(1)[..., None], wrong.masked_fill(near, -1)], -1) / temperature
    return (-logits.log_softmax(-1)[..., 0] * landed).sum() / landed.sum().clamp(min=1)


HISTOGRAM_WINDOW = 32  # pixels
HISTOGRAM_SCALES = (1, 2)
_HISTOGRAM_CELLS, _HISTOGRAM_BINS, _HISTOGRAM_CUT = 4, 8, 0.2


def _blurred(maps: Tensor, deviation: float) -> Tensor:
    """Gaussian blur of maps (B, C, H, W); the border's values go on beyond it."""
    reach = math.ceil(3 * deviation)
    offsets = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.exp(-((offsets / deviation) ** 2) / 2)
    kernel = (kernel / kernel.sum()).expand(maps.shape[1], 1, -1)
    padded = F.pad(maps, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, kernel[:, :, None, :], groups=maps.shape[1])
    return F.conv2d(rows, kernel[:, :, :, None], groups=maps.shape[1])


def gradient_histograms(pictures: Tensor) -> Tensor:
    """A classical descriptor of the surroundings of each cell: (B, 1, S, S) -> (B, 256, S / 8, S / 8), length 1.

    Histograms of oriented gradients: 8 signed directions in 4x4 parts of windows of 32 and 64 pixels, cut off
    at 0.2 of their length as in Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004.
    Its wide and coarse look tells the parts of objects apart, across individuals.
    """
    scales = []
    for scale in HISTOGRAM_SCALES:
        gray = _blurred(F.avg_pool2d(pictures.float(), scale), 1.0)
        padded = F.pad(gray, (1, 1, 1, 1), mode="replicate")
        across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
        down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
        direction = torch.atan2(down, across) * (_HISTOGRAM_BINS / (2 * math.pi)) % _HISTOGRAM_BINS
        bins = torch.arange(_HISTOGRAM_BINS, device=gray.device).view(1, -1, 1, 1)
        gap = (direction - bins).abs()
        share = (1 - torch.minimum(gap, _HISTOGRAM_BINS - gap)).clamp(min=0)
        side = HISTOGRAM_WINDOW / _HISTOGRAM_CELLS
        votes = F.pad(
            _blurred(torch.hypot(across, down) * share, side / 2), (HISTOGRAM_WINDOW,) * 4, mode="replicate"
        )
        parts = (torch.arange(_HISTOGRAM_CELLS) + 0.5) * side - HISTOGRAM_WINDOW / 2
        centres = (torch.arange(pictures.shape[-1] // CELL) * CELL + CELL / 2) / scale - 0.5
        places = (centres[:, None] + parts + HISTOGRAM_WINDOW).round().long().to(gray.device)
        histograms = votes[:, :, places][..., places].permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
        cut = F.normalize(histograms, dim=1).clamp(max=_HISTOGRAM_CUT)
        scales.append(F.normalize(cut, dim=1))
    return torch.cat(scales, 1) / math.sqrt(len(scales))


def classical_loss(desc: Tensor, pictures: Tensor, known: Tensor, margin: int = 2) -> Tensor:
    """1 - cosine between descriptors (B, 256, h, w) and `gradient_histograms`, averaged over the known cells.

    known: (B, h, w) bool; cells less than `margin` cells from the border are left out, as they see too little.
    """
    with torch.no_grad():
        goal = gradient_histograms(pictures)
        counts = torch.zeros_like(known)
        counts[:, margin:-margin, margin:-margin] = known[:, margin:-margin, margin:-margin]
    return ((1 - (desc.float() * goal).sum(1)) * counts).sum() / counts.sum().clamp(min=1)


def descriptor_losses(desc: Tensor, batch: PairBatch, options: TrainingOptions) -> Tensor:
    """The weighted sum of the hinge loss, the contrast seen from either view and the classical loss."""
    first, second = desc.chunk(2)
    known_first, known_second = batch.known.flatten(1).chunk(2)
    back = torch.linalg.inv(batch.homography)
    there = contrast_loss(first, second, batch.homography, known_first, options.contrast_temperature)
    again = contrast_loss(second, first, back, known_second, options.contrast_temperature)
    loss = options.contrast_weight * (there + again) / 2
    if options.descriptor_weight:
        same = gaps_of_cells(batch.homography, batch.pictures.shape[-1]) <= CELL
        known = known_first[:, :, None] & known_second[:, None, :]
        loss = options.descriptor_weight * descriptor_loss(first, second, same, known, options) + loss
    if options.classical_weight:
        loss = loss + options.classical_weight * classical_loss(desc, batch.pictures, batch.known)
    return loss


def pair_losses(network: SuperPoint, batch: PairBatch, options: TrainingOptions) -> tuple[Tensor, Tensor]:
    """Both losses of a batch: the detector's over both views, and the descriptor's, already weighted."""
    pictures = batch.pictures.contiguous(memory_format=torch.channels_last)
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=options.half_precision):
        features = network.encode(pictures)
        semi = network.detect(features)
        desc = network.describe(features) if options.describes else None
    loss = detector_loss(semi, batch.target, batch.known, options.place_weight)
    if desc is None:
        return loss, loss.new_zeros(())
    return loss, descriptor_losses(desc, batch, options)


def learning_rate(iteration: int, options: TrainingOptions) -> float:
    """Linear warm-up, then half a cosine down to a fiftieth."""
    rise = min((iteration + 1) / max(options.warm_up, 1), 1)
    fall = 0.5 * (1 + np.cos(np.pi * iteration / options.iterations))
    return options.learning_rate * rise * (0.02 + 0.98 * fall)


def fresh_superpoint(seed: int, pictures: Tensor | None = None) -> SuperPoint:
    """SuperPoint before training, silent at first: "no point" in nearly every cell.

    He's initialisation; with `pictures` (B, 1, S, S) every channel before a ReLU is then shifted and scaled to
    mean 0 and deviation 1 over them. Plain initialisation leaves the deeper features of all pictures so alike
    that the detector does not learn for hundreds of iterations where in its cell a point lies.
    """
    network = SuperPoint()
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            layer.weight.data = torch.randn(layer.weight.shape, generator=generator) * (2 / fan_in) ** 0.5
            nn.init.zeros_(layer.bias)
    if pictures is not None:
        standardise(network, pictures)
    network.convPb.weight.data *= 0.1
    network.convPb.bias.data[-1] = 5.0
    return network


@torch.no_grad()
def standardise(network: SuperPoint, pictures: Tensor) -> None:
    """Scale and shift the 3x3 convolutions so that their outputs over `pictures` have mean 0 and deviation 1."""

    def adjust(layer: nn.Conv2d, _inputs, output: Tensor) -> Tensor:
        mean, deviation = output.mean((0, 2, 3)), output.std((0, 2, 3)).clamp(min=1e-6)
        layer.weight.data /= deviation[:, None, None, None]
        layer.bias.data = (layer.bias.data - mean) / deviation
        return (output - mean[:, None, None]) / deviation[:, None, None]

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)]
    hooks = [layer.register_forward_hook(adjust) for layer in layers]
    network(pictures)
    for hook in hooks:
        hook.remove()


class Trainer:
    """A stage of training that can be left and taken up again, exactly where it was.

    What is random depends on the seed and the iteration alone; the checkpoint holds the rest.
    """

    def __init__(self, network: SuperPoint, source: PairSource, options: TrainingOptions) -> None:
        self.network = network.to(memory_format=torch.channels_last).train().requires_grad_(True)
        self.source, self.options = source, options
        self.optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
        self.average = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        self.iteration = 0
        self.curve: list[tuple[int, float, float]] = []  # iteration, detector's loss, descriptor's loss

    def step(self) -> tuple[float, float]:
        """One iteration: draw pairs, both losses, one step of Adam; returns the losses."""
        options = self.options
        batch = self.source.batch(options.batch_size, options.seed, options.stage, self.iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.iteration, options)
        detector, descriptor = pair_losses(self.network, batch, options)
        self.optimizer.zero_grad()
        (detector + descriptor).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), options.gradient_norm)
        self.optimizer.step()
        self.iteration += 1
        self._follow()
        return float(detector.detach()), float(descriptor.detach())

    def _follow(self) -> None:
        """Let the average of the weights follow; quickly at first, when the weights still come from chance."""
        decay = min(self.options.average_decay, (1 + self.iteration) / (10 + self.iteration))
        for name, tensor in self.network.state_dict().items():
            self.average[name].lerp_(tensor, 1 - decay)

    def train(self, path: Path, every: int = 250, description: str = "SuperPoint") -> None:
        """Go on to the last iteration; a checkpoint at `path` every `every` iterations and at the end."""
        recent = np.zeros((0, 2))
        progress = Progress(description, self.options.iterations, "iteration", initial=self.iteration)
        with progress:
            while self.iteration < self.options.iterations:
                recent = np.concatenate([recent, [self.step()]])
                detector, descriptor = recent[-50:].mean(0)
                progress.update(1, detector=f"{detector:.3f}", descriptor=f"{descriptor:.3f}")
                if self.iteration % every == 0 or self.iteration == self.options.iterations:
                    self.curve.append((self.iteration, *(float(mean) for mean in recent.mean(0))))
                    recent = recent[:0]
                    self.save(path)

    def save(self, path: Path) -> None:
        """Everything that `resume` needs, in one file."""
        content = {
            "state_dict": self.network.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "iteration": self.iteration,
            "curve": self.curve,
        }
        save_checkpoint(content, path)

    def resume(self, path: Path) -> None:
        """Take up the state of a file written by `save`."""
        content = load_checkpoint(path)
        self.network.load_state_dict(content["state_dict"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.average = content["average"]
        self.iteration, self.curve = content["iteration"], [tuple(row) for row in content["curve"]]


def network_detector(network: SuperPoint, half_precision: bool = True) -> Callable:
    """The network as a detector for `adapt`: the best pixels of its score map."""
    network = network.eval()

    @torch.inference_mode()
    def detect(gray: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
        picture = torch.from_numpy(gray)[None, None].float() / 255
        with torch.autocast("cpu", torch.bfloat16, enabled=half_precision):
            semi = network.detect(network.encode(picture.contiguous(memory_format=torch.channels_last)))
        heat = score_map(semi)[0].numpy()
        rows, columns = np.nonzero(local_maxima(heat))
        best = np.argsort(-heat[rows, columns], kind="stable")[: gray.size // AREA_PER_POINT]
        return np.stack([columns[best], rows[best]], 1).astype(float)

    return detect


def label_pictures(detect: Callable, path: Path, views: int, seed: int) -> None:
    """Homographic adaptation of every free picture, once; the labels go to a pickle at `path`."""
    pictures = all_pictures(seed)
    labels = []
    with Progress("Labels", len(pictures), "picture") as progress:
        for k, (picture, _) in enumerate(pictures):
            points, weights = adapt(picture, detect, np.random.default_rng([seed, k]), views)
            labels.append(np.column_stack([points, weights]).astype(np.float32))
            progress.update(1, points=len(points))
    dump_pickle(labels, path)


def load_labels(path: Path, seed: int) -> list[LabelledPicture]:
    """The free pictures with those labels of `label_pictures` that are found in most views."""
    labelled = []
    for (picture, chance), rows in zip(all_pictures(seed), load_pickle(path)):
        rows = rows[rows[:, 2] >= RELIABLE]
        labelled.append(LabelledPicture(picture, rows[:, :2].astype(float), rows[:, 2], chance))
    return labelled


@torch.no_grad()
def calibrated(network: SuperPoint, place: float = 1.0, odds: float = 1.0, bias: float = 0.0) -> SuperPoint:
    """The network with other confidence, by a linear change of its last layer; descriptors stay.

    With m the mean of a cell's 64 logits, pixels get (logit - m) / place and "no point" gets
    (logit - m) / odds + bias: `place` sharpens where in its cell a point lies, `odds` softens whether there is
    one, `bias` lowers or raises all scores. The order of the pixels within a cell stays.
    """
    layer = network.convPb
    for tensor in (layer.weight, layer.bias):
        tensor -= tensor[:-1].mean(0, keepdim=True)
        tensor[:-1] /= place
        tensor[-1] /= odds
    layer.bias[-1] += bias
    return network


@torch.no_grad()
def whitened(network: SuperPoint, batch: PairBatch, strength: float = 1.0, shrinkage: float = 1.0) -> SuperPoint:
    """The network with descriptors that are centred and spread over all directions, by its last layer alone.

    What training gives shares a large common part and lies in few directions, so that distances say little
    about pictures of another kind. Mean m and covariance C of the unnormalised descriptors of the cells of
    `batch` that hold a point turn a descriptor d into (C + shrinkage * mean variance)^(-strength / 2) (d - m).
    """
    network = network.eval()
    raw = raw_descriptors(network, batch.pictures).permute(0, 2, 3, 1)
    rows = raw[batch.known & (batch.target[:, -1] < RELIABLE)].double()
    mean = rows.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov((rows - mean).T))
    scales = (variances + shrinkage * variances.mean()) ** (-strength / 2)
    turn = directions * scales @ directions.T
    layer = network.convDb
    layer.bias.copy_(turn @ (layer.bias.double() - mean))
    layer.weight.copy_((turn @ layer.weight[:, :, 0, 0].double())[:, :, None, None])
    return network
