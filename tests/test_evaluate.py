import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dcgan import compare, evaluate, explore, export, sample, train
from dcgan.common.command import CONF
from dcgan.metrics import train_judge
from dcgan.sampling.trained_generator import load_generator, sample_latents
from tests.conftest import TINY, options
from tests.run_files import RUN, events

METRICS = {
    "frechet", "kid", "kid_std", "precision", "recall", "density", "coverage", "classes", "class_kl", "confident",
    "cb2", "pv2", "pv4", "classifier_score", "nearest_train", "near_copies", "swd",
}  # fmt: skip
LAST = "checkpoint=run/checkpoints/last.ckpt"


def save_samples(array: np.ndarray) -> str:
    np.save("samples.npy", array)
    return "samples=samples.npy"


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def read_evaluation(path: str = "run/checkpoints/last.evaluation.json") -> dict:
    return json.loads(Path(path).read_text())


def are_numbers(values: dict) -> bool:
    return all(value is None or isinstance(value, int | float) for value in values.values())


def test_checkpoint_evaluation_writes_files_next_to_it_and_to_tensorboard(dcgan_train, dcgan_evaluate):
    assert dcgan_train(*TINY, *RUN, "max_steps=3", "ema.decay=.9", "seed=4").code == 0
    outcome = dcgan_evaluate(LAST)
    assert outcome.code == 0, outcome.err
    content = read_evaluation()
    assert content["metrics"].keys() == content["floor"].keys() == content["better"].keys() == METRICS
    assert are_numbers(content["metrics"])
    assert are_numbers(content["floor"])
    assert content["n"] == 16
    assert content["judge"]["version"] == 1
    assert len(content["judge"]["sha256"]) == 64
    assert sum(content["class_histogram"]) == pytest.approx(1)
    assert content["samples"] is None
    expected = {"file": "last.ckpt", "step": 3, "weights": "ema", "seed": 4}
    assert {name: content["checkpoint"][name] for name in expected} == expected
    assert str(Path.cwd()) not in json.dumps(content)
    for name in ("last.evaluation.png", "last.features.png", "last.closest_pairs.png"):
        assert (Path("run/checkpoints") / name).stat().st_size > 1000
    board = events()
    assert [event.step for event in board.Images("evaluation")] == [3]
    assert board.Scalars("evaluation/frechet")[0].value == pytest.approx(content["metrics"]["frechet"], rel=1e-5)
    for name in METRICS:
        assert name in outcome.out
    assert "real-data baseline" in outcome.out
    assert not Path("runs").exists()


def test_final_metrics_of_training_equal_those_of_evaluation(dcgan_train, dcgan_evaluate):
    dcgan_train(*TINY, *RUN, "max_steps=4", "metrics.every_n_steps=2")
    dcgan_evaluate(LAST)
    evaluated = read_evaluation()["metrics"]
    trained = json.loads(Path("run/summary.json").read_text())["metrics"]
    for name in ("frechet", "kid", "coverage", "class_kl", "cb2"):
        assert trained[name] == pytest.approx(evaluated[name], rel=1e-6), name


def test_metrics_depend_on_seed(trained_run, dcgan_evaluate):
    trained_run("max_steps=1")
    metrics = []
    for seed in (0, 0, 1):
        assert dcgan_evaluate(LAST, f"seed={seed}", "batch_size=5").code == 0
        metrics.append(read_evaluation()["metrics"])
    assert metrics[0] == metrics[1] != metrics[2]


def test_latent_vectors_depend_on_seed_and_index_only(plain_run):
    network = load_generator(plain_run).network
    few, many = sample_latents(network, 3, seed=7), sample_latents(network, 150, seed=7)
    assert torch.equal(few, many[:3])
    assert len({tuple(z.tolist()) for z in many}) == 150
    assert not torch.equal(few, sample_latents(network, 3, seed=8))


def test_user_supplied_samples_are_evaluated_in_run_folder(dcgan_evaluate):
    outcome = dcgan_evaluate(save_samples(random_pixels(16, 28, 28)), "hydra.run.dir=out")
    assert outcome.code == 0, outcome.err
    content = read_evaluation("out/evaluation.json")
    assert content["metrics"].keys() == METRICS
    assert content["checkpoint"] is None
    assert content["samples"] == {"file": "samples.npy", "images": 16}
    assert Path("out/evaluation.png").exists()
    assert "WARNING" not in outcome.err
    outcome = dcgan_evaluate(save_samples(random_pixels(16, 1, 28, 28)))
    assert outcome.code == 0, outcome.err
    (path,) = Path("runs/evaluate").rglob("evaluation.json")
    assert read_evaluation(str(path))["metrics"] == content["metrics"]


