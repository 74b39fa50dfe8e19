"""Several processes: each computes the gradients of its own batch, and all step with their mean."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed
from torch.optim import Optimizer

from dcgan.training.rank_watch import RankWatch, exit_if_alone


class GradientAveraging(DDPStrategy):
    """DDP without its wrapper: one all-reduce per optimizer step, of the gradients of the network that is stepped.

    The wrapper would reduce the gradients of both networks in each backward pass, although a GAN steps one of them at a
    time, and search the graph for unused parameters. NCCL's all-reduce can be recorded in a CUDA graph.
    """

    watch: RankWatch | None = None

    def setup_distributed(self) -> None:
        """Connect the ranks. With several nodes, watch that none is lost."""
        cluster = self.cluster_environment
        assert cluster is not None
        with exit_if_alone(f"{cluster.main_address}:{cluster.main_port}"):
            super().setup_distributed()
        if self.num_nodes > 1:
            self.watch = RankWatch()

    def teardown(self) -> None:
        if self.watch is not None:
            self.watch.stop()
        super().teardown()

    def configure_ddp(self) -> None:
        """Give all ranks the weights of rank 0. Each rank keeps its own running statistics."""
        assert self.model is not None
        flat = FlatTensors([parameter.data for parameter in self.model.parameters()])
        flat.gather()
        distributed.broadcast(flat.vector, src=0)
        flat.scatter()

    def optimizer_step(  # type: ignore[override]
        self, optimizer: Optimizer, closure: Callable[[], Any], model: torch.nn.Module | None = None
    ) -> Any:
        self.average_gradients(optimizer)
        return super().optimizer_step(optimizer, closure, model)

    def average_gradients(self, optimizer: Optimizer) -> None:
        """Replace the gradients of the optimizer's parameters by their means over the ranks."""
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = FlatTensors(gradients)
        flat.gather()
        distributed.all_reduce(flat.vector)
        flat.vector.div_(self.world_size)
        flat.scatter()


class FlatTensors:
    """Tensors of one type and device, and a vector for their values, so that one collective serves all of them."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.tensors = tensors
        self.vector = torch.empty(sum(map(torch.numel, tensors)), dtype=tensors[0].dtype, device=tensors[0].device)
        parts = self.vector.split([tensor.numel() for tensor in tensors])
        # in the memory format of each tensor, which is then copied as one block
        self.views = [part.as_strided(t.shape, t.stride()) for part, t in zip(parts, tensors, strict=True)]

    def gather(self) -> None:
        """Copy the tensors to the vector."""
        torch._foreach_copy_(self.views, self.tensors)

    def scatter(self) -> None:
        """Copy the vector to the tensors."""
        torch._foreach_copy_(self.tensors, self.views)
