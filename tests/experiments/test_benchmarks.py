"""The benchmarks and searches run with the current package. Their timings are not tested."""

import copy
import os
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from types import SimpleNamespace

import optuna
import pytest
import torch
from hydra.utils import instantiate

from dcgan.data.mnist import MNISTDataModule
from experiments import bench
from experiments.bench import RecordedStep, build_standalone_gan, infinite_batches, repeat_in_turns, write_results
from experiments.configs import compose_config
from experiments.hot_path import measure as hot_path
from experiments.tables import read_rows
from experiments.throughput import measure as throughput
from experiments.throughput import turns
from experiments.throughput.turns import TrainingEnded, TrainingProcess, Variant, train_in_turns
from experiments.time_to_quality import plot, race, search
from experiments.time_to_quality.held_out import N_HELD_OUT, HeldOutMNIST
from experiments.time_to_quality.prototype import BATCH, LATENT, Prototype
from tests.conftest import TINY
from tests.processes import ROOT, ForkedProcess, ask

CUDA = torch.device("cuda")


class ForkedTraining(ForkedProcess):
    """Takes the place of `subprocess.Popen` in the benchmark: a fork that needs no imports."""

    def __init__(self, command, env, stdout, stderr, start_new_session) -> None:
        self.returncode = None
        _, *arguments = command
        self.pid = ask(
            arguments=arguments, folder=str(ROOT), environment=env, out=os.devnull, err=stdout.name,
            with_rank_1="trainer=ddp_cpu" in arguments,
        )  # fmt: skip

    def wait(self, timeout=10) -> int:
        return super().wait(timeout)


@pytest.fixture
def forked_trainings(monkeypatch):
    """Let the trainings of the benchmark read the small data, in forks."""
    monkeypatch.setattr(turns, "ENVIRONMENT", dict(os.environ))
    monkeypatch.setattr(turns, "subprocess", SimpleNamespace(Popen=ForkedTraining, STDOUT=subprocess.STDOUT))


def test_variants_are_repeated_in_turns_and_warm_up_rounds_are_dropped():
    calls: list[str] = []

    def timer(name):
        def call():
            calls.append(name)
            return float(len(calls))

        return call

    assert repeat_in_turns({"a": timer("a"), "b": timer("b")}, 2, warm_up_rounds=1) == {"a": [3, 5], "b": [4, 6]}
    assert calls == ["a", "b"] * 3


def test_benchmark_measures_its_variants_in_turns(forked_trainings):
    small = [*TINY, "data.batch_size=2"]
    variants = {
        "bare": Variant("bare", small),
        "two processes": Variant("shipped", [*small, "trainer=ddp_cpu", "evaluator=none"]),
    }
    results = train_in_turns(variants, turns=2, seconds=1.0, warm_up_steps=3)
    assert results.keys() == variants.keys()
    for run in results.values():
        assert run["steps_per_second"] > 0
        assert 0 < run["first_step"] < 300
        assert 150 < run["peak_mb"] < 5000


def test_variant_trains_only_in_its_turn(tmp_path, forked_trainings):
    training = TrainingProcess(Variant("example", [*TINY, "data.batch_size=2"]), tmp_path)
    try:
        training.wait_for_step(3)
        training.pause()
        time.sleep(0.2)  # the signal arrives
        before = training.steps
        time.sleep(1)
        assert training.steps == before
        training.run_for(1.0)
        assert training.steps > before
        assert 1.0 <= training.seconds < 2.0
    finally:
        training.kill()


def test_variant_that_ends_early_is_an_error(forked_trainings):
    with pytest.raises(TrainingEnded, match="the bare loop implements only the default's step"):
        train_in_turns({"bare": Variant("bare", [*TINY, "ema.decay=0.9"])}, turns=1)


# in a new interpreter, as all trainings of a benchmark
def test_script_that_does_not_start_is_an_error():
    with pytest.raises(TrainingEnded, match=r"exit code 1:\n.*No module named experiments.throughput.nonsense"):
        train_in_turns({"nonsense": Variant("nonsense")}, turns=1)


def test_prototype_trains_and_samples():
    prototype = Prototype(seed=0)
    before = [p.clone() for p in prototype.ema_generator.parameters()]
    for _ in range(2):
        prototype.training_step(torch.rand(BATCH, 1, 28, 28))
    assert all(not torch.equal(a, b) for a, b in zip(before, prototype.ema_generator.parameters(), strict=True))
    images = prototype.sample(torch.randn(3, LATENT))
    assert (images.shape, images.dtype) == ((3, 1, 28, 28), torch.uint8)


