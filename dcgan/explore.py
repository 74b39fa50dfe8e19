"""Explore a trained generator on a local web page: `python -m dcgan.explore checkpoint=CKPT`.

Heavy imports are inside the function, so that command-line errors are reported at once.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dcgan.checkpoints.safe_instantiate import trust
from dcgan.common import command
from dcgan.common.arg_checks import check_int
from dcgan.common.errors import UserError

HOST = "127.0.0.1"  # not reachable from other machines


def explore(cfg: DictConfig) -> None:
    trust(cfg.trusted)
    check_int("port", cfg.port, 1, 65535)
    if find_spec("gradio") is None:
        raise UserError("the page needs gradio, which is not installed: pip install 'dcgan[explore]'")
    if not cfg.checkpoint:
        raise UserError("give checkpoint=RUN/checkpoints/last.ckpt, or checkpoint=mnist")
    from dcgan.exporting.web_page import Explorer, launch
    from dcgan.sampling.base import load_matching_judge
    from dcgan.sampling.trained_generator import load_generator

    generator = load_generator(Path(cfg.checkpoint), cfg.device)
    try:
        judge = load_matching_judge(generator)
    except UserError as error:
        print(f"note: {error}: images are shown without a prediction")
        judge = None
    config: Any = OmegaConf.to_container(cfg)
    explorer = Explorer(generator, judge, config["along"], config["directions"])
    print(f"page         http://{HOST}:{cfg.port}, until Ctrl-C", flush=True)
    launch(explorer, HOST, cfg.port, cfg.browser)


def main() -> None:
    command.main("explore", explore, command.reject_multirun)


if __name__ == "__main__":
    main()
