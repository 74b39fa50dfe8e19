"""Verify and convert the states of optimizers and schedulers in a checkpoint, before Lightning loads them.

A fused kernel does not check its state: it would read and write past the end of a shorter tensor.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dcgan.gan import GAN, OptimizerFactory


def restore_optimizer_states(checkpoint: dict[str, Any], gan: GAN) -> None:
    """Convert the checkpoint's states of optimizers and schedulers, in place, for this run's settings.

    Learning rates are this run's: if they have changed, those of a schedule are scaled.

    Raises:
        ValueError: The states do not fit the parameters or the schedulers.
    """
    networks = (gan.discriminator, gan.generator)
    factories = (gan.discriminator_optimizer, gan.generator_optimizer)
    schedulers = checkpoint["lr_schedulers"]
    if len(schedulers) != (0 if gan.schedulers is None else len(networks)):
        raise ValueError(f"it has {len(schedulers)} schedulers")
    for k, (network, factory) in enumerate(zip(networks, factories, strict=True)):
        saved = checkpoint["optimizer_states"][k]
        optimizer = stepped_optimizer(network, factory)
        reference = optimizer.state_dict()
        saved["state"] = {i: convert(reference["state"][i], state) for i, state in saved["state"].items()}
        groups = reference["param_groups"]
        if gan.schedulers is not None:
            scheduler = gan.schedulers[k](optimizer, 1)
            groups = list(map(resume_schedule, optimizer.state_dict()["param_groups"], saved["param_groups"]))
            schedulers[k] = convert_scheduler(scheduler, schedulers[k], groups)
        saved["param_groups"] = groups


def stepped_optimizer(network: nn.Module, factory: OptimizerFactory) -> Optimizer:
    """Return an optimizer of copies of the network's parameters after one step, so that it has a state."""
    parameters = [nn.Parameter(parameter.detach().cpu().clone()) for parameter in network.parameters()]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = factory(parameters)
    optimizer.step()
    return optimizer


def convert(reference: Any, saved: Any) -> Any:
    """Return the saved value if it has the structure, types and shapes of the reference, in its memory formats.

    Raises:
        ValueError: It has not.
    """
    if isinstance(reference, Tensor):
        if not isinstance(saved, Tensor) or saved.shape != reference.shape:
            raise ValueError(f"an optimizer's state has {describe(saved)} instead of {describe(reference)}")
        return torch.empty_like(reference).copy_(saved)
    if isinstance(reference, dict) and isinstance(saved, dict) and reference.keys() == saved.keys():
        return type(reference)({name: convert(value, saved[name]) for name, value in reference.items()})
    if isinstance(reference, list | tuple) and isinstance(saved, list | tuple) and len(reference) == len(saved):
        return type(reference)(map(convert, reference, saved))
    is_number = all(isinstance(x, int | float) for x in (reference, saved))
    if not is_number and (type(reference) is not type(saved) or isinstance(reference, dict | list | tuple)):
        raise ValueError(f"a state has {describe(saved)} instead of {describe(reference)}")
    return saved


def describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"the keys {sorted(map(str, value))}" if isinstance(value, dict) else f"a {type(value).__name__}"


def resume_schedule(group: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """Return this run's settings of a parameter group with the values that a scheduler has reached."""
    reached = {name: convert(value, saved[name]) for name, value in group.items() if isinstance(value, float | tuple)}
    if saved["initial_lr"] != group["initial_lr"]:
        reached["lr"] = saved["lr"] * group["initial_lr"] / saved["initial_lr"]
    return group | reached | {"initial_lr": group["initial_lr"]}


def convert_scheduler(scheduler: LRScheduler, saved: dict[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the saved state of a scheduler with this run's base rates."""
    state = convert(scheduler.state_dict(), saved)
    rates = {"base_lrs": [group["initial_lr"] for group in groups], "_last_lr": [group["lr"] for group in groups]}
    return state | {name: value for name, value in rates.items() if name in state}
