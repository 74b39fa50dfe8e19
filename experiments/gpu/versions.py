"""Part 0: versions, the seconds of the imports, and the data."""

import time

from experiments.gpu.context import CheckContext, parse_context


def main() -> None:
    context: CheckContext = parse_context()
    started = time.perf_counter()
    import torch

    context.record("import torch", f"{time.perf_counter() - started:.1f} s")
    available = torch.cuda.is_available()
    context.record("torch finds a GPU", available, "True", available or not context.on_gpu)
    if available:
        context.record("GPU in torch", torch.cuda.get_device_name())
        context.record("CUDA", torch.version.cuda)
        context.record("cuDNN", torch.backends.cudnn.version())
        context.record("NCCL", ".".join(map(str, torch.cuda.nccl.version())))
    from dcgan.common.instantiate import build
    from dcgan.data.datamodule import BaseDataModule
    from experiments.configs import compose_config

    data = build(compose_config(), "data", BaseDataModule)
    context.record("import torch, lightning and the data module", f"{time.perf_counter() - started:.1f} s")
    started = time.perf_counter()
    data.prepare_data()
    data.setup("fit")
    n = len(data.train_images)
    context.record("training images", n, "60000", n == 60_000)
    context.record("unpack and read the data", f"{time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
