"""Look around in a trained generator: `python -m dcgan.explore checkpoint=CKPT` opens a page of this machine's own.

Only what reads the command line is imported up here.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from dcgan import cli
from dcgan.checks import UserError, check_int

if TYPE_CHECKING:
    from dcgan.explorer import Explorer

HOST = "127.0.0.1"  # nobody else can reach it


def make_explorer(cfg: DictConfig) -> "Explorer":
    """Raises UserError and ValueError for what cannot be explored."""
    if not cfg.checkpoint:
        raise UserError("give checkpoint=RUN/checkpoints/last.ckpt")
    from dcgan.explorer import Explorer
    from dcgan.metrics.judge import judge_of
    from dcgan.trained import load_generator

    generator = load_generator(Path(cfg.checkpoint), cfg.device)
    try:
        judge = judge_of(generator)
    except UserError as error:
        print(f"note: {error}: images are shown without a verdict")
        judge = None
    config: Any = OmegaConf.to_container(cfg)
    return Explorer(generator, judge, config["along"], config["directions"])


def act(cfg: DictConfig) -> None:
    check_int("port", cfg.port, 1, 65535)
    if find_spec("gradio") is None:
        raise UserError("the page needs gradio, which is not installed: pip install 'dcgan[explore]'")
    explorer = make_explorer(cfg)
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    from dcgan.explorer import launch

    print(f"page         http://{HOST}:{cfg.port}, until Ctrl-C", flush=True)
    launch(explorer, HOST, cfg.port, cfg.browser)


def main() -> None:
    cli.main("explore", act, cli.once)


if __name__ == "__main__":
    main()
