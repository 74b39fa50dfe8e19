"""`dcgan.train` as shipped, with its logging, pictures and checkpoints, told of its steps (`turns`)."""

import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from dcgan import train
from dcgan.gan import GAN


def main() -> None:
    ticks, overrides = Path(os.environ["TICKS"]), sys.argv[1:]
    training_step = GAN.training_step
    with ticks.open("ab", buffering=0) as file:

        def told(gan: GAN, batch: Any, batch_idx: int) -> Any:
            outputs = training_step(gan, batch, batch_idx)
            if gan.global_rank == 0:
                file.write(b".")
            return outputs

        # no end, and no measurement: experiments/metrics times those
        sys.argv[1:] = [
            f"hydra.run.dir={ticks.parent}/run",
            "max_steps=1000000",
            "metrics.every_n_steps=1000000",
            *overrides,
        ]
        with mock.patch.object(GAN, "training_step", told):
            train.main()


if __name__ == "__main__":
    main()