def test_fewer_samples_are_reported_and_compared_with_as_many_real_images(dcgan_evaluate):
    outcome = dcgan_evaluate(save_samples(random_pixels(9, 28, 28)), "hydra.run.dir=nine")
    assert "WARNING: 9 images instead of 16" in outcome.err
    dcgan_evaluate(save_samples(random_pixels(16, 28, 28)), "hydra.run.dir=all")
    nine, all_ = (read_evaluation(f"{name}/evaluation.json") for name in ("nine", "all"))
    assert nine["n"] == 9
    assert nine["floor"]["frechet"] > all_["floor"]["frechet"]


def test_additional_samples_are_ignored(dcgan_evaluate):
    outcome = dcgan_evaluate(save_samples(random_pixels(40, 28, 28)), "hydra.run.dir=out")
    assert "the first 16 of 40 images are measured" in outcome.err
    assert read_evaluation("out/evaluation.json")["n"] == 16


@pytest.mark.parametrize(
    "images",
    [np.zeros((16, 28, 28), np.uint8), random_pixels(1, 28, 28).repeat(16, axis=0), random_pixels(1, 28, 28)],
    ids=["black", "repeated", "single"],
)
def test_degenerate_samples_get_numbers_or_null(dcgan_evaluate, images):
    outcome = dcgan_evaluate(save_samples(images), "hydra.run.dir=out")
    assert outcome.code == 0, outcome.err
    content = read_evaluation("out/evaluation.json")
    assert are_numbers(content["metrics"])
    assert content["metrics"].keys() == METRICS


@pytest.mark.parametrize("size", [32, 20])
def test_other_image_sizes_have_a_checkerboard_score(dcgan_train, dcgan_evaluate, size):
    dcgan_train(*TINY, *RUN, "max_steps=1", f"data.image_size={size}")
    outcome = dcgan_evaluate(LAST)
    assert outcome.code == 0, outcome.err
    assert read_evaluation()["metrics"]["cb2"] is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either checkpoint="),
        (["checkpoint=nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
        (["checkpoint=text.ckpt"], "cannot be read as a checkpoint"),
        (["checkpoint=foreign.ckpt"], "is not a file of dcgan"),
        (["samples=nowhere.npy"], "there is no file nowhere.npy"),
        (["samples=text.ckpt"], "cannot be read as an .npy file"),
        (["samples=several.npz"], "save one array with numpy.save"),
        (["samples=samples.npy", "data=digits", "features=judge"], "python -m dcgan.metrics.train_judge data=digits"),
        (["samples=samples.npy", "features=inception", "features.inception.weights=none"], "there is no file none"),
        (["samples=samples.npy", "probe=true"], "give checkpoint= instead"),
        (["samples=samples.npy", "n=0"], "n must be an integer >= 1"),
        (["samples=samples.npy", "batch_size=x"], "batch_size must be an integer"),
        (["samples=samples.npy", "evaluator=everything"], "everything"),
        (["samples=samples.npy", "device=cuda"], "this machine has no GPU"),
    ],
)
def test_invalid_arguments_are_rejected(dcgan_evaluate, arguments, message):
    save_samples(random_pixels(16, 28, 28))
    Path("text.ckpt").write_text("no checkpoint")
    torch.save({"state_dict": {}}, "foreign.ckpt")
    np.savez("several.npz", a=1, b=2)
    outcome = dcgan_evaluate(*arguments)
    assert outcome.code == 1
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_error_is_one_line(dcgan_evaluate):
    outcome = dcgan_evaluate(save_samples(random_pixels(28, 28)), "hydra.run.dir=out")
    assert outcome.code == 1
    assert len(outcome.err.strip().splitlines()) == 1


def test_weights_that_do_not_fit_config_are_rejected(trained_run, dcgan_evaluate):
    trained_run("max_steps=1")
    checkpoint = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    checkpoint["config"]["model"]["base_channels"] = 6
    torch.save(checkpoint, "run/checkpoints/last.ckpt")
    assert "has other weights than its config says" in dcgan_evaluate(LAST).err


def test_help_names_every_option(dcgan_evaluate):
    outcome = dcgan_evaluate("--help")
    for group in ("evaluator", "features", "data"):
        for option in options(group):
            assert option in outcome.out
    # but Hydra's lists of options
    assert max(len(line) for line in outcome.out.splitlines() if line.startswith(" ")) <= 120


COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "train_judge": train_judge,
    "compare": compare,
    "sample": sample,
    "export": export,
    "explore": explore,
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(command, name):
    outcome = command(COMMANDS[name], "--help")
    assert outcome.code == 0
    assert f"python -m {COMMANDS[name].__name__}" in outcome.out
    # but Hydra's lists of options
    assert max(len(line) for line in outcome.out.splitlines() if line.startswith(" ")) <= 120


def test_every_config_belongs_to_a_command():
    assert {path.stem for path in CONF.glob("*.yaml")} == COMMANDS.keys()
