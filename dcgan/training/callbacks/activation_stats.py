"""Dead units, saturation and vanishing gradients, per layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from jaxtyping import Float, Int64
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from dcgan.common.arg_checks import check_int
from dcgan.gan import GAN
from dcgan.models.forward_modes import eval_mode
from dcgan.models.layers import hidden_activations, layer_name
from dcgan.training.loggers import log_metrics

DEAD_DERIVATIVE = 1e-3
SATURATED_FRACTION_OF_MAXIMUM = 0.01


class ActivationStats(L.Callback):
    """Log how many units of each hidden activation are dead or saturated, and the gradient norm of each layer.

    Activations are measured on the fixed noise, gradients are those of the last update.

    Args:
        every_n_steps: Interval in steps, >= 1.
    """

    def __init__(self, every_n_steps: int) -> None:
        check_int("log.activity_every_n_steps", every_n_steps, 1)
        self.every_n_steps = every_n_steps

    def on_train_start(self, trainer: L.Trainer, gan: GAN) -> None:
        if gan.step == 0:
            self.measure_and_log(trainer, gan)

    def on_train_batch_end(self, trainer: L.Trainer, gan: GAN, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        if self.is_due(gan.step):
            self.measure_and_log(trainer, gan)

    def is_due(self, step: int) -> bool:
        return step % self.every_n_steps == 0

    @rank_zero_only
    def measure_and_log(self, trainer: L.Trainer, gan: GAN) -> None:
        stats = {}
        for name, fractions in measure_activations(
            gan.generator, gan.discriminator, gan.fixed_z, gan.fixed_label
        ).items():
            stats[f"units_dead/{name}"], stats[f"units_saturated/{name}"] = fractions
        for network in ("generator", "discriminator"):
            for layer, norm in gradient_norms(getattr(gan, network)).items():
                stats[f"gradient_norms/{network}/{layer}"] = norm
        if not stats:  # own networks, before the first gradient
            return
        values = torch.stack(list(stats.values())).tolist()  # one transfer from the device
        log_metrics(trainer, dict(zip(map(layer_name, stats), values, strict=True)), gan.step)


@torch.no_grad()
def measure_activations(
    generator: nn.Module,
    discriminator: nn.Module,
    z: Float[Tensor, "n latent_dim"],
    label: Int64[Tensor, " n"] | None = None,
) -> dict[str, Tensor]:
    """Return `dead_and_saturated` of every hidden activation of D(G(z)), by network and layer.

    Measured in eval mode, so running statistics do not change.
    """
    stats: dict[str, dict[str, Tensor]] = {"generator": {}, "discriminator": {}}
    with (
        eval_mode(generator, discriminator),
        record_activations(generator, stats["generator"]),
        record_activations(discriminator, stats["discriminator"]),
    ):
        discriminator(generator(z, label), label)
    return {f"{network}/{name}": value for network, layers in stats.items() for name, value in layers.items()}


@contextmanager
def record_activations(network: nn.Module, stats: dict[str, Tensor]) -> Iterator[None]:
    """Within the context, forward passes store `dead_and_saturated` of each hidden activation in `stats`, by name."""
    hooks = []
    for name, activation in hidden_activations(network).items():

        def record(module: nn.Module, inputs: tuple[Tensor], name: str = name) -> None:
            stats[name] = dead_and_saturated(module, inputs[0])

        hooks.append(activation.register_forward_pre_hook(record))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def dead_and_saturated(activation: nn.Module, x: Float[Tensor, "n c *hw"]) -> Float[Tensor, "2"]:
    """Return the fraction of dead channels and the fraction of saturated values.

    A channel is dead if the derivative is below 1e-3 at every position of every image. A value is saturated if its
    derivative is below 1 % of the maximum.

    Args:
        activation: An elementwise activation.
        x: Its input.
    """
    slope = derivative(activation, x)
    maximum = derivative(activation, torch.linspace(-10, 10, 2001, device=x.device)).amax()
    dead = (slope.amax(dim=[0, *range(2, slope.dim())]) < DEAD_DERIVATIVE).float().mean()
    saturated = (slope < SATURATED_FRACTION_OF_MAXIMUM * maximum).float().mean()
    return torch.stack((dead, saturated))


@torch.enable_grad()
def derivative(activation: nn.Module, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return |da/dx| of an elementwise activation."""
    x = x.detach().requires_grad_(True)
    # clone: an in-place activation cannot change a leaf that requires gradients
    # .forward: does not call the hook of `record_activations` again
    (slope,) = torch.autograd.grad(activation.forward(x.clone()).sum(), x)
    return slope.abs()


def gradient_norms(network: nn.Module) -> dict[str, Tensor]:
    """Return the gradient norm of each layer in the last update, in forward order.

    A layer includes its normalization. Gradients vanish if the norms decrease towards the input.
    """
    layers = list(hidden_activations(network))
    gradients: dict[str, list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            layer = next((layer for layer in layers if name.startswith(f"{layer}.")), name.partition(".")[0])
            gradients.setdefault(layer, []).append(parameter.grad)
    return {layer: nn.utils.get_total_norm(tensors).float() for layer, tensors in gradients.items()}
