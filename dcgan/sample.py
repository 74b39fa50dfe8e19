"""Generate samples with a trained generator: `python -m dcgan.sample checkpoint=CKPT out=grid.png`.

Heavy imports are inside the function, so that command-line errors are reported at once.
"""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from dcgan.checkpoints.safe_instantiate import reject_saved_keys, trust
from dcgan.common import command
from dcgan.common.arg_checks import check_int, check_number


def sample(cfg: DictConfig) -> None:
    from dcgan.common.instantiate import build
    from dcgan.data.datamodule import BaseDataModule
    from dcgan.sampling.base import SampleSource, SamplingMode
    from dcgan.sampling.writers import SUFFIXES, check_output_path, write

    trust(cfg.trusted)
    check_int("batch_size", cfg.batch_size, 1)
    check_number("fps", cfg.fps, 0.01, 100)
    check_int("scale", cfg.scale, 1, 64, optional=True)
    job = HydraConfig.get()
    name, overrides = job.runtime.choices["mode"], list(job.overrides.task)
    mode = build(cfg, "sampling_mode", SamplingMode)
    checkpoint = Path(cfg.checkpoint) if cfg.checkpoint else None
    if checkpoint is not None:
        reject_saved_keys(overrides)
    folder = checkpoint.parent if checkpoint is not None and checkpoint.exists() else Path()
    out = Path(cfg.out) if cfg.out is not None else folder / f"{name}.png"
    check_output_path(out, SUFFIXES)

    def load_data() -> BaseDataModule:
        from dcgan.checkpoints.io import read_checkpoint
        from dcgan.evaluation.targets import load_datamodule
        from dcgan.sampling.locate import locate_checkpoint

        if checkpoint is None:
            return build(cfg, "data", BaseDataModule)
        alternative = "leave out checkpoint=, and give data= (mode=data), or give its run's checkpoint"
        path = locate_checkpoint(checkpoint, alternative)
        return load_datamodule(path, read_checkpoint(path), cfg, overrides)

    source = SampleSource(checkpoint, cfg.device, cfg.batch_size, load_data, cfg.truncation)
    for note in write(out, mode, source, cfg.scale, cfg.fps):
        print(note)
    print(f"{name:<13}{out}")


def main() -> None:
    command.main("sample", sample, command.reject_multirun)


if __name__ == "__main__":
    main()
