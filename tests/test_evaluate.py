import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dcgan import cli, compare, evaluate, explore, export, sample, train
from dcgan.metrics import classifier
from dcgan.trained import latents, load_generator, read_checkpoint
from tests.conftest import TINY, options
from tests.runs import RUN, events

FIGURES = {
    "frechet", "kid", "kid_std", "precision", "recall", "density", "coverage", "classes", "class_kl", "sure",
    "cb2", "pv2", "pv4", "classifier_score", "nearest_train", "near_copies",
}  # fmt: skip
LAST = "checkpoint=run/checkpoints/last.ckpt"


def save(array: np.ndarray, path: str = "samples.npy") -> str:
    np.save(path, array)
    return f"samples={path}"


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def numbers(values: dict) -> bool:
    return all(value is None or isinstance(value, int | float) for value in values.values())


def test_a_checkpoint_is_evaluated_beside_it_and_in_its_tensorboard(dcgan_train, dcgan_evaluate):
    assert dcgan_train(*TINY, *RUN, "max_steps=3", "ema.decay=.9", "seed=4").code == 0
    outcome = dcgan_evaluate(LAST)
    assert outcome.code == 0, outcome.err
    content = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())
    assert content["metrics"].keys() == content["floor"].keys() == content["better"].keys() == FIGURES
    assert numbers(content["metrics"])
    assert numbers(content["floor"])
    assert content["n"] == 16
    assert content["judge"]["version"] == 1
    assert len(content["judge"]["sha256"]) == 64
    assert sum(content["class_histogram"]) == pytest.approx(1)
    assert content["samples"] is None
    checkpoint = content["checkpoint"]
    assert (checkpoint["file"], checkpoint["step"], checkpoint["weights"], checkpoint["seed"]) == (
        "last.ckpt",
        3,
        "ema",
        4,
    )
    assert str(Path.cwd()) not in json.dumps(content)
    for name in ("last.evaluation.png", "last.closest_pairs.png"):
        assert (Path("run/checkpoints") / name).stat().st_size > 1000
    board = events()
    assert [event.step for event in board.Images("evaluation")] == [3]
    assert board.Scalars("evaluation/frechet")[0].value == pytest.approx(content["metrics"]["frechet"], rel=1e-5)
    for name in FIGURES:
        assert name in outcome.out
    assert "real (floor)" in outcome.out
    assert not Path("runs").exists()


def test_the_final_figure_of_a_training_is_that_of_its_evaluation(dcgan_train, dcgan_evaluate):
    dcgan_train(*TINY, *RUN, "max_steps=4", "metrics.every_n_steps=2")
    dcgan_evaluate(LAST)
    evaluated = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())["metrics"]
    trained = json.loads(Path("run/summary.json").read_text())["metrics"]
    for name in ("frechet", "kid", "coverage", "class_kl", "cb2"):
        assert trained[name] == pytest.approx(evaluated[name], rel=1e-6), name


def test_the_same_checkpoint_has_the_same_figures_and_another_seed_others(dcgan_train, dcgan_evaluate):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    figures = []
    for seed in (0, 0, 1):
        assert dcgan_evaluate(LAST, f"seed={seed}", "batch_size=5").code == 0
        figures.append(json.loads(Path("run/checkpoints/last.evaluation.json").read_text())["metrics"])
    assert figures[0] == figures[1] != figures[2]


