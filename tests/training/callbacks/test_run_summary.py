import json

from omegaconf import OmegaConf

from dcgan.training.callbacks.run_summary import HYPERPARAMETERS, hyperparameters
from tests.conftest import TINY, compose_with_choices


def run_hyperparameters(*overrides):
    config, choices = compose_with_choices(*overrides)
    return hyperparameters(OmegaConf.to_container(config, resolve=True), choices)


def test_every_run_has_the_same_hyperparameter_keys():
    one = run_hyperparameters(*TINY)
    other = run_hyperparameters("model=keras_mnist", "activation=gelu", "loss=hinge")
    assert list(one) == list(other)
    assert set(HYPERPARAMETERS) <= set(one)
    assert (one["model"], other["model"]) == ("transposed_conv", "keras_mnist")
    assert (one["model.hidden_width"], other["model.hidden_width"]) == (16, "-")


def test_every_hyperparameter_key_exists_in_some_config():
    """A renamed key must be renamed here, too."""
    configs = [
        run_hyperparameters(),
        run_hyperparameters("activation=leaky_relu"),
        run_hyperparameters("loss=wasserstein_gp", "discriminator_normalization=layer"),
    ]
    assert [key for key in HYPERPARAMETERS if all(config[key] == "-" for config in configs)] == []


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
