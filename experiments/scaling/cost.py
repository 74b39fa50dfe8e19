"""Count what one training step computes, moves and would exchange between GPUs: `python -m experiments.scaling.cost`

No time is measured, so the results are the same on every machine. The columns of cost.csv, for one step of a batch:

  gigaflops           of convolutions and matrix products, two per multiplication and addition
  gigabytes_moved     if each operator reads its inputs from memory and writes its outputs to it once
  megabytes_reduced   the gradients of both networks, which data parallelism averages over the GPUs
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from experiments.bench import build_standalone_gan, print_results, write_results
from experiments.configs import compose_config
from experiments.tables import Row

HERE = Path(__file__).parent
CONFIGS: dict[str, list[str]] = {
    "default": [],
    "default, 64 x 64": ["data.image_size=64"],
    "experiment=fast": ["experiment=fast"],
    "experiment=r3gan": ["experiment=r3gan"],
}


class CostCounter(TorchDispatchMode):
    """Counts the operations of convolutions and matrix products, and the bytes that operators read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.bytes_moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=result)
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.bytes_moved += sum(tensor.nbytes for tensor in tensors)
        return result


def step_cost(name: str, overrides: list[str]) -> Row:
    """Return the row of a config."""
    config = compose_config(*overrides)
    gan = build_standalone_gan(config)
    data = config.data
    images = torch.randn(data.batch_size, data.channels, data.image_size, data.image_size)
    images = images.to(memory_format=torch.channels_last)
    gan.update(images, None)  # creates the states of the optimizers
    with CostCounter() as cost:
        gan.update(images, None)
    parameters = sum(parameter.numel() for parameter in gan.parameters() if parameter.requires_grad)
    return {
        "config": name,
        "batch_size": str(data.batch_size),
        "parameters": str(parameters),
        "gigaflops": f"{cost.flops / 1e9:.2f}",
        "gigabytes_moved": f"{cost.bytes_moved / 1e9:.2f}",
        "megabytes_reduced": f"{4 * parameters / 1e6:.1f}",
    }


def main() -> None:
    rows = [step_cost(name, overrides) for name, overrides in CONFIGS.items()]
    write_results(HERE / "cost.csv", rows)
    print_results(rows)


if __name__ == "__main__":
    main()
