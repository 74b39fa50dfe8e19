import pytest

from dcgan.training.plain_keys import check_plain_keys
from tests.conftest import TINY, compose_config


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("max_steps=0", "max_steps must be an integer >= 1, got 0"),
        ("max_epochs=a", "max_epochs must be an integer >= 1, got 'a'"),
        ("cuda_graph=1", "cuda_graph must be true, false or null, got 1"),
        ("trainer.precision=16", "trainer.precision must be one of auto, 32-true, bf16-mixed, got 16"),
    ],
)
def test_invalid_values_are_rejected(override, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        check_plain_keys(compose_config(override))


def test_command_rejects_them_before_it_imports_or_builds_anything(dcgan_train, monkeypatch):
    def train(*_):
        raise AssertionError("the training was started")

    monkeypatch.setattr("dcgan.training.run.train", train)
    outcome = dcgan_train(*TINY, "seed=-1")
    assert (outcome.code, outcome.err) == (1, "error: seed must be an integer >= 0, got -1\n")
