"""Estimate what a run needs before it begins, and reject what the machine cannot do."""

import os

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from dcgan.common.errors import UserError
from dcgan.common.instantiate import build
from dcgan.models.discriminator import BaseDiscriminator
from dcgan.models.dry_run import dry_run
from dcgan.models.generator import BaseGenerator
from dcgan.models.layers import count_parameters

MIN_STEP_SECONDS = 1e-5  # no machine is faster
YEAR_SECONDS = 365 * 24 * 3600
MAX_CALLS = 8_000  # of torch's operations, to initialize and use both networks
PROCESS_BYTES = 400_000_000  # of Python and the libraries
BYTES_PER_PARAMETER = 8  # float32: the weight and its gradient
GB = 1e9


def reject_excess(cfg: DictConfig) -> None:
    """Raise UserError if a run needs more memory than the machine has, or more than a year.

    Both are lower bounds. Nothing is rejected if a network of the user's cannot be built without memory.
    """
    steps = cfg.max_steps if cfg.max_steps is not None else cfg.max_epochs  # an epoch has a step at least
    if (years := steps * MIN_STEP_SECONDS / YEAR_SECONDS) > 1:
        key = "max_steps" if cfg.max_steps is not None else "max_epochs"
        raise UserError(f"{key}={steps:,} would take more than {years:,.0f} years on any machine: lower it")
    needed, available = required_memory(cfg), machine_memory(cfg)
    if needed > available:
        raise UserError(
            f"the run needs at least {needed / GB:,.3g} GB of memory, but a process has {available / GB:,.3g} GB: "
            "lower data.batch_size, data.image_size, data.classes, trainer.devices, or the sizes of the networks (such "
            "as model.base_channels)"
        )


def required_memory(cfg: DictConfig) -> int:
    """Return a lower bound of the bytes of a step: parameters and what the update of G keeps for its gradient."""
    kept: dict[int, torch.UntypedStorage] = {}
    nothing = torch.empty(0)

    def keep(tensor: Tensor) -> Tensor:  # not the tensor: its graph holds this function, and would never be freed
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return nothing

    with dry_run(MAX_CALLS) as cost, saved_tensors_hooks(keep, lambda tensor: tensor):
        try:
            networks = build(cfg, "model", BaseGenerator), build(cfg, "discriminator", BaseDiscriminator)
            generate_and_judge(*networks, cfg.data.batch_size)
        except Exception as error:
            if cost.calls < 0:
                raise UserError("a network has too many layers: lower their number") from error
            return 0  # the real networks report it, unless they only cannot be built without memory
    # mixed precision keeps half of the bytes
    activations = sum(storage.nbytes() for storage in kept.values()) // 2
    return PROCESS_BYTES + BYTES_PER_PARAMETER * sum(map(count_parameters, networks)) + activations


def generate_and_judge(generator: BaseGenerator, discriminator: BaseDiscriminator, n: int) -> None:
    labels = torch.zeros(n, dtype=torch.int64) if generator.classes else None
    discriminator(generator(generator.sample_z(n, torch.device("meta")), labels), labels)


def machine_memory(cfg: DictConfig) -> int:
    """Return the bytes of memory for one process: of the GPU, if the run uses one."""
    if cfg.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_properties(0).total_memory
    processes = cfg.trainer.devices if isinstance(cfg.trainer.devices, int) else 1
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // max(1, processes)
