"""A step that is recorded once and replayed, with a recorder that replays on the CPU in the place of CUDA's."""

import copy
from pathlib import Path

import pytest
import torch

from dcgan import recorded
from dcgan.recorded import RecordedGAN
from dcgan.seal import seal
from tests.conftest import TINY
from tests.runs import RUN, weights
from tests.torture import differences

STEPS = 9


class OnCPU:
    """Like CUDA's: at the recording Python runs and nothing is computed; at a replay the other way round, into the
    tensors of the recording."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.replays = 0
        self.gan: RecordedGAN | None = None
        monkeypatch.setattr(recorded, "on_stream", lambda side, step: step())
        monkeypatch.setattr(recorded, "recorded", self.recorded)
        monkeypatch.setattr(RecordedGAN, "on_fit_start", lambda gan: self.start(gan))

    def start(self, gan: RecordedGAN) -> None:
        self.gan, gan.side = gan, None
        super(RecordedGAN, gan).on_fit_start()

    def recorded(self, side, step):
        gan = self.gan
        raw = [optimizer.optimizer for optimizer in gan.optimizers()]
        assert all(group["capturable"] for optimizer in raw for group in optimizer.param_groups)
        before = copy.deepcopy((gan.state_dict(), [optimizer.state_dict() for optimizer in raw]))
        step()
        gan.load_state_dict(before[0])
        for optimizer, state in zip(raw, before[1], strict=True):
            optimizer.load_state_dict(state)
        gan.seed_step()  # on a GPU, recording draws nothing
        outputs = gan.outputs

        def replay() -> None:
            self.replays += 1
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(gan, "optimizers", lambda: raw)  # Lightning notices nothing of a replay
                step()
            for name, value in gan.outputs.items():
                outputs[name].copy_(value)
            gan.outputs = outputs

        return replay


@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["discriminator_steps=2", "ema.decay=.9"],
        ["conditional=concat", "discriminator.dropout=.3"],
    ],
    ids=lambda extra: " ".join(extra) or "plain",
)
def test_a_replayed_training_is_the_training(dcgan_train, monkeypatch, extra):
    overrides = [*RUN, *TINY, "evaluator=none", f"max_steps={STEPS}", *extra]
    dcgan_train(*overrides, "hydra.run.dir=plain")
    on_cpu = OnCPU(monkeypatch)
    dcgan_train(*overrides, "cuda_graph=true", "hydra.run.dir=replayed")
    assert on_cpu.replays == STEPS - recorded.WARM_UP
    assert set(differences(Path("plain"), Path("replayed"))) == {"last.ckpt: .config.cuda_graph"}


def test_what_a_recording_needs_is_said(dcgan_train):
    outcome = dcgan_train(*RUN, *TINY, "cuda_graph=true")
    sentence = "error: cuda_graph=true needs a GPU: give trainer=gpu or cuda_graph=false\n"
    assert (outcome.code, outcome.err) == (1, sentence)
    outcome = dcgan_train(*RUN, *TINY, "cuda_graph=yes please", "hydra.run.dir=other")
    assert outcome.err == "error: cuda_graph must be true or false, got 'yes please'\n"


def test_a_training_goes_on_from_a_checkpoint_that_is_older_than_a_setting(dcgan_train):
    """Where the setting is about how a run is done, not what it computes."""
    dcgan_train(*RUN, *TINY, "evaluator=none", "max_steps=2")
    last = Path("run/checkpoints/last.ckpt")
    checkpoint = torch.load(last, weights_only=True)
    del checkpoint["config"]["cuda_graph"]
    torch.save(checkpoint, last)
    seal(last)
    outcome = dcgan_train(f"ckpt_path={last}", "max_steps=3")
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["discriminator_steps=2", "ema.decay=.9"],
        ["discriminator.dropout=.3", "discriminator.spectral_norm=true"],
        ["penalty=r1", "discriminator_normalization=none"],
        ["trainer.precision=bf16-mixed"],
    ],
    ids=lambda extra: " ".join(extra) or "plain",
)
def test_a_gpu_replays_the_training(dcgan_train, extra):
    overrides = [*TINY, "trainer=gpu", "trainer.precision=32-true", "evaluator=none", f"max_steps={STEPS}", *extra]
    dcgan_train(*overrides, "hydra.run.dir=plain")
    outcome = dcgan_train(*overrides, "cuda_graph=true", "hydra.run.dir=replayed")
    assert (outcome.code, outcome.err) == (0, "")
    replayed = weights("replayed")
    for name, value in weights("plain").items():
        torch.testing.assert_close(replayed[name], value, rtol=1e-3, atol=1e-4, msg=name)
