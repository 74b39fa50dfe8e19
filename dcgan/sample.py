"""Draw with a trained generator: `python -m dcgan.sample checkpoint=CKPT out=grid.png`.

Only what reads the command line is imported up here.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from dcgan import cli
from dcgan.checks import UserError, check_int, check_number

if TYPE_CHECKING:
    from dcgan.data import ImageData


def act(cfg: DictConfig) -> None:
    from dcgan.modes.mode import Source
    from dcgan.outputs import WRITERS, check_place, write

    check_int("batch_size", cfg.batch_size, 1)
    check_number("fps", cfg.fps, 0.01, 100)
    check_int("scale", cfg.scale, 1, 64, optional=True)
    job = HydraConfig.get()
    overrides, choices = list(job.overrides.task), job.runtime.choices
    mode = instantiate(cfg.draw, _convert_="all")
    out = Path(cfg.out if cfg.out is not None else f"{choices['mode']}.png")
    check_place(out, tuple(WRITERS))
    checkpoint = Path(cfg.checkpoint) if cfg.checkpoint else None

    def real() -> "ImageData":
        from dcgan.data import data_of
        from dcgan.trained import read_checkpoint

        if checkpoint is None:
            return instantiate(cfg.data)
        if checkpoint.is_dir() or checkpoint.suffix == ".safetensors":
            raise UserError(f"the export {checkpoint} knows nothing of its data: leave checkpoint= out, and give data=")
        return data_of(checkpoint, read_checkpoint(checkpoint), cfg, overrides)

    for note in write(out, mode, Source(checkpoint, cfg.device, cfg.batch_size, real), cfg.scale, cfg.fps):
        print(note)
    print(f"{choices['mode']:<13}{out}")


def main() -> None:
    cli.main("sample", act, cli.once)


if __name__ == "__main__":
    main()
