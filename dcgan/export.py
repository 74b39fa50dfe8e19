"""Take a trained generator elsewhere: `python -m dcgan.export checkpoint=CKPT out=generator.onnx`.

Only what reads the command line is imported up here.
"""

from pathlib import Path

from omegaconf import DictConfig

from dcgan import cli
from dcgan.checks import UserError


def act(cfg: DictConfig) -> None:
    if not cfg.checkpoint:
        raise UserError("give checkpoint=RUN/checkpoints/last.ckpt")
    from dcgan.exporting import WRITERS
    from dcgan.files import writing
    from dcgan.outputs import INSTEAD, check_place
    from dcgan.trained import load_generator

    checkpoint, out = Path(cfg.checkpoint), Path(cfg.out)
    check_place(out, tuple(WRITERS))
    generator = load_generator(checkpoint, "cpu")
    with writing(out, INSTEAD, (OSError,)):
        note = WRITERS[out.suffix](out, generator, checkpoint.with_suffix(".evaluation.json"))
    print(note)
    print(f"export       {out}")


def main() -> None:
    cli.main("export", act, cli.once)


if __name__ == "__main__":
    main()
