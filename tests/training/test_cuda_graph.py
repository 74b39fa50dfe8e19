"""CUDA graphs of the training step, with a recorder that replays on the CPU in the place of CUDA's."""

import copy
import json
from pathlib import Path

import pytest
import torch

from dcgan.common.seeding import Stream, seed_device
from dcgan.training import cuda_graph
from dcgan.training.callbacks.progress_bar import ProgressBar
from dcgan.training.cuda_graph import CUDAGraphGAN
from dcgan.training.run import records_graph
from tests.conftest import TINY, compose_config
from tests.run_files import RUN, different_tensors, weights
from tests.torture import differences
from tests.training.test_optimizer_states import ONE_CYCLE

STEPS = 9


class CPURecorder:
    """Behave like CUDA: recording runs the Python code but computes nothing, a replay writes into the same tensors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n_replays = 0
        self.gan: CUDAGraphGAN | None = None
        monkeypatch.setattr(cuda_graph, "run_on_stream", lambda stream, function: function())
        monkeypatch.setattr(cuda_graph, "record_graph", self.record_graph)
        monkeypatch.setattr(CUDAGraphGAN, "on_fit_start", lambda gan: self.on_fit_start(gan))

    def on_fit_start(self, gan: CUDAGraphGAN) -> None:
        self.gan, gan.stream = gan, None
        super(CUDAGraphGAN, gan).on_fit_start()
        gan.prepare_recording()

    def record_graph(self, stream, function):
        gan = self.gan
        raw = [optimizer.optimizer for optimizer in gan.optimizers()]
        assert all(group.get("capturable", True) for optimizer in raw for group in optimizer.param_groups)
        before = copy.deepcopy((gan.state_dict(), [optimizer.state_dict() for optimizer in raw]))
        function()
        gan.load_state_dict(before[0])
        for optimizer, state in zip(raw, before[1], strict=True):
            groups = optimizer.param_groups
            optimizer.load_state_dict(state)
            optimizer.param_groups = groups
        # on a GPU, recording uses no random numbers
        seed_device(gan.device, gan.seed, Stream.TRAINING, gan.global_rank, gan.step)
        static_outputs, parameters = gan.static_outputs, list(gan.parameters())
        static_gradients = [parameter.grad for parameter in parameters]

        def replay() -> None:
            self.n_replays += 1
            visible_gradients = [parameter.grad for parameter in parameters]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(gan, "optimizers", lambda: raw)  # Lightning must not count the steps of a replay
                function()
            for name, value in gan.static_outputs.items():
                static_outputs[name].copy_(value)
            gan.static_outputs = static_outputs
            for parameter, static, visible in zip(parameters, static_gradients, visible_gradients, strict=True):
                if static is not None:
                    static.copy_(parameter.grad)
                parameter.grad = visible

        return replay


@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["discriminator_steps=2", "ema.decay=.9"],
        ["conditional=concat", "discriminator.dropout=.3"],
        ["optimizer=sgd", "scheduler=linear"],
        ["log.every_n_steps=1"],
    ],
    ids=lambda extra: " ".join(extra) or "plain",
)
def test_replayed_training_is_bit_identical(dcgan_train, monkeypatch, extra):
    """With three epochs of 8 or 4 steps, and rows, samples and statistics at other steps than the ends of epochs."""
    overrides = [*TINY, *RUN, "evaluator=none", "max_epochs=3", "log.every_n_steps=5", "samples.steps=[0,3,7]", *extra]
    dcgan_train(*overrides, "hydra.run.dir=plain")
    recorder = CPURecorder(monkeypatch)
    dcgan_train(*overrides, "cuda_graph=true", "hydra.run.dir=replayed")
    steps = torch.load("plain/checkpoints/last.ckpt", weights_only=True)["step"]
    assert recorder.n_replays == steps - cuda_graph.WARM_UP_STEPS
    assert set(differences(Path("plain"), Path("replayed"))) == {"last.ckpt: .config.cuda_graph"}


def test_steps_with_and_without_a_lazy_penalty_are_two_recordings(dcgan_train, monkeypatch):
    """Gradient norms are logged after each step: a row must not show those of the other recording's last step."""
    settings = ["penalty=r1", "penalty.every=2", "log.every_n_steps=1", "log.activity_every_n_steps=1"]
    overrides = [*TINY, *RUN, "evaluator=none", "max_steps=17", "checkpoints.every_n_steps=5", *settings]
    dcgan_train(*overrides, "hydra.run.dir=plain")
    recorder = CPURecorder(monkeypatch)
    dcgan_train(*overrides, "cuda_graph=true", "hydra.run.dir=replayed")
    assert recorder.n_replays == 17 - 2 * cuda_graph.WARM_UP_STEPS
    assert len(recorder.gan.recordings) == 2
    assert set(differences(Path("plain"), Path("replayed"))) == {"last.ckpt: .config.cuda_graph"}


