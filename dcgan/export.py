"""Export a trained generator: `python -m dcgan.export checkpoint=CKPT out=generator.onnx`.

Heavy imports are inside the function, so that command-line errors are reported at once.
"""

from pathlib import Path

from omegaconf import DictConfig

from dcgan.checkpoints.safe_instantiate import trust
from dcgan.common import command
from dcgan.common.errors import UserError


def export(cfg: DictConfig) -> None:
    trust(cfg.trusted)
    if not cfg.checkpoint:
        raise UserError("give checkpoint=RUN/checkpoints/last.ckpt")
    from dcgan.common.atomic_files import write_errors
    from dcgan.exporting.formats import WRITERS
    from dcgan.sampling.trained_generator import load_generator
    from dcgan.sampling.writers import ALTERNATIVE, check_output_path

    checkpoint, out = Path(cfg.checkpoint), Path(cfg.out)
    check_output_path(out, tuple(WRITERS))
    generator = load_generator(checkpoint, "cpu")
    with write_errors(out, ALTERNATIVE, (OSError,)):
        note = WRITERS[out.suffix](out, generator, checkpoint.with_suffix(".evaluation.json"))
    print(note)
    print(f"export       {out}")


def main() -> None:
    command.main("export", export, command.reject_multirun)


if __name__ == "__main__":
    main()
