"""The paper's hyperparameters, and those of a run: defaults of recipe, preset and data set, then the user's."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PrivateAttr,
    ValidationError,
    create_model,
)

from Utils.runtime.errors import UserError, one_line, shown

# Size and length of a training: the paper's, or some minutes on two CPU cores.
PRESETS: dict[str, dict[str, Any]] = {
    "full": {},
    "small": {
        "image_size": 128,
        "width": 32,
        "number_of_clusters": 60,
        "batch_size": 8,
        "confidence_fan": 0.05,  # after so short a training the detector is unsure
        "optimizer": "adam",
        "learning_rate": 2e-3,
        "iterations_first": 400,
        "clustering_rounds": 2,
        "iterations_per_scheduler_step": 30,
        "gradient_accumulation": 1,
        "total_iterations": 1100,
        "learning_rate_steps": (880, 1000),
        "iterations_before_merging": 450,
        "min_cluster_points": 50,
    },
}
# The Demo's: its rounds of step one take longer and gain less than step two.
PRESETS["brief"] = PRESETS["small"] | {
    "iterations_first": 300,
    "clustering_rounds": 0,
    "total_iterations": 700,
    "learning_rate_steps": (560, 645),
    "iterations_before_merging": 300,
}

# Marks a field that may differ between a network's training and its use.
FREE_AFTER_TRAINING = "free after training"

Readout = Annotated[
    Literal["cell", "centroid"],
    FREE_AFTER_TRAINING,
    Field(
        description="where a landmark lies: in its map's highest cell, or at the centre of mass of the 5x5 cells "
        "around it"
    ),
]


def comma_separated(value: Any) -> Any:
    """`1,2,3` as three texts; other values unchanged."""
    return tuple(part for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _from_one(zooms: tuple[float, ...]) -> tuple[float, ...]:
    if not zooms or zooms[0] != 1 or min(zooms) < 1:
        raise ValueError("must be 1, then larger numbers")
    return zooms


Zooms = Annotated[
    tuple[float, ...],
    BeforeValidator(comma_separated),
    AfterValidator(_from_one),
    Field(
        description="how much a picture is enlarged about its centre to look for generic keypoints, each time; the "
        "first is 1"
    ),
]


class Hyperparameters(BaseModel):
    """The paper's, and settings of a training run. Recipes and data sets add their own.

    Each description is the field's line in docs/training.md.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    number_of_clusters: int = Field(100, ge=2, description="K of k-means")
    batch_size: int = Field(
        0,
        ge=0,
        description="over all processes together; 0: the paper's, 16 pairs of pictures in step one and 32 pictures "
        "in step two",
    )
    optimizer: Literal["rmsprop", "adam"] = Field(
        "rmsprop", description="`rmsprop`, the paper's, or `adam`, which bears a higher learning rate"
    )
    learning_rate: float = Field(5e-4, ge=0, description="the optimiser's")
    weight_decay: float = Field(1e-5, ge=0, description="the optimiser's in step one")
    heatmap_weight_decay: float = Field(1e-5, ge=0, description="the optimiser's in step two")
    image_size: int = Field(256, ge=64, multiple_of=64, description="side of the crop in pixels; a multiple of 64")
    width: int = Field(256, ge=32, multiple_of=32, description="FAN's features; a multiple of 32")
    confidence_superpoint: float = Field(0.1, ge=0, le=1, description="score that a generic keypoint has to exceed")
    nms_superpoint: int = Field(6, ge=1, description="half-side of the suppressed square, in pixels of the picture")
    zooms_superpoint: Zooms = (1.0, 1.3, 1.6)
    outlier_fraction: float = Field(
        0.4, ge=0, lt=1, description="share of the generic keypoints that are dropped as outliers"
    )
    confidence_fan: float = Field(
        0.2, ge=0, le=1, description="detector score that a keypoint of step one has to exceed"
    )
    iterations_first: int = Field(20_000, ge=1, description="iterations on the bootstrap's keypoints")
    clustering_rounds: int = Field(30, ge=0, description="rounds of training and clustering after that")
    iterations_per_scheduler_step: int = Field(
        2_000, ge=1, description="iterations between steps of the cosine schedule; a round is five"
    )
    total_iterations: int = Field(80_000, ge=1, description="optimiser steps of step two")
    gradient_accumulation: int = Field(2, ge=1, description="batches per optimiser step of step two")
    learning_rate_steps: Annotated[tuple[NonNegativeInt, ...], BeforeValidator(comma_separated)] = Field(
        (50_000, 65_000), description="iterations of step two at which the learning rate is multiplied by 0.1"
    )
    iterations_before_merging: int = Field(
        25_000, ge=0, description="iteration of step two after which every second epoch merges clusters"
    )
    cluster_overlap: float = Field(
        0.7,
        ge=0,
        le=1,
        description="two clusters are merged if they coincide in this share of the rarer one's pictures",
    )
    min_cluster_points: int = Field(
        500, ge=0, description="step two does not learn clusters with this many keypoints or fewer"
    )
    recipe: str = Field("paper", description="`paper` is the method to the letter")
    preset: str = Field(
        "full", description="size, length and optimiser: `full`, the values of this table, `small` or `brief`"
    )
    readout: Readout = "cell"
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="`auto` (bfloat16 on a GPU, float32 on the CPU), `float32` or `bfloat16`; losses are always "
        "float32",
    )
    compile: bool = Field(False, description="`torch.compile` for most of the network")
    minutes_between_checkpoints: float = Field(10.0, ge=0, description="how often the state for `--resume` is saved")
    checkpoints_kept: int = Field(
        5, ge=0, description="newest epoch checkpoints of step two that are kept; 0: all of them"
    )
    seed: int = Field(1993, ge=0, lt=2**63, description="of everything random in training and evaluation")

    _given: frozenset[str] = PrivateAttr(frozenset())  # the names that the user set
    _data_set_names: tuple[str, ...] = PrivateAttr(())

    @property
    def data_set_names(self) -> tuple[str, ...]:
        """Names of the data set's own settings."""
        return self._data_set_names

    def adopt(self, values: Mapping[str, Any], source: Path | str) -> None:
        """Take over the values of a checkpoint, so that the user need not repeat them.

        Raises UserError for values out of range, and if the user set another value that must not differ.
        """
        try:
            type(self).model_validate(self.model_dump() | dict(values), strict=True)
        except ValidationError as error:
            raise UserError(f"{source}: {explained(error)}; get or make the file again") from None
        for name, value in values.items():
            now = getattr(self, name)
            if name not in self._given or now == "auto":  # what `auto` stands for, the training decided
                setattr(self, name, value)
            elif now != value and FREE_AFTER_TRAINING not in type(self).model_fields[name].metadata:
                raise UserError(
                    f"--set {setting(name, now)}: {source} was made with {setting(name, value)}; "
                    f"leave the setting out or use another experiment"
                )


