"""Run dcgan.train with settings that its command line lacks: `python -m experiments.gpu.launch [options] OVERRIDES`.

--gloo lets two ranks share a GPU, which NCCL rejects. --memory-fraction limits the memory of the GPU.
"""

import argparse
import sys
from contextlib import nullcontext
from unittest import mock

import torch

from dcgan import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gloo", action="store_true")
    parser.add_argument("--memory-fraction", type=float)
    args, overrides = parser.parse_known_args()
    sys.argv[1:] = overrides
    if args.memory_fraction is not None:
        torch.cuda.set_per_process_memory_fraction(args.memory_fraction)
    name = "lightning.pytorch.strategies.ddp._get_default_process_group_backend_for_device"
    with mock.patch(name, return_value="gloo") if args.gloo else nullcontext():
        train.main()


if __name__ == "__main__":
    main()