@pytest.mark.parametrize("recipe", race.RECIPES.values(), ids=race.RECIPES)
def test_recipes_of_race_can_be_built(recipe):
    build_standalone_gan(compose_config(*TINY, *recipe))


def test_trials_of_the_search_train():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for recipe in search.FIRST_TRIALS:
        study.enqueue_trial(recipe)
    recipes = [search.suggest_recipe(study.ask()) for _ in range(len(search.FIRST_TRIALS) + 8)]
    assert "discriminator_activation=gelu" in recipes[2]
    assert any("penalty=r1" in recipe for recipe in recipes)
    for recipe in recipes:
        config = compose_config("data=digits", "data.limit=64", *recipe, "data.batch_size=8", "trainer.precision=auto")
        gan, step = bench.build_step(config)
        step(next(infinite_batches(config)), 0)
        assert gan.step == 1


def test_held_out_images_are_none_of_the_training_images(monkeypatch):
    stored = torch.arange(60_000, dtype=torch.int32).reshape(-1, 1, 1, 1), torch.arange(60_000) % 10
    monkeypatch.setattr(MNISTDataModule, "load", lambda self, train: stored if train else None)
    data = instantiate(compose_config("data._target_=experiments.time_to_quality.held_out.HeldOutMNIST").data)
    assert isinstance(data, HeldOutMNIST)
    (images, labels), (held_out, held_out_labels) = data.load(train=True), data.load(train=False)
    assert len(held_out) == N_HELD_OUT
    assert torch.equal(torch.cat((images, held_out)).flatten().sort().values, stored[0].flatten())
    assert torch.equal(images.flatten() % 10, labels)
    assert torch.equal(held_out.flatten() % 10, held_out_labels)


def test_search_prunes_reports_and_continues(tmp_path, monkeypatch):
    """Trial i has the distance i; a search of two trials continues to three."""
    monkeypatch.setattr(search, "HERE", tmp_path)
    monkeypatch.setattr(search, "JOURNAL", tmp_path / "search.journal")
    monkeypatch.setattr(search.TimedTraining, "train", lambda self, until: self.step())
    monkeypatch.setattr(search, "RUNG_SECONDS", (1, 3))
    monkeypatch.setattr(search, "HELD_OUT", "data=digits")
    monkeypatch.setattr(search, "FrechetEvaluator", lambda n, device, data: lambda sample, generator, seed: 1.0 + seed)
    monkeypatch.setattr(search, "suggest_recipe", lambda trial: [*TINY, f"seed={trial.number}"])
    for trials in ("2", "3"):
        monkeypatch.setattr(sys, "argv", ["search", "--trials", trials])
        search.main()
        assert len(read_rows(tmp_path / "search.csv")) == int(trials)
    rows = read_rows(tmp_path / "search.csv")
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert [row["state"] for row in rows] == ["complete", "pruned", "pruned"]
    assert (rows[0]["frechet_3"], rows[1]["frechet_3"]) == ("1.000", "")


