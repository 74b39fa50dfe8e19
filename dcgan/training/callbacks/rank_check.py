"""Check, before the first step, that all ranks of a run train the same."""

from typing import TYPE_CHECKING

import lightning as L

from dcgan.common.distributed import all_gather
from dcgan.common.errors import CollectiveError

if TYPE_CHECKING:
    from dcgan.gan import GAN


class RankConsistencyCheck(L.Callback):
    """Reject ranks that differ in their data or their step: they would wait for each other forever.

    Raises:
        CollectiveError: On all ranks, naming what differs.
    """

    def on_train_start(self, trainer: L.Trainer, gan: "GAN") -> None:
        own = {
            "images": trainer.datamodule.n_images,
            "batches per epoch": int(trainer.num_training_batches),
            "completed steps": gan.step,
        }
        ranks = all_gather(trainer, own)
        for name in own:
            counts = [rank[name] for rank in ranks]
            if len(set(counts)) > 1:
                raise CollectiveError(
                    f"the ranks differ in their {name} ({', '.join(map(str, counts))}): give all ranks the same data "
                    "and the same run folder"
                )