def test_one_lightning_batch_is_all_steps_until_a_callback_is_due(dcgan_train, monkeypatch):
    CPURecorder(monkeypatch)
    ends = []
    monkeypatch.setattr(
        ProgressBar, "on_train_batch_end", lambda self, trainer, gan, outputs, batch, batch_idx: ends.append(gan.step)
    )
    settings = ["evaluator=none", "log.every_n_steps=6", "log.activity_every_n_steps=100", "samples.steps=[0,2]"]
    dcgan_train(*TINY, *RUN, "cuda_graph=true", "max_steps=21", *settings)
    assert ends == [2, 4, 6, 8, 12, 16, 18, 21]  # an epoch has 8 steps; grids are saved at 2, 4, 8, 16


def test_own_callback_is_called_after_each_step_with_images(dcgan_train, monkeypatch):
    CPURecorder(monkeypatch)
    monkeypatch.delattr(ProgressBar, "is_due")
    seen = []
    monkeypatch.setattr(
        ProgressBar,
        "on_train_batch_end",
        lambda self, trainer, gan, outputs, batch, batch_idx: seen.append(
            (gan.step, batch[0].shape, outputs["loss_d"])
        ),
    )
    dcgan_train(*TINY, *RUN, "cuda_graph=true", "evaluator=none", "max_steps=6")
    assert [step for step, _, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert {shape for _, shape, _ in seen} == {(8, 1, 28, 28)}
    assert len({float(loss_d) for _, _, loss_d in seen}) == 6


def test_other_settings_that_a_scheduler_changes_are_not_replayed(dcgan_train, monkeypatch):
    """OneCycleLR changes Adam's betas, too: a recording has them as numbers."""
    one_cycle = f"scheduler={{steps:null,generator:{ONE_CYCLE},discriminator:{ONE_CYCLE}}}"
    overrides = [*TINY, *RUN, "evaluator=none", "max_steps=9", one_cycle]
    assert dcgan_train(*overrides, "hydra.run.dir=plain").code == 0
    recorder = CPURecorder(monkeypatch)
    dcgan_train(*overrides, "cuda_graph=true", "hydra.run.dir=replayed")
    assert recorder.n_replays == 1
    assert set(differences(Path("plain"), Path("replayed"))) == {"last.ckpt: .config.cuda_graph"}


def test_interrupted_and_resumed_replays_are_bit_identical(dcgan_train, monkeypatch):
    CPURecorder(monkeypatch)
    overrides = [*TINY, *RUN, "evaluator=none", "cuda_graph=true", "log.every_n_steps=5", "ema.decay=.9"]
    dcgan_train(*overrides, "max_epochs=3", "hydra.run.dir=plain")
    dcgan_train(*overrides, "max_steps=13", "hydra.run.dir=resumed")
    dcgan_train("ckpt_path=resumed/checkpoints/last.ckpt", "max_steps=null", "max_epochs=3", "trainer=cpu")
    names = ("state_dict", "optimizer_states", "loops", "step")
    assert not [
        name
        for name in differences(Path("plain"), Path("resumed"))
        if name.startswith(tuple(f"last.ckpt: .{key}" for key in names))
    ]
    assert torch.load("resumed/checkpoints/last.ckpt", weights_only=True)["step"] == 24


def test_summary_says_what_was_used(dcgan_train, monkeypatch):
    CPURecorder(monkeypatch)
    outcome = dcgan_train(*TINY, *RUN, "evaluator=none", "cuda_graph=true", "max_steps=1")
    assert "device         cpu x 1, 32-true, CUDA graph\n" in outcome.out
    summary = json.loads(Path("run/summary.json").read_text())
    assert (summary["precision"], summary["tf32"], summary["cuda_graph"]) == ("32-true", False, True)


def test_run_that_is_resumed_on_another_kind_of_device_says_so(dcgan_train):
    """Its random numbers differ."""
    dcgan_train(*TINY, *RUN, "evaluator=none", "max_steps=2")
    last = Path("run/checkpoints/last.ckpt")
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["device"] == "cpu"
    torch.save(checkpoint | {"device": "cuda"}, last)
    outcome = dcgan_train(f"ckpt_path={last}", "max_steps=3")
    note = "note: cpu after cuda: the run is no longer bit-identical to an uninterrupted one\n"
    assert (outcome.code, outcome.err) == (0, note)


@pytest.mark.parametrize(
    ("trainer", "gpus", "cuda_graph", "expected"),
    [
        ("auto", True, "null", True),
        ("gpu", True, "null", True),
        ("ddp", True, "null", True),
        ("auto", False, "null", False),
        ("cpu", True, "null", False),
        ("gpu", True, "false", False),
    ],
)
def test_graph_is_the_default_on_a_gpu(monkeypatch, trainer, gpus, cuda_graph, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus)
    assert records_graph(compose_config(f"trainer={trainer}", f"cuda_graph={cuda_graph}")) is expected


def test_missing_gpu_and_bad_values_are_rejected(dcgan_train):
    outcome = dcgan_train(*RUN, *TINY, "cuda_graph=true")
    message = "error: cuda_graph=true needs a GPU: give trainer=gpu or cuda_graph=false\n"
    assert (outcome.code, outcome.err) == (1, message)
    outcome = dcgan_train(*RUN, *TINY, "cuda_graph=yes please", "hydra.run.dir=other")
    assert outcome.err == "error: cuda_graph must be true, false or null, got 'yes please'\n"


def test_checkpoint_without_a_newer_key_can_be_resumed(dcgan_train):
    """If the key does not affect the results."""
    dcgan_train(*RUN, *TINY, "evaluator=none", "max_steps=2")
    last = Path("run/checkpoints/last.ckpt")
    checkpoint = torch.load(last, weights_only=True)
    del checkpoint["config"]["cuda_graph"]
    torch.save(checkpoint, last)
    outcome = dcgan_train(f"ckpt_path={last}", "max_steps=3")
    assert (outcome.code, outcome.err) == (0, "")


@pytest.fixture
def deterministic(monkeypatch):
    """Use deterministic algorithms: else two eager trainings differ, too, and Adam amplifies that."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["discriminator_steps=2", "ema.decay=.9"],
        ["discriminator.dropout=.3", "discriminator.spectral_norm=true"],
        ["penalty=r1", "discriminator_normalization=none"],
        ["penalty=r1_r2", "penalty.every=2", "loss=relativistic"],
        ["augmentation=diffaugment", "data.mirrored=true"],
        ["trainer.precision=bf16-mixed"],
        ["optimizer=adamw", "scheduler=cosine"],
    ],
    ids=lambda extra: " ".join(extra) or "plain",
)
def test_replayed_training_is_bit_identical_on_a_gpu(dcgan_train, deterministic, extra):
    overrides = [*TINY, "trainer=gpu", "evaluator=none", f"max_steps={STEPS}", *extra]
    dcgan_train(*overrides, "cuda_graph=false", "hydra.run.dir=plain")
    outcome = dcgan_train(*overrides, "cuda_graph=true", "hydra.run.dir=replayed")
    assert (outcome.code, outcome.err) == (0, "")
    assert different_tensors(weights("plain"), weights("replayed")) == []
