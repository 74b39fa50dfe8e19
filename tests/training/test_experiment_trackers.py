"""Trackers get what a run logs; all work offline."""

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.run_files import RUN, events

SHORT = [*TINY, *RUN, "evaluator=none", "samples.steps=[0,2]", "max_steps=2"]


def test_wandb_offline_and_its_run_is_continued(dcgan_train, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    outcome = dcgan_train(*SHORT, "logger=wandb", "logger.wandb.offline=true")
    assert outcome.code == 0, outcome.err
    identity = json.loads(Path("run/.hydra/wandb_id.json").read_text())["id"]
    (folder,) = Path("run/wandb").glob("offline-run-*")
    assert folder.name.endswith(identity)
    assert {path.name.partition("_")[0] for path in (folder / "files/media/images").iterdir()} == {"real", "samples"}
    content = next(folder.glob("*.wandb")).read_bytes()
    for text in (b"train/loss_d", b"model.base_channels", b"discriminator/fake_logits"):
        assert text in content
    outcome = dcgan_train(
        "ckpt_path=run/checkpoints/last.ckpt", "max_steps=4", "logger=wandb", "logger.wandb.offline=true"
    )
    assert outcome.code == 0, outcome.err
    assert json.loads(Path("run/.hydra/wandb_id.json").read_text())["id"] == identity
    assert all(path.name.endswith(identity) for path in Path("run/wandb").glob("offline-run-*"))


def test_mlflow_in_local_files_and_its_run_is_continued(dcgan_train):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    for more in (["max_steps=2", *SHORT], ["ckpt_path=run/checkpoints/last.ckpt", "max_steps=4"]):
        outcome = dcgan_train(*more, "logger=mlflow")
        assert outcome.code == 0, outcome.err
    client = MlflowClient(f"file:{Path('run/mlruns').resolve()}")
    (run,) = client.search_runs([client.get_experiment_by_name("dcgan").experiment_id])
    assert run.info.run_id == json.loads(Path("run/.hydra/mlflow_id.json").read_text())["id"]
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss_d")] == [2, 4]
    assert run.data.params["model.base_channels"] == "4"
    assert client.list_artifacts(run.info.run_id, "images")


def test_trackio_in_local_files(dcgan_train, monkeypatch, tmp_path):
    trackio = pytest.importorskip("trackio")
    outcome = dcgan_train(*SHORT, "logger=trackio")
    assert outcome.code == 0, outcome.err
    assert "run" in [run.name for run in trackio.Api().runs("dcgan")]


def test_several_loggers_at_once_or_none(dcgan_train):
    assert dcgan_train(*SHORT, "logger=[tensorboard,mlflow]").code == 0
    assert events().Scalars("train/loss_d")
    assert Path("run/mlruns").is_dir()
    assert dcgan_train(*SHORT, "logger=none", "hydra.run.dir=none").code == 0
    assert not list(Path("none").glob("events*"))
    assert Path("none/metrics.csv").exists()


@pytest.mark.parametrize(("logger", "package"), [("wandb", "wandb"), ("mlflow", "mlflow"), ("trackio", "trackio")])
def test_missing_package_ends_in_a_sentence(dcgan_train, monkeypatch, logger, package):
    monkeypatch.setitem(sys.modules, package, None)
    for name in ("_WANDB_AVAILABLE", "_MLFLOW_AVAILABLE"):
        module = "wandb" if "WANDB" in name else "mlflow"
        monkeypatch.setattr(f"lightning.pytorch.loggers.{module}.{name}", False)
    outcome = dcgan_train(*SHORT, f"logger={logger}")
    assert outcome.code == 1
    assert f"logger={logger} needs {package}, which is not installed: pip install 'dcgan[{logger}]'" in outcome.err
