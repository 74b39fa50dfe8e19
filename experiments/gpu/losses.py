"""Part 3: the losses of the first steps on the CPU and on the GPU, with the same weights, images and noise."""

from typing import Any

import torch

from experiments.bench import build_standalone_gan
from experiments.configs import compose_config
from experiments.gpu.context import parse_context

STEPS = 10
FIRST, LAST = 1e-3, 0.05  # allowed relative differences of the losses


def main() -> None:
    context = parse_context()
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    rng = torch.Generator().manual_seed(0)
    config = compose_config(*context.sizes)
    n, size = config.data.batch_size, config.data.image_size
    batches = [
        (torch.rand(n, 1, size, size, generator=rng) * 2 - 1, torch.randn(n, config.model.latent_dim, generator=rng))
        for _ in range(STEPS)
    ]
    losses: dict[str, list[float]] = {}
    for device in ("cpu", context.device):
        gan: Any = build_standalone_gan(config, torch.device(device))
        values: list[float] = []
        for images, z in batches:
            gan.generator.sample_z = lambda n, target, rng=None, z=z: z.to(target)
            outputs = gan.update(images.to(device), None)
            values += [float(outputs["loss_d"]), float(outputs["loss_g"])]
        losses[device] = values
    differences = [abs(a - b) / abs(a) for a, b in zip(losses["cpu"], losses[context.device], strict=True)]
    for name, part, limit in (("first step", differences[:2], FIRST), (f"first {STEPS} steps", differences, LAST)):
        value = max(part)
        context.record(f"relative difference of the losses, {name}", f"{value:.1e}", f"<= {limit:.0e}", value <= limit)


if __name__ == "__main__":
    main()