def test_batches_of_a_benchmark_continue_after_the_last_epoch():
    config = compose_config(*TINY)
    gan, batches = build_standalone_gan(config), infinite_batches(config)
    for i in range(64 // 8 + 1):
        gan.training_step(next(batches), i)
    assert gan.step == 9


@pytest.mark.parametrize(("text", "expected"), [("fast", ("fast", 120)), ("prototype:600", ("prototype", 600))])
def test_entry_of_a_race_is_parsed(text, expected):
    assert race.parse_entry(text) == expected


@pytest.mark.parametrize("text", ["nonsense", "fast:9", "fast:nan", "fast:-5"])
def test_invalid_entry_of_a_race_is_rejected(text):
    with pytest.raises(ArgumentTypeError, match=r"the variant must be one of|must be an integer >= 10"):
        race.parse_entry(text)


def test_race_measures_at_each_mark_and_replaces_earlier_rows(tmp_path, monkeypatch, capsys, forked_trainings):
    for name, value in (
        ("EVALUATION_SECONDS", (0.2, 0.4)),
        ("TURN_SECONDS", 0.1),
        ("PICTURE_SECONDS", 0.4),
        ("HERE", tmp_path),
    ):
        monkeypatch.setattr(race, name, value)
    monkeypatch.setattr(race, "RECIPES", {"fast": TINY, "example": [*TINY, "data.batch_size=4"]})
    monkeypatch.setattr(race, "FrechetEvaluator", lambda n, device: lambda sample, generator, seed: 1.5 + seed)
    for seeds in (["3", "4"], ["4"]):  # repeats seed 4
        monkeypatch.setattr(sys, "argv", ["race", "fast", "example", "--seeds", *seeds])
        race.main()
    rows = read_rows(tmp_path / "curves.csv")
    measured = sorted((row["variant"], row["seed"], round(float(row["seconds"]), 1), row["frechet"]) for row in rows)
    assert [(variant, seed, distance) for variant, seed, _, distance in measured] == [
        (variant, seed, distance)
        for variant in ("example", "fast")
        for seed, distance in (("3", "4.500"), ("4", "5.500"))
        for _ in (0.2, 0.4)
    ]
    assert all(int(row["step"]) > 0 for row in rows)
    assert (tmp_path / "fast_3_0.4s.png").exists()
    monkeypatch.setattr(plot, "HERE", tmp_path)
    monkeypatch.setattr(plot, "TABLE_SECONDS", (0.4,))
    monkeypatch.setattr(sys, "argv", ["plot"])
    capsys.readouterr()
    plot.main()
    assert "| fast | 2 |" in capsys.readouterr().out
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_pictures_of_a_variant_are_not_those_of_one_with_a_longer_name(tmp_path, monkeypatch):
    rows = [{"variant": v, "seed": 3, "seconds": 9, "frechet": 1, "hardware": "", "threads": 2} for v in ("a", "a_b")]
    write_results(tmp_path / "curves.csv", rows)
    for variant in ("a", "a_b"):
        (tmp_path / f"{variant}_3_120s.png").touch()
    pictures = []
    monkeypatch.setattr(plot, "plot_images", lambda images, path: pictures.append(images))
    monkeypatch.setattr(plot, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["plot"])
    plot.main()
    assert pictures == [{"a": tmp_path / "a_3_120s.png", "a_b": tmp_path / "a_b_3_120s.png"}]


def test_records_are_the_first_measurements_at_a_distance(capsys):
    curves = {"a": {"0": [(10, 5.0), (20, 3.9), (30, 1.9)], "1": [(10, 4.0), (20, 2.5), (30, 2.1)]}}
    plot.print_records(curves)
    assert "| a | 2 | 10 s (10 to 20) | 30 s (30 to 30) 1 of 2 |  |  |  |" in capsys.readouterr().out


def test_choices_of_the_hot_path_can_be_reverted(monkeypatch):
    monkeypatch.setattr(hot_path, "compose_config", lambda *overrides: compose_config(*overrides, *TINY))
    monkeypatch.setattr(hot_path, "ROUNDS", 1)
    monkeypatch.setattr(hot_path, "STEPS", 1)
    table = hot_path.measure_step()
    assert len(table) == 7
    assert table[0]["ratio"] == "1.000"


def test_scaling_is_measured_and_plotted(tmp_path, monkeypatch):
    grid = {"data.batch_size": (2, 4), "model.base_channels": (4, 8), "data.image_size": (28, 32)}
    monkeypatch.setattr(throughput, "GRID", grid)
    monkeypatch.setattr(throughput, "HERE", tmp_path)
    rows = throughput.measure_scaling(1, 0.01, TINY)
    assert [(row["key"], row["value"]) for row in rows] == [(key, value) for key in grid for value in grid[key]]
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    throughput.plot_scaling(rows)
    assert (tmp_path / "scaling.png").stat().st_size > 5000


@pytest.fixture
def fake_cuda(monkeypatch):
    """A machine that seems to have a GPU, on which nothing runs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA H200")
    bench.machine_info.cache_clear()
    yield
    bench.machine_info.cache_clear()


def test_results_of_cuda_have_files_of_their_own_and_name_the_device(tmp_path, fake_cuda):
    path = tmp_path / "results.csv"
    write_results(path, [{"variant": "a"}])
    before = path.read_bytes()
    write_results(path, [{"variant": "b"}], CUDA)
    assert path.read_bytes() == before
    (row,) = read_rows(tmp_path / "results_cuda.csv")
    assert (row["variant"], row["hardware"]) == ("b", "NVIDIA H200")
    assert read_rows(path)[0]["hardware"] != "NVIDIA H200"


@pytest.mark.parametrize("bf16", [False, True])
def test_alternatives_run_on_the_chosen_device(monkeypatch, bf16):
    monkeypatch.setattr(throughput, "computes_bf16", lambda: bf16)
    cpu = throughput.alternatives(bench.CPU, ["seed=1"])
    in_bf16 = [
        ("shipped", ["trainer=cpu", "trainer.precision=bf16-mixed", "seed=1"]),
        ("bare", ["--device=cpu", "--precision=bf16-mixed", "seed=1"]),
    ]
    assert [(variant.script, list(variant.overrides)) for variant in cpu.values()] == [
        ("shipped", ["trainer=cpu", "trainer.precision=32-true", "seed=1"]),
        ("bare", ["--device=cpu", "--precision=32-true", "seed=1"]),
        *(in_bf16 if bf16 else []),
        ("example", ["--device=cpu", "seed=1"]),
    ]
    gpu = throughput.alternatives(CUDA, [])
    assert [(variant.script, list(variant.overrides)) for variant in gpu.values()] == [
        ("shipped", ["trainer=gpu", "trainer.precision=32-true"]),
        ("bare", ["--device=cuda", "--precision=32-true"]),
        ("shipped", ["trainer=gpu", "trainer.precision=bf16-mixed"]),
        ("bare", ["--device=cuda", "--precision=bf16-mixed"]),
        ("example", ["--device=cuda"]),
    ]


def test_original_example_is_run_with_the_same_networks(tmp_path, forked_trainings):
    script = tmp_path / "main.py"
    script.write_text(
        "import sys, pathlib\n"
        "pathlib.Path(sys.argv[0]).with_name('arguments').write_text(' '.join(sys.argv[1:]))\n"
        "print('Using device: cpu')\n"
        "while True: print('[0/25][1/938] Loss_D: 1.0')\n"
    )
    overrides = ["data.image_size=64", "data.batch_size=32", "model.base_channels=16"]
    variant = throughput.alternatives(bench.CPU, overrides, script)[throughput.ORIGINAL]
    assert {"--batchSize=32", "--ngf=16", "--ndf=16", "--lr=0.0002"} < set(variant.overrides)
    training = TrainingProcess(variant, tmp_path)
    try:
        assert training.wait_for_step(3) > 0
    finally:
        training.kill()
    assert (tmp_path / "arguments").read_text() == " ".join(variant.overrides[1:])
    with pytest.raises(ValueError, match=r"compared at data.image_size=64"):
        throughput.alternatives(bench.CPU, [], script)


@pytest.mark.parametrize("script", [throughput, hot_path, race])
def test_missing_device_is_reported(monkeypatch, capsys, script):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["script", *(["fast"] if script is race else []), "--device", "cuda"])
    with pytest.raises(SystemExit):
        script.main()
    assert "device=cuda, but this machine has no GPU: device=cpu runs on every machine" in capsys.readouterr().err


def test_race_on_cuda_has_recipes_only(monkeypatch, capsys, fake_cuda):
    monkeypatch.setattr(sys, "argv", ["race", "fast", "prototype", "--device", "cuda"])
    with pytest.raises(SystemExit):
        race.main()
    assert "on a GPU the variant must be one of demo, fast, " in capsys.readouterr().err


def test_race_on_cuda_is_plotted(tmp_path, monkeypatch, capsys, fake_cuda):
    rows = [{"variant": "fast", "seed": 0, "seconds": seconds, "frechet": 10 / seconds} for seconds in (1, 5, 30)]
    write_results(tmp_path / "curves.csv", rows, CUDA)
    monkeypatch.setattr(plot, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["plot", "cuda"])
    plot.main()
    assert "| fast | 1 | 10.00 |  | 2.00 |  | 0.33 |  |" in capsys.readouterr().out
    assert (tmp_path / "curves_cuda.png").stat().st_size > 5000


@pytest.mark.parametrize("extra", [["ema.decay=0.9"], ["conditional=concat", "discriminator_steps=2"]])
def test_recorded_step_is_that_of_a_training(monkeypatch, extra):
    """A recorder that computes nothing during the recording, and then runs the Python code, takes the GPU's place."""
    monkeypatch.setattr(bench, "record_graph", lambda function, device: function)
    config = compose_config(*TINY, *extra)
    eager, recorded = build_standalone_gan(config), build_standalone_gan(config)
    batches, step = infinite_batches(config), RecordedStep(recorded)
    for i in range(3):
        batch = next(batches)
        eager.training_step(copy.deepcopy(batch), i)
        step(batch, i)
    assert recorded.step == 3
    for name, value in eager.state_dict().items():
        assert torch.equal(recorded.state_dict()[name], value), name
