import json
from pathlib import Path

from omegaconf import OmegaConf
from tensorboard.plugins.hparams.api_pb2 import Experiment, HParamInfo

from dcgan.training.callbacks.run_summary import hyperparameters
from tests.conftest import TINY, compose_with_choices
from tests.run_files import RUN


def test_hyperparameters_are_the_choices_and_the_values_of_the_config():
    config, choices = compose_with_choices(*TINY, "activation=leaky_relu")
    values = hyperparameters(OmegaConf.to_container(config, resolve=True), choices)
    assert (values["model"], values["activation"]) == ("transposed_conv", "leaky_relu")
    assert (values["model.hidden_width"], values["optimizer.generator.lr"], values["seed"]) == (16, 2e-4, 0)
    assert values["activation.negative_slope"] == 0.2
    assert values["optimizer.betas"] == "[0.5, 0.999]"
    assert (values["data.limit"], values["cuda_graph"]) == ("None", "None")
    assert {type(value) for value in values.values()} == {bool, int, float, str}


def test_tensorboard_finds_the_columns_that_differ_between_two_runs(dcgan_train):
    for loss, more in (("hinge", []), ("non_saturating", ["loss.label_smoothing=0.1"])):
        arguments = [*TINY, *RUN, "evaluator=none", "max_steps=1", f"hydra.run.dir=runs/{loss}", f"loss={loss}", *more]
        assert dcgan_train(*arguments).code == 0
    columns = hparams_columns("runs")
    assert {"loss", "loss._target_"} <= {column.name for column in columns if column.differs}
    assert "loss.label_smoothing" in {column.name for column in columns}
    assert not next(column for column in columns if column.name == "seed").differs


def test_tensorboard_has_columns_of_the_swept_keys_and_of_the_metrics_for_a_sweep(dcgan_train):
    Path("mine.yaml").write_text("defaults: [train, _self_]\nhydra: {sweeper: {params: {seed: '0,1'}}}\n")
    settings = [*TINY, *RUN, "max_steps=1", "optimizer.lr=1e-3,2e-3", "model=upsample_conv", "sweep.name=mine"]
    assert dcgan_train("-m", "--config-dir", ".", "--config-name", "mine", *settings).code == 0
    experiment = hparams_experiment("runs/sweeps/mine")
    assert {column.name for column in experiment.hparam_infos} == {"optimizer.lr", "seed"}
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert metrics[0] == "test/frechet"
    assert metrics[-4:] == ["train/loss_d", "train/loss_g", "train/d_real", "train/d_fake"]


def hparams_columns(folder: str) -> list[HParamInfo]:
    return list(hparams_experiment(folder).hparam_infos)


def hparams_experiment(folder: str) -> Experiment:
    """Return the columns of TensorBoard's HPARAMS page."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams.backend_context import Context

    multiplexer = EventMultiplexer().AddRunsFromDirectory(folder)
    multiplexer.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, folder)))
    metadata = context.hparams_metadata(RequestContext(), "")
    return context.experiment_from_metadata(RequestContext(), "", True, metadata, None)


def test_summary_has_metrics_costs_settings_and_versions(plain_run):
    summary = json.loads((plain_run.parents[1] / "summary.json").read_text())
    assert summary["step"] == 4
    assert {"loss_d", "loss_g", "d_real", "d_fake", "images_per_second"} <= set(summary["metrics"])
    assert summary["better"] == {"images_per_second": "higher"}  # evaluator=none
    assert summary["images_per_second"] > 0
    assert summary["wall_seconds"] > 0
    assert summary["parameters"]["generator"] > 0
    assert summary["config"]["ema"]["decay"] == 0.5
    assert summary["choices"]["evaluator"] == "none"
    assert (summary["processes"], summary["judge"], summary["broken_files"]) == (1, None, {})
    packages = {"dcgan", "python", "torch", "torchvision", "lightning", "hydra-core", "tensorboard"}
    assert set(summary["versions"]) == packages
