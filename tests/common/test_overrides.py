"""Overrides with unknown keys are rejected with a suggestion, and so are overrides that have no effect."""

import pytest

from dcgan.common.command import CONF
from dcgan.common.errors import UserError
from dcgan.common.overrides import override_key, read_keys, reject_other_kinds, reject_unread_overrides, unknown_key
from dcgan.train import READ_KEYS
from tests.conftest import compose_config, compose_with_choices

TWO_RATES = ["optimizer.generator.lr=1e-3", "optimizer.discriminator.lr=1e-3"]


def check(*overrides: str) -> None:
    config, choices = compose_with_choices(*overrides)
    reject_unread_overrides(config, overrides, choices, READ_KEYS)


@pytest.mark.parametrize(
    ("override", "key"), [("lr=1", "lr"), ("+a.b=1=2", "a.b"), ("++a=", "a"), ("~a", "a"), ("~a=1", "a")]
)
def test_override_key(override, key):
    assert override_key(override) == key


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr=0.1", "there is no key lr: did you mean optimizer.lr?"),
        ("max_step=10", "there is no key max_step: did you mean max_steps?"),
        ("modle=x", "there is no key modle: did you mean model?"),
        ("discriminator_activaton=relu", "there is no key discriminator_activaton: did you mean discriminator_activ"),
        ("xyzzy=1", "there is no key xyzzy: --help lists the keys"),
        ("+lr=0.1", "there is no key lr: did you mean optimizer.lr?"),
        ("+xyzzy=1", "there is no key xyzzy: --help lists the keys"),
    ],
)
def test_unknown_key_is_rejected_with_a_suggestion(dcgan_train, override, message):
    outcome = dcgan_train(override, "hydra.run.dir=run")
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: {message}")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss=hnge", "there is no loss=hnge: did you mean loss=hinge? options: hinge, least_squares,"),
        ("loss=xyzzy", "there is no loss=xyzzy: options: hinge, least_squares,"),
        ("hydra/launcher=nope", "there is no hydra/launcher=nope: options: basic,"),
        ("experiment=fas", "there is no experiment=fas: did you mean experiment=fast? options:"),
    ],
)
def test_unknown_option_is_rejected_with_a_suggestion(dcgan_train, override, message):
    outcome = dcgan_train(override, "hydra.run.dir=run")
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: {message}")
    assert outcome.err.count("\n") == 1


def test_launcher_whose_package_is_missing_is_reported_with_the_command_that_installs_it(dcgan_train, monkeypatch):
    monkeypatch.setattr("dcgan.common.overrides.extras", lambda: ["nope"])
    outcome = dcgan_train("-m", "hydra/launcher=nope", "seed=0,1")
    assert outcome.code == 1
    assert outcome.err == "error: hydra/launcher=nope needs a package: pip install 'dcgan[nope]'\n"


def test_rejected_command_leaves_no_folder(dcgan_train, tmp_path):
    assert dcgan_train("model.base_channels=0", "hydra.run.dir=a/b/c").code == 1
    assert list(tmp_path.iterdir()) == []


def test_shortest_key_with_the_same_last_name_is_suggested():
    assert "did you mean a.lr?" in unknown_key("lr", ["a.b.lr", "a.lr", "lrs"])


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer.lr=1e-3", *TWO_RATES],
        ["hidden_width=256", "model=keras_mnist", "discriminator=keras_mnist"],
        ["output.activation._target_=x", "model.output_activation=null"],
    ],
)
def test_override_that_nothing_reads_is_rejected(overrides):
    key = override_key(overrides[0])
    with pytest.raises(UserError, match=f"{overrides[0]} has no effect: with these settings nothing reads {key}"):
        check(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer.lr=1e-3"],  # read by optimizer.generator.lr = ${optimizer.lr}
        ["optimizer.lr=1e-3", TWO_RATES[0]],
        ["optimizer.betas=[0.9,0.99]"],
        ["hidden_width=256"],
        ["hidden_width=256", "model=keras_mnist"],  # read by the discriminator
        ["normalization.momentum=0.2"],  # within a node that is read
        ["discriminator_activation.negative_slope=0.1"],
        ["model={latent_dim:8}"],  # a node that contains keys that are read
        ["+model.extra=1"],
        ["~penalty", "activation=selu", "experiment=fast", "hydra.run.dir=x", "hydra/job_logging=none"],
        ["ckpt_path=x", "seed=1", "max_steps=3"],
    ],
)
def test_override_that_is_read_directly_or_by_interpolation_is_accepted(overrides):
    check(*overrides)


def test_read_keys_follows_interpolations():
    tree = {"a": {"x": "${b.y}", "z": ["${mul:3,${c}}"]}, "b": {"y": "${d}", "w": "${e}"}, "c": None, "d": 1, "e": 2}
    assert set(read_keys(tree, ["a"])) == {"a", "b.y", "c", "d"}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("~samples", "samples must be a mapping of keys, got nothing"),
        ("log=null", "log must be a mapping of keys, got nothing"),
        ("ema=5", "ema must be a mapping of keys, got 5"),
        ("skip_finished=nope", "skip_finished must be true or false, got nope"),
        ("init_from_ema=2", "init_from_ema must be true or false, got 2"),
        ("trusted=null", "trusted must be a list, got nothing"),
        ("samples.steps=3", "samples.steps must be a list, got 3"),
        ("health.action=[]", r"health.action must be a text, got \[\]"),
        ("objective=null", "objective must be a text, got nothing"),
    ],
)
def test_value_of_another_kind_than_the_default_is_rejected(override, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        reject_other_kinds(compose_config(override), CONF / "train.yaml")


@pytest.mark.parametrize(
    "override", ["checkpoints.every_n_minutes=null", "sweep.name=x", "seed=${max_epochs}", "data=digits"]
)
def test_value_of_the_same_kind_is_accepted(override):
    reject_other_kinds(compose_config(override), CONF / "train.yaml")