class DataSet(Protocol):
    """The part of a data set's class that concerns hyperparameters and options."""

    settings: ClassVar[type[BaseModel]]  # its own hyperparameters
    defaults: ClassVar[dict[str, Any]]  # for hyperparameters of the paper or recipe
    protocols: ClassVar[tuple[str, ...]]  # that its groundtruth serves, beside the paper's


def hyperparameters(
    settings: Sequence[str],
    recipes: Mapping[str, type[Hyperparameters]],
    database: type[DataSet] | None = None,
) -> Hyperparameters:
    """The recipe's defaults, then the preset's, the data set's, and the user's NAME=VALUE settings.

    recipes: name -> class; without recipes only the paper's names are known. The result's class inherits from the
    recipe's class and the data set's. Raises UserError for an unknown name (and tells the nearest known one), and for
    values of the wrong type or range.
    """
    given = _read_settings(settings)
    defaults, own = (database.defaults, database.settings) if database else ({}, BaseModel)
    chosen = {"recipe": "paper", "preset": "full"} | defaults | given
    for name, known in (("recipe", recipes), ("preset", PRESETS)):
        if known and chosen[name] not in known:
            raise UserError(f"--set {name}={chosen[name][:60]}: must be one of {', '.join(known)}")
    kind = create_model("Settings", __base__=(recipes.get(chosen["recipe"], Hyperparameters), own))
    assert issubclass(kind, Hyperparameters)
    for name in given:
        if name not in kind.model_fields:
            near = difflib.get_close_matches(name, kind.model_fields, n=1, cutoff=0.0)
            whose = f"recipe={chosen['recipe']}" if recipes else "this script"
            raise UserError(f"--set {name}: {whose} has no such hyperparameter; the nearest one is {near[0]}")
    try:
        hyper = kind.model_validate({**PRESETS[chosen["preset"]], **defaults, **given})
    except ValidationError as error:
        raise UserError(f"--set {explained(error)}") from None
    hyper._given, hyper._data_set_names = frozenset(given), tuple(own.model_fields)
    return hyper


def _read_settings(settings: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE as name -> text; the last one counts."""
    pairs = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--set {text}: write it as NAME=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs


def explained(error: ValidationError) -> str:
    """One line: `width=100: must be a multiple of 32; seed=-1: must be at least 0`."""
    problems = []
    for detail in error.errors():
        name, value = ".".join(map(str, detail["loc"])), detail["input"]
        if isinstance(value, (str, int, float)):
            name += f"={value[:60] if isinstance(value, str) else shown(value)}"
        message = detail["msg"].removeprefix("Value error, ").partition(", unable")[0]
        for theirs, ours in _WORDS.items():
            message = message.replace(theirs, ours)
        problems.append(f"{name}: {message}" if name else message)
    return one_line("; ".join(problems))


_WORDS = {  # pydantic's -> ours
    "Input should": "must",
    "String should": "must",
    "Field required": "is missing",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "less than": "below",
}


def setting(name: str, value: Any) -> str:
    """NAME=VALUE as --set takes it."""
    if isinstance(value, bool):
        value = str(value).lower()
    return f"{name}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"