def test_the_average_of_the_weights_draws_where_there_is_one(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=3", "ema.decay=.5")
    checkpoint = read_checkpoint("run/checkpoints/last.ckpt")
    state = checkpoint["state_dict"]
    for name, value in load_generator("run/checkpoints/last.ckpt").network.state_dict().items():
        assert torch.equal(value, state[f"ema.network.{name}"]), name
    assert not torch.equal(state["generator.to_image.weight"], state["ema.network.to_image.weight"])


def test_latent_vectors_depend_on_the_seed_and_their_number_alone(dcgan_train):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    generator = load_generator("run/checkpoints/last.ckpt")
    few, many = latents(generator.network, 3, seed=7), latents(generator.network, 150, seed=7)
    assert torch.equal(few, many[:3])
    assert len({tuple(z.tolist()) for z in many}) == 150
    assert not torch.equal(few, latents(generator.network, 3, seed=8))
    together, apart = generator.sample(20, batch_size=20), generator.sample(20, batch_size=7)
    assert (together.int() - apart.int()).abs().max() <= 1


def test_samples_of_anybody_are_evaluated_in_the_run_folder(dcgan_evaluate):
    outcome = dcgan_evaluate(save(pixels(16, 28, 28)), "hydra.run.dir=out")
    assert outcome.code == 0, outcome.err
    content = json.loads(Path("out/evaluation.json").read_text())
    assert content["metrics"].keys() == FIGURES
    assert content["checkpoint"] is None
    assert content["samples"] == {"file": "samples.npy", "images": 16}
    assert Path("out/evaluation.png").exists()
    assert "WARNING" not in outcome.err
    again = dcgan_evaluate(save(pixels(16, 1, 28, 28)))
    assert again.code == 0, again.err
    (found,) = Path("runs/evaluate").rglob("evaluation.json")
    assert json.loads(found.read_text())["metrics"] == content["metrics"]


def test_floats_between_0_and_1_are_taken_as_the_pixels_they_are(dcgan_evaluate):
    u8 = pixels(16, 28, 28)
    for name, array in (("a", u8), ("b", (u8 / 255).astype(np.float32))):
        assert dcgan_evaluate(save(array), f"hydra.run.dir={name}").code == 0
    a, b = (json.loads(Path(f"{name}/evaluation.json").read_text())["metrics"] for name in "ab")
    assert a == b


def test_fewer_samples_are_said_loudly_and_the_floor_is_of_as_many(dcgan_evaluate):
    outcome = dcgan_evaluate(save(pixels(9, 28, 28)), "hydra.run.dir=nine")
    assert "WARNING: 9 images instead of 16" in outcome.err
    dcgan_evaluate(save(pixels(16, 28, 28)), "hydra.run.dir=all")
    nine, whole = (json.loads(Path(f"{name}/evaluation.json").read_text()) for name in ("nine", "all"))
    assert nine["n"] == 9
    assert nine["floor"]["frechet"] > whole["floor"]["frechet"]
    more = dcgan_evaluate(save(pixels(40, 28, 28)), "hydra.run.dir=more")
    assert "the first 16 of 40 images are measured" in more.err
    assert json.loads(Path("more/evaluation.json").read_text())["n"] == 16


@pytest.mark.parametrize(
    "images", [np.zeros((16, 28, 28), np.uint8), pixels(1, 28, 28).repeat(16, axis=0), pixels(1, 28, 28)]
)
def test_black_repeated_and_single_images_get_figures_or_null(dcgan_evaluate, images):
    outcome = dcgan_evaluate(save(images), "hydra.run.dir=out")
    assert outcome.code == 0, outcome.err
    content = json.loads(Path("out/evaluation.json").read_text())
    assert numbers(content["metrics"])
    assert content["metrics"].keys() == FIGURES


@pytest.mark.parametrize("size", [32, 20])
def test_other_sizes_are_resized_for_the_judge_and_have_their_own_checkerboard(dcgan_train, dcgan_evaluate, size):
    dcgan_train(*TINY, *RUN, "max_steps=1", f"data.image_size={size}")
    outcome = dcgan_evaluate(LAST)
    assert outcome.code == 0, outcome.err
    assert json.loads(Path("run/checkpoints/last.evaluation.json").read_text())["metrics"]["cb2"] is not None


def test_the_probe_fits_a_linear_svm_on_the_discriminators_features(dcgan_train, dcgan_evaluate):
    dcgan_train(*TINY, *RUN, "max_steps=2")
    outcome = dcgan_evaluate(LAST, "probe=true", "evaluator=light")
    assert outcome.code == 0, outcome.err
    content = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())
    assert 0 <= content["metrics"]["probe_accuracy"] <= 1
    assert 0 <= content["floor"]["probe_accuracy"] <= 1


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((0, 28, 28), np.uint8), "the array is empty"),
        (pixels(5, 32, 32), "must be N x 28 x 28 or N x 1 x 28 x 28, got 5 x 1 x 32 x 32: give data.image_size="),
        (pixels(5, 28, 28, 3), "must be N x 28 x 28"),
        (pixels(28, 28), "must be N x 28 x 28"),
        (np.full((5, 28, 28), np.nan, np.float32), "there are NaN or infinite pixels"),
        (np.full((5, 28, 28), -0.5, np.float32), "must be in [0, 1], got [-0.5, -0.5]"),
        (pixels(5, 28, 28).astype(np.float32), "must be in [0, 1]"),
        (pixels(5, 28, 28).astype(np.int64), "must be uint8 or floats in [0, 1], got int64"),
        (np.array([{}] * 3), "cannot be read as an .npy file"),
    ],
)
def test_samples_that_are_none_are_refused_in_a_sentence(dcgan_evaluate, array, sentence):
    outcome = dcgan_evaluate(save(array), "hydra.run.dir=out")
    assert outcome.code == 1
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give either checkpoint="),
        (["checkpoint=nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
        (["checkpoint=text.ckpt"], "cannot be read as a checkpoint"),
        (["checkpoint=foreign.ckpt"], "is not of dcgan (it names no format)"),
        (["samples=nowhere.npy"], "there is no file nowhere.npy"),
        (["samples=text.ckpt"], "cannot be read as an .npy file"),
        (["samples=several.npz"], "holds several arrays"),
        (["samples=samples.npy", "data=kmnist"], "python -m dcgan.metrics.classifier data=kmnist"),
        (["samples=samples.npy", "data=image_folder", "data.image_size=28"], "it can have no judge"),
        (["samples=samples.npy", "data.channels=3"], "judges see grey images"),
        (["samples=samples.npy", "probe=true"], "give checkpoint= instead"),
        (["samples=samples.npy", "n=0"], "n must be an integer >= 1"),
        (["samples=samples.npy", "batch_size=x"], "batch_size must be an integer"),
        (["samples=samples.npy", "evaluator=everything"], "everything"),
        (["samples=samples.npy", "device=cuda"], "no GPU here"),
    ],
)
def test_other_mistakes_end_in_a_sentence(dcgan_evaluate, arguments, sentence):
    save(pixels(16, 28, 28))
    Path("text.ckpt").write_text("no checkpoint")
    torch.save({"state_dict": {}}, "foreign.ckpt")
    np.savez("several.npz", a=1, b=2)
    outcome = dcgan_evaluate(*arguments)
    assert outcome.code == 1
    assert sentence in outcome.err
    assert "Traceback" not in outcome.err


def test_a_checkpoint_is_not_judged_on_other_data_than_its_own(dcgan_train, dcgan_evaluate):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    assert "was trained on data=mnist, not on kmnist" in dcgan_evaluate(LAST, "data=kmnist").err
    assert "data.image_size is the checkpoint's" in dcgan_evaluate(LAST, "data.image_size=32").err
    assert dcgan_evaluate(LAST, "data=mnist", "evaluator=none").code == 0


def test_weights_that_do_not_fit_the_config_are_said(dcgan_train, dcgan_evaluate):
    dcgan_train(*TINY, *RUN, "max_steps=1")
    checkpoint = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    checkpoint["config"]["model"]["base_channels"] = 6
    torch.save(checkpoint, "run/checkpoints/last.ckpt")
    assert "has other weights than its config says" in dcgan_evaluate(LAST).err


def test_help_names_every_option(dcgan_evaluate):
    outcome = dcgan_evaluate("--help")
    for group in ("evaluator", "data"):
        for option in options(group):
            assert option in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 120


COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "classifier": classifier,
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
    assert max(map(len, outcome.out.splitlines())) <= 120


def test_every_config_is_that_of_a_command():
    assert {path.stem for path in cli.CONF.glob("*.yaml")} == COMMANDS.keys()
