"""One command, from the command line to the files of its run folder."""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dcgan import cli
from tests.conftest import SMALL, TINY, options

RUN = ["trainer=cpu", "hydra.run.dir=run", "log.every_n_steps=2", "log.activity_every_n_steps=4"]


def weights(run: str | Path = "run") -> dict[str, torch.Tensor]:
    return torch.load(Path(run) / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def differing(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def events(run: str | Path = "run") -> EventAccumulator:
    accumulator = EventAccumulator(str(run), size_guidance={"tensors": 0, "scalars": 0, "images": 0})
    return accumulator.Reload()


def test_a_run_leaves_all_that_a_person_looks_for(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=7", "ema.decay=.9", "samples.steps=[0,1,5]")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""  # no warning that is ours to mend
    run = Path("run")

    # the terminal: one summary, progress, where to look
    assert outcome.out.count("parameters") == 2
    assert "step 7/7" in outcome.out
    assert "run/samples/step_000007.png" in outcome.out
    assert "tensorboard --logdir run" in outcome.out

    # pictures: at the steps asked for and at the end
    assert [p.name for p in sorted((run / "samples").iterdir())] == [f"step_{s:06d}.png" for s in (0, 1, 5, 7)]
    with Image.open(run / "samples" / "step_000007.png") as picture:
        assert picture.size[0] == picture.size[1] >= 400

    # metrics.csv: a row for each step that logged, means of both losses, gradient norms, speed, activity
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [0, 2, 4, 6, 7]
    assert all(float(row["train/loss_d"]) > 0 for row in rows[1:])
    assert 0 < float(rows[1]["train/d_real"]) < 1
    assert [bool(row["units_dead/generator/start.hidden"]) for row in rows] == [True, False, True, False, False]

    # summary.json
    summary = json.loads((run / "summary.json").read_text())
    assert summary["step"] == 7
    assert summary["images_per_second"] > 0
    assert set(summary["versions"]) == {
        "dcgan",
        "python",
        "torch",
        "torchvision",
        "lightning",
        "hydra-core",
        "tensorboard",
    }
    assert summary["metrics"]["loss_d"] == pytest.approx(float(rows[-1]["train/loss_d"]))

    # the checkpoint: Lightning's dict, safe to read, both networks, the average, the fixed noise, the config
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert {name.partition(".")[0] for name in checkpoint["state_dict"]} == {
        "generator",
        "discriminator",
        "ema",
        "fixed_z",
    }
    assert checkpoint["step"] == 7
    assert checkpoint["global_step"] == 14
    assert checkpoint["config"]["model"]["base_channels"] == 4
    assert checkpoint["choices"]["model"] == "transposed_conv"
    assert sorted(p.name for p in run.iterdir() if "tfevents" not in p.name) == [
        ".hydra",
        "checkpoints",
        "metrics.csv",
        "samples",
        "summary.json",
    ]


def test_tensorboard_shows_curves_images_histograms_text_graph_and_hyperparameters(dcgan_train):
    assert dcgan_train(*TINY, *RUN, "max_steps=6", "samples.steps=[0,2]").code == 0
    log = events()
    tags = log.Tags()
    for name in ("loss_d", "loss_g", "d_real", "d_fake"):
        assert [event.step for event in log.Scalars(f"train/{name}")] == [2, 4, 6]
    assert {"train/gradient_norm_d", "train/gradient_norm_g", "train/images_per_second"} <= set(tags["scalars"])
    for layer in ("generator/start.hidden", "generator/doublings.0", "discriminator/halvings.0"):
        assert [event.step for event in log.Scalars(f"units_dead/{layer}")] == [0, 4]
        assert [event.step for event in log.Scalars(f"units_saturated/{layer}")] == [0, 4]
    # scalars and images share the step axis
    assert [event.step for event in log.Images("samples/fixed_noise")] == [0, 2, 4, 6]
    assert [event.step for event in log.Images("samples/fresh_noise")] == [0, 2, 4, 6]
    assert [event.step for event in log.Images("real")] == [0]
    assert set(tags["histograms"]) == {"discriminator/real_logits", "discriminator/fake_logits"}
    assert "config/text_summary" in tags["tensors"]
    assert tags["graph"]
    assert "_hparams_/session_start_info" in log.summary_metadata
    assert "_hparams_/session_end_info" in log.summary_metadata


def test_every_run_has_the_same_hyperparameter_keys(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    dcgan_train(
        *SMALL, *RUN, "max_steps=1", "hydra.run.dir=other", "model=keras_mnist", "activation=gelu", "loss=hinge"
    )
    one, other = (json.loads(Path(run, "summary.json").read_text())["hyperparameters"] for run in ("run", "other"))
    assert list(one) == list(other)
    assert (one["model"], other["model"]) == ("transposed_conv", "keras_mnist")
    assert (one["model.hidden_width"], other["model.hidden_width"]) == (16, "-")


def test_a_step_is_one_batch_everywhere(dcgan_train):
    """64 images, batches of 8, two epochs: 16 steps; with three D updates a step 2 steps an epoch."""
    assert "step 16/16" in dcgan_train(*TINY, *RUN, "max_epochs=2").out
    outcome = dcgan_train(*TINY, *RUN, "max_epochs=2", "discriminator_steps=3", "hydra.run.dir=three")
    assert "step 4/4" in outcome.out
    outcome = dcgan_train(*TINY, *RUN, "max_steps=5", "discriminator_steps=3", "hydra.run.dir=five")
    assert "step 5/5" in outcome.out
    assert torch.load("five/checkpoints/last.ckpt", weights_only=True)["step"] == 5


def test_samples_are_drawn_at_each_doubling_after_the_last_given_step():
    from dcgan.callbacks import Samples

    samples = Samples(Path("run"), [0, 1, 100])
    assert [step for step in range(1700) if samples.due(step)] == [0, 1, 100, 200, 400, 800, 1600]


# --- what the weights depend on


def test_same_seed_same_weights_bit_for_bit_another_seed_others(dcgan_train):
    for run, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert dcgan_train(*TINY, *RUN, "max_steps=5", f"seed={seed}", f"hydra.run.dir={run}").code == 0
    assert differing(weights("a"), weights("b")) == []
    assert "generator.to_image.weight" in differing(weights("a"), weights("c"))


def test_weights_depend_on_no_interval_and_not_on_how_long_the_run_is(dcgan_train):
    extra = [*TINY, "trainer=cpu", "ema.decay=.9", "discriminator.dropout=.3"]
    dcgan_train(*extra, "max_steps=4", "hydra.run.dir=plain")
    dcgan_train(
        *extra, "max_steps=4", "hydra.run.dir=busy", "log.every_n_steps=1", "log.activity_every_n_steps=1",
        "samples.steps=[0,1,2,3,4]", "checkpoints.every_n_steps=1",
    )  # fmt: skip
    dcgan_train(*extra, "max_epochs=1", "hydra.run.dir=long")  # 8 steps, resumed below at 4: not at all
    assert differing(weights("plain"), weights("busy")) == []
    dcgan_train(*extra, "max_steps=8", "hydra.run.dir=eight")
    assert differing(weights("long"), weights("eight")) == []


# --- going on


def test_a_resumed_run_of_pictures_read_by_workers_ends_where_the_uninterrupted_one_does(dcgan_train):
    Path("pictures").mkdir()
    for i in range(32):
        Image.new("L", (8, 8), 8 * i).save(f"pictures/{i}.png")
    common = [*TINY, "trainer=cpu", "data=image_folder", "data.root=pictures", "data.image_size=8", "data.workers=1"]
    dcgan_train(*common, "max_steps=7", "hydra.run.dir=whole")
    dcgan_train(*common, "max_steps=6", "hydra.run.dir=run")  # in the middle of the second epoch
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=7")
    assert outcome.err == ""
    assert differing(weights("whole"), weights("run")) == []


@pytest.mark.parametrize("stop", [3, 8])  # in the middle of an epoch, and at its end
@pytest.mark.parametrize("extra", [["ema.decay=.9", "discriminator.dropout=.3"], ["discriminator_steps=2"]])
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(dcgan_train, stop, extra):
    common = [*TINY, "trainer=cpu", "log.every_n_steps=1", *extra]
    dcgan_train(*common, "max_steps=12", "hydra.run.dir=whole")
    dcgan_train(*common, f"max_steps={stop}", "hydra.run.dir=run")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=12")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert differing(weights("whole"), weights("run")) == []
    with Path("run/metrics.csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(13))
    assert [event.step for event in events().Scalars("train/loss_d")] == list(range(1, 13))
    assert not Path("runs").exists()


def test_a_resumed_run_may_not_change_the_maths_but_may_repeat_it(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=2", "loss=hinge")
    resume = ["ckpt_path=run/checkpoints/last.ckpt", "max_steps=3"]
    before = Path("run/.hydra/config.yaml").read_text()
    for override in ("loss=minimax", "optimizer.lr=1e-3", "seed=3", "data.batch_size=4", "experiment=demo", "+x=1"):
        outcome = dcgan_train(*resume, override)
        assert outcome.code == 1
        assert "when a run goes on" in outcome.err, outcome.err
        assert outcome.err.count("\n") == 1
    repeated = ["loss=hinge", "data.batch_size=8", "discriminator=strided_conv", "data=mnist"]
    outcome = dcgan_train(*resume, *repeated, "log.every_n_steps=1", "trainer=auto")
    assert outcome.code == 0, outcome.err
    assert Path("run/.hydra/config.yaml").read_text() == before
    assert (
        torch.load("run/checkpoints/last.ckpt", weights_only=True)["config"]["loss"]["_target_"] == "dcgan.losses.Hinge"
    )


def test_a_resumed_run_can_write_elsewhere(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=2")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=3", "hydra.run.dir=elsewhere")
    assert outcome.code == 0, outcome.err
    assert torch.load("elsewhere/checkpoints/last.ckpt", weights_only=True)["step"] == 3
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["step"] == 2
    assert "base_channels: 4" in Path("elsewhere/.hydra/config.yaml").read_text()


def test_a_new_run_does_not_write_over_an_old_one(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    before = weights()
    outcome = dcgan_train(*TINY, *RUN, "max_steps=2", "seed=1")
    assert outcome.code == 1
    assert "run already holds checkpoints: go on with ckpt_path=" in outcome.err
    assert differing(before, weights()) == []
    assert "seed: 0" in Path("run/.hydra/config.yaml").read_text()
    # nor does a run that goes on from somewhere else
    dcgan_train(*TINY, *RUN, "max_steps=1", "hydra.run.dir=other")
    outcome = dcgan_train("ckpt_path=other/checkpoints/last.ckpt", "hydra.run.dir=run", "max_steps=2")
    assert outcome.code == 1
    assert differing(before, weights()) == []


def test_a_run_that_was_killed_before_its_summary_gets_one(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=3")
    summary = json.loads(Path("run/summary.json").read_text())
    Path("run/summary.json").unlink()
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt").code == 0
    again = json.loads(Path("run/summary.json").read_text())
    assert again["metrics"] == summary["metrics"]
    assert again["step"] == 3


def test_curves_of_a_run_that_goes_on_from_its_start_are_not_doubled(dcgan_train, monkeypatch):
    """As after a kill before the first checkpoint that was due."""
    from dcgan.checkpointing import Checkpoints

    save = Checkpoints.save
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", lambda self, trainer, gan: gan.step or save(self, trainer, gan))
        dcgan_train(*TINY, *RUN, "samples.steps=[0]", "max_steps=8", "log.every_n_steps=1")
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["step"] == 0
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=1")
    assert outcome.code == 0, outcome.err
    assert [event.step for event in events().Scalars("train/loss_d")] == [1]
    assert [event.step for event in events().Images("samples/fixed_noise")] == [0, 1]
    with Path("run/metrics.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "1"]


def test_a_folder_with_an_equals_sign_can_be_gone_on_from(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1", "hydra.run.dir=sweep/seed=0")
    outcome = dcgan_train("ckpt_path=sweep/seed=0/checkpoints/last.ckpt", "max_steps=2")
    assert outcome.code == 0, outcome.err
    assert torch.load("sweep/seed=0/checkpoints/last.ckpt", weights_only=True)["step"] == 2


# --- mistakes


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model=nonsense"], "Could not find 'model/nonsense'"),
        (["nonsense=1"], "Could not override 'nonsense'"),
        (["model.nonsense=1"], "Could not override 'model.nonsense'"),
        (["optimizer.lr=-1"], "lr must be a number in (0, inf), got -1 (config key optimizer.discriminator)"),
        (["model.latent_dim=0"], "latent_dim must be an integer >= 1, got 0 (config key model)"),
        (["data.batch_size=65"], "one step needs 65 images (data.batch_size 65 x 1 D updates x 1 processes), but"),
        (["data.image_size=30"], "image_size must be 4, 5, 6 or 7 doubled at least once"),
        (["trainer=gpu"], "No supported gpu backend found"),
        (["max_steps=0"], "max_steps must be an integer >= 1, got 0"),
        (["max_epochs=0"], "max_epochs must be an integer >= 1, got 0"),
        (["seed=-1"], "seed must be an integer >= 0, got -1"),
        (["log.every_n_steps=0"], "log.every_n_steps must be an integer >= 1, got 0"),
        (["checkpoints.every_n_minutes=0"], "checkpoints.every_n_minutes must be a number in (0, inf), got 0"),
        (["penalty=r1", "discriminator_normalization=batch"], "penalty needs a discriminator without batch norm"),
        (["data.root=nowhere"], "MNIST is not in nowhere/MNIST/raw"),
        (["data=image_folder", "data.root=nowhere"], "there is no folder nowhere"),
        (["hydra.run.dir=/dev/null/run"], "/dev/null"),
        (["optimizer.betas=0.5"], "betas must be two numbers in [0, 1), got 0.5"),
        (["samples.steps=5"], "samples.steps must be a list of steps, got 5"),
        (["samples.n=0"], "samples.n must be an integer >= 1, got 0"),
        (["+model.foo=1"], "unexpected keyword argument 'foo' (config key model)"),
        (["trainer.precision=bf16-true"], "trainer.precision must be one of 32-true, bf16-mixed"),
        (["data.batch_size=1"], "data.batch_size must be at least 2 with batch norm"),
        (["ckpt_path=nowhere/checkpoints/last.ckpt"], "there is no checkpoint nowhere/checkpoints/last.ckpt"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_ends_in_a_sentence_and_not_in_a_traceback(dcgan_train, monkeypatch, overrides, sentence):
    def no_network(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr("socket.create_connection", no_network)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    trainer = [] if "trainer=gpu" in overrides else ["trainer=cpu"]
    outcome = dcgan_train(*TINY, *trainer, "hydra.run.dir=run", "max_epochs=1", *overrides)
    assert outcome.code == 1
    assert sentence in outcome.err, outcome.err
    assert "Traceback" not in outcome.err
    assert "step 8/8" not in outcome.out
    assert not Path("nowhere").exists() or "MNIST" in sentence


def test_a_damaged_checkpoint_is_named(dcgan_train):
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/checkpoints/last.ckpt").write_bytes(b"not a checkpoint")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt")
    assert outcome.code == 1
    assert outcome.err.startswith("error: run/checkpoints/last.ckpt cannot be read as a checkpoint")
    torch.save({"state_dict": {}}, "run/checkpoints/last.ckpt")
    outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt")
    assert "is not a checkpoint of this version of dcgan" in outcome.err


@pytest.mark.parametrize("data", ["digits", "image_folder"])
def test_every_other_kind_of_data_trains(dcgan_train, data):
    Path("pictures").mkdir()
    for i in range(9):
        Image.new("RGB", (20, 30), (20 * i, 0, 0)).save(f"pictures/{i}.jpg")
    folder = (
        ["data.root=pictures", "data.workers=1", "data.image_size=8"] if data == "image_folder" else ["data.limit=9"]
    )
    outcome = dcgan_train(*TINY, *RUN, "max_epochs=2", f"data={data}", *folder)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert "step 2/2" in outcome.out


def test_a_broken_picture_met_by_a_worker_process_is_named(dcgan_train):
    folder = Path("pictures")
    folder.mkdir()
    for i in range(8):
        Image.new("L", (30, 30)).save(folder / f"{i}.png")
    (folder / "5.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    outcome = dcgan_train(
        *TINY, "trainer=cpu", "hydra.run.dir=run", "max_steps=1", "data=image_folder", "data.root=pictures",
        "data.workers=1", "samples.n=2", "data.image_size=8",
    )  # fmt: skip
    assert outcome.code == 1
    assert "the picture pictures/5.png cannot be read" in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(dcgan_train):
    outcome = dcgan_train(*TINY, *RUN, "max_steps=200", "optimizer.lr=1e30", "checkpoints.every_n_steps=1")
    assert outcome.code == 1
    assert "training stopped: at step" in outcome.err
    assert outcome.err.count("\n") == 1
    assert not Path("run/summary.json").exists()
    kept = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert kept["step"] < 200
    assert f"run/checkpoints/last.ckpt holds the last good state, of step {kept['step']}" in outcome.err
    assert all(value.isfinite().all() for value in kept["state_dict"].values() if value.is_floating_point())


def test_the_last_good_state_is_saved_where_no_checkpoint_was_due(dcgan_train, monkeypatch):
    monkeypatch.setattr("dcgan.checkpointing.REMEMBER_EVERY_N_STEPS", 3)
    from dcgan.losses import NonSaturating

    generator, calls = NonSaturating.generator, []

    def breaks_at_step_8(self, fake_logits):
        calls.append(1)
        return generator(self, fake_logits) * (torch.nan if len(calls) == 8 else 1)

    monkeypatch.setattr(NonSaturating, "generator", breaks_at_step_8)
    outcome = dcgan_train(*TINY, *RUN, "max_epochs=3", "log.every_n_steps=5")
    assert outcome.code == 1
    assert "at step 8 loss_d was" in outcome.err
    assert "last good state, of step 6" in outcome.err
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["step"] == 6
    monkeypatch.setattr(NonSaturating, "generator", generator)
    assert dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_epochs=1").code == 0
    dcgan_train(*TINY, *RUN, "max_epochs=1", "hydra.run.dir=whole")
    assert differing(weights("whole"), weights("run")) == []


def test_the_step_of_the_first_bad_loss_is_named():
    from dcgan.callbacks import refuse_nonfinite
    from dcgan.checks import UserError

    good, bad = torch.tensor([1.0, 1, 1, 1]), torch.tensor([1.0, 1, torch.nan, torch.inf])
    refuse_nonfinite(100, good, good)
    with pytest.raises(UserError, match="at step 103 loss_d was nan and loss_g 1"):
        refuse_nonfinite(100, bad, good)


def test_a_full_disk_is_said_in_a_sentence_and_the_old_checkpoint_is_kept(dcgan_train, monkeypatch):
    import resource
    import signal

    dcgan_train(*TINY, *RUN, "max_steps=1")
    before = weights()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error instead of a kill
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        outcome = dcgan_train("ckpt_path=run/checkpoints/last.ckpt", "max_steps=2", "samples.steps=[]")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert outcome.code == 1
    assert "cannot be written" in outcome.err
    assert "Traceback" not in outcome.err
    assert differing(before, weights()) == []
    assert [p.name for p in Path("run/checkpoints").iterdir()] == ["last.ckpt"]


# --- help


def test_help_names_every_group_and_every_option(dcgan_train):
    outcome = dcgan_train("--help")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert len(lines) < 50
    assert max(map(len, lines)) <= 120
    for group in (path.name for path in cli.CONF.iterdir() if path.is_dir() and path.name != "base"):
        (at,) = [i for i, line in enumerate(lines) if line.startswith(f"  {group} ")]
        if not group.startswith("discriminator_"):  # they refer to the generator's lists
            described = " ".join(lines[at : at + 2])
            for option in options(group):
                assert option in described, f"{group}={option} is not in --help"
