"""Find the file of a trained generator by its path, the name of a pretrained model, or a repository of a hub."""

from pathlib import Path

from dcgan.common.errors import UserError
from dcgan.common.hub import hub_repository

# files of an export
CONFIG = "config.json"
HUB_WEIGHTS = "model.safetensors"
HUB_EVALUATION = "model.evaluation.json"

PRETRAINED = Path(__file__).with_name("pretrained")  # a folder per model, as `python -m dcgan.export` writes it


def pretrained_names() -> list[str]:
    """Return the names of the models that are part of this package."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{HUB_WEIGHTS}"))


def evaluation_path(generator: Path) -> Path:
    """Return the path of the evaluation of a checkpoint or an export."""
    return generator.with_suffix(".evaluation.json")


def locate_checkpoint(name: str | Path, alternative: str) -> Path:
    """Return the path of a run's checkpoint, for a command that needs its data.

    Raises:
        UserError: As in `locate_generator`, or it is an export. The message ends with the alternative.
    """
    path = locate_generator(name)
    if path.suffix == ".safetensors":
        raise UserError(f"the export {name} has no data config: {alternative}")
    return path


def locate_generator(name: str | Path) -> Path:
    """Return the path of a checkpoint, or of an export's .safetensors file.

    Args:
        name: A path (of a folder: the .safetensors file in it), else the name of a pretrained model, or
            "hub:USER/NAME" or "hub:USER/NAME@REVISION", whose files are downloaded.

    Raises:
        UserError: There is no such file, model or repository.
    """
    repository, path = hub_repository(name), Path(name)
    if repository is not None:
        path = repository.download((CONFIG, HUB_WEIGHTS, HUB_EVALUATION))
    elif not path.exists() and str(name) in pretrained_names():
        path = PRETRAINED / name
    elif not path.exists():
        raise UserError(
            f"there is no checkpoint {name}: give a run's checkpoints/last.ckpt, an export, hub:USER/NAME, or a "
            f"pretrained model ({', '.join(pretrained_names())})"
        )
    if path.is_file():
        return path
    if not (path / HUB_WEIGHTS).is_file():
        raise UserError(
            f"there is no {HUB_WEIGHTS} in {name}: give a run's checkpoints/last.ckpt, or an export of dcgan"
        )
    return path / HUB_WEIGHTS
