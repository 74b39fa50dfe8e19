"""Export a trained generator: `python -m dcgan.export checkpoint=CKPT out=generator.onnx`.

Heavy imports are inside the function, so that command-line errors are reported at once.
"""

from pathlib import Path

from omegaconf import DictConfig

from dcgan.checkpoints.safe_instantiate import trust
from dcgan.common import command
from dcgan.common.arg_checks import check_bool
from dcgan.common.errors import UserError


def export(cfg: DictConfig) -> None:
    trust(cfg.trusted)
    if not cfg.checkpoint:
        raise UserError("give checkpoint=RUN/checkpoints/last.ckpt, or checkpoint=mnist")
    from dcgan.common.atomic_files import write_errors
    from dcgan.common.hub import hub_repository
    from dcgan.exporting.formats import WRITERS, round_to_float16, upload, with_license
    from dcgan.sampling.locate import evaluation_path, locate_generator
    from dcgan.sampling.trained_generator import load_generator
    from dcgan.sampling.writers import ALTERNATIVE, check_output_path

    check_bool("float16", cfg.float16)
    out, repository = Path(cfg.out), hub_repository(cfg.out)
    if repository is None:
        check_output_path(out, tuple(WRITERS))
    else:
        repository.check_token()
    checkpoint = locate_generator(cfg.checkpoint)
    generator = with_license(load_generator(checkpoint, "cpu"), cfg.license)
    if cfg.float16:
        generator = round_to_float16(generator)
    with write_errors(out, ALTERNATIVE, (OSError,)):
        if repository is None:
            note = WRITERS[out.suffix](out, generator, evaluation_path(checkpoint))
        else:
            note = upload(repository, generator, evaluation_path(checkpoint))
    print(note)
    print(f"export       {out}")


def main() -> None:
    command.main("export", export, command.reject_multirun)


if __name__ == "__main__":
    main()
