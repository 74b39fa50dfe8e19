"""Overrides with unknown keys are rejected with a suggestion, and so are overrides that have no effect."""

import pytest

from dcgan.common.errors import UserError
from dcgan.common.overrides import override_key, read_keys, reject_unread_overrides, unknown_key
from dcgan.train import READ_KEYS
from tests.conftest import compose_with_choices

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
        ("experiment=fas", "there is no experiment=fas: did you mean experiment=fast? options:"),
    ],
)
def test_unknown_option_is_rejected_with_a_suggestion(dcgan_train, override, message):
    outcome = dcgan_train(override, "hydra.run.dir=run")
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: {message}")
    assert outcome.err.count("\n") == 1


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
