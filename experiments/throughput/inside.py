"""How much of a training is its training step: `python -m experiments.throughput.inside STEPS [overrides]`.

`dcgan.train` as shipped, with a clock around each step; the rest is Lightning's loop, the data, logging and pictures.
On a machine that others share this is sharper than a race, whose arms do not meet the same neighbours.
"""

import json
import sys
import tempfile
import time
from typing import Any
from unittest import mock

from dcgan import train
from dcgan.gan import GAN
from experiments.composing import WARM_UP


def main() -> None:
    steps, overrides = int(sys.argv[1]), sys.argv[2:]
    begun: list[float] = []
    ended: list[float] = []
    training_step = GAN.training_step

    def timed(gan: GAN, batch: Any, batch_idx: int) -> Any:
        begun.append(time.perf_counter())
        outputs = training_step(gan, batch, batch_idx)
        ended.append(time.perf_counter())
        return outputs

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(GAN, "training_step", timed):
        sys.argv[1:] = [f"hydra.run.dir={folder}/run", f"max_steps={steps}", "metrics.n=100", *overrides]
        sys.argv.append("metrics.every_n_steps=1000000")
        train.main()
    inside = sum(end - begin for begin, end in zip(begun[WARM_UP:-1], ended[WARM_UP:-1], strict=True))
    outside = sum(begin - end for begin, end in zip(begun[WARM_UP + 1 :], ended[WARM_UP:-1], strict=True))
    n = len(begun) - WARM_UP - 1
    print(json.dumps({"share": inside / (inside + outside), "ms_outside": 1e3 * outside / n}))


if __name__ == "__main__":
    main()
