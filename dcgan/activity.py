"""How alive the hidden activations are: what the tutorials call dying ReLUs and vanishing gradients, as figures."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dcgan.networks import hidden_activations
from dcgan.passes import evaluating

DEAD_DERIVATIVE = 1e-3
SATURATED_SHARE_OF_MAXIMUM = 0.01


@torch.enable_grad()
def derivative(activation: nn.Module, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """|da/dx| of an elementwise activation."""
    x = x.detach().requires_grad_(True)
    # a copy, because the activation may work in place, which a leaf that needs gradients does not allow;
    # .forward, because `watched` hooks the call
    (slope,) = torch.autograd.grad(activation.forward(x.clone()).sum(), x)
    return slope.abs()


def dead_and_saturated(activation: nn.Module, x: Float[Tensor, "n c *hw"]) -> Float[Tensor, "2"]:
    """Of pre-activations x: the share of channels that are dead, and the share of all values that saturate.

    Dead: the derivative is below 1e-3 at every place of every image. Saturated: it is below 1 % of its maximum.
    """
    slope = derivative(activation, x)
    maximum = derivative(activation, torch.linspace(-10, 10, 2001, device=x.device)).amax()
    dead = (slope.amax(dim=[0, *range(2, slope.dim())]) < DEAD_DERIVATIVE).float().mean()
    saturated = (slope < SATURATED_SHARE_OF_MAXIMUM * maximum).float().mean()
    return torch.stack((dead, saturated))


@contextmanager
def watched(network: nn.Module, found: dict[str, Tensor]) -> Iterator[None]:
    """Forward passes in here put `dead_and_saturated` of each hidden activation into `found`, by its name."""
    hooks = []
    for name, activation in hidden_activations(network).items():

        def look(module: nn.Module, inputs: tuple[Tensor], name: str = name) -> None:
            found[name] = dead_and_saturated(module, inputs[0])

        hooks.append(activation.register_forward_pre_hook(look))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def gradient_norms(network: nn.Module) -> dict[str, Tensor]:
    """Of the last update: the norm of each layer's gradients, its normalisation's included, by the layer's name, in the
    order of the data. Where it falls from layer to layer on the way back, gradients vanish."""
    layers = list(hidden_activations(network))
    gradients: dict[str, list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            layer = next((layer for layer in layers if name.startswith(f"{layer}.")), name.partition(".")[0])
            gradients.setdefault(layer, []).append(parameter.grad)
    return {layer: nn.utils.get_total_norm(found).float() for layer, found in gradients.items()}


@torch.no_grad()
def measure(
    generator: nn.Module,
    discriminator: nn.Module,
    z: Float[Tensor, "n latent_dim"],
    label: Int64[Tensor, " n"] | None = None,
) -> dict[str, Tensor]:
    """(dead, saturated) of every hidden activation on the images of z, in eval mode: no statistics move."""
    found: dict[str, dict[str, Tensor]] = {"generator": {}, "discriminator": {}}
    with (
        evaluating(generator, discriminator),
        watched(generator, found["generator"]),
        watched(discriminator, found["discriminator"]),
    ):
        discriminator(generator(z, label), label)
    return {f"{network}/{name}": value for network, layers in found.items() for name, value in layers.items()}
