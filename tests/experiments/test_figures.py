"""The plots and tables that single studies make from their runs and CSV files."""

import math

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from experiments import runs
from experiments.activations import figures as activations
from experiments.bench import measure_speeds
from experiments.pooling import figures as pooling
from experiments.semantic import figures as semantic
from experiments.tables import read_rows, write_rows
from experiments.upsampling import figures as upsampling

MEASURED = ("test/cb2", "test/pv2", "test/pv4")


@pytest.fixture
def study_folder(tmp_path, monkeypatch):
    """Give a study's script an empty folder without runs: study_folder(script, name) returns it."""
    monkeypatch.chdir(tmp_path)

    def create(script, name):
        folder = tmp_path / "experiments" / name
        folder.mkdir(parents=True)
        monkeypatch.setattr(script, "HERE", folder)
        return folder

    return create


def add_run(study: str, job: str, checkpoint, tmp_path):
    run = tmp_path / "runs" / "sweeps" / study / job
    run.parent.mkdir(parents=True, exist_ok=True)
    run.symlink_to(checkpoint.parent.parent)


def add_earlier_rows(folder, names):
    """Write files with a row of a deleted run that is in the study's runs.csv, and a row of one that is not."""
    earlier = {"sweep": "equal_width", "variant": "gone", "seed": 7}
    write_rows(folder / "runs.csv", [earlier])
    for name in names:
        write_rows(folder / name, [earlier | {"commit": "old"}, earlier | {"variant": "removed"}])


def test_upsampling_plots_curves_and_the_spectra_of_existing_runs(study_folder, tmp_path, monkeypatch, plain_run):
    folder = study_folder(upsampling, "upsampling")
    monkeypatch.setattr(upsampling, "SPECTRUM_IMAGES", 16)
    monkeypatch.setattr(upsampling, "measure_speeds", lambda configs: [{"variant": variant} for variant in configs])
    curves = [
        {"sweep": sweep, "variant": variant, "seed": 0, "step": step, "outcome": "finished"}
        | dict.fromkeys(MEASURED, 1.5 + step)
        for sweep in ("equal_width", "gone")
        for variant in ("model=a", "model=b")
        for step in (0, 4)
    ]
    write_rows(folder / "curves.csv", curves)
    for job in ("seed=0,model=a", "seed=0,model=b", "seed=1,model=b"):
        add_run("upsampling", f"equal_width/{job}", plain_run, tmp_path)
    add_earlier_rows(folder, ["begin.csv"])
    upsampling.main()
    plots = {path.name for path in folder.glob("*.png")}
    assert plots == {"equal_width_checkerboard.png", "gone_checkerboard.png", "equal_width_spectra.png"}
    with Image.open(folder / "equal_width_spectra.png") as picture:
        assert picture.width == 600  # a, b and the test images of one seed
    assert [(row["sweep"], row["variant"]) for row in read_rows(folder / "speed.csv")] == [
        ("equal_width", "model=a"),
        ("equal_width", "model=b"),
    ]
    begins = read_rows(folder / "begin.csv")
    assert [row["variant"] for row in begins] == ["gone", "model=a", "model=b", "model=b"]
    assert begins.pop(0)["commit"] == "old"
    assert all(0 < float(row[f"unevenness_{period}"]) < 200 for row in begins for period in (2, 4))


def test_unevenness_is_the_difference_between_pixel_phases():
    noise = torch.randn(2000, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert upsampling.unevenness(noise, 2) < 0.5
    checkered = noise.clone()
    checkered[..., ::2, ::2] += 0.2  # one phase of four: 0.2 * sqrt(1 / 4 * 3 / 4)
    assert upsampling.unevenness(checkered, 2) == pytest.approx(20 * math.sqrt(3) / 4, rel=0.05)
    assert upsampling.unevenness(checkered, 4) == pytest.approx(20 * math.sqrt(3) / 4, rel=0.05)
    coarse = noise.clone()
    coarse[..., ::4, :] += 0.2
    assert upsampling.unevenness(coarse, 4) > 5 * upsampling.unevenness(noise, 4)


def test_samples_of_a_run_at_its_start_and_end(plain_run):
    first, last = upsampling.generate_first_and_last(plain_run.parent.parent)
    assert first.shape == last.shape == (upsampling.SPECTRUM_IMAGES, 1, 28, 28)
    assert not first.equal(last)


def test_semantic_measures_its_runs_and_plots(study_folder, tmp_path, monkeypatch, plain_run, conditional_run):
    folder = study_folder(semantic, "semantic")
    for name, n in (("NEIGHBORS", 40), ("SVM_IMAGES", 40)):
        monkeypatch.setattr(semantic, name, n)
    results = [
        {"expression": e, "noise_scale": s, "success_percent": 50} for e in semantic.EXPRESSIONS for s in ("0.0", "1.0")
    ]
    results += [{"expression": e, "noise_scale": semantic.SHUFFLED, "success_percent": 9} for e in semantic.EXPRESSIONS]
    monkeypatch.setattr(semantic, "measure_arithmetic", lambda _: results)
    add_run("semantic", "conditional/seed=0,conditional=none", plain_run, tmp_path)
    add_run("semantic", "conditional/seed=0,conditional=concat", conditional_run, tmp_path)
    add_earlier_rows(folder, ["probes.csv", "arithmetic.csv"])
    semantic.main()
    concat, plain, old = read_rows(folder / "probes.csv")
    assert (concat["variant"], plain["variant"]) == ("conditional=concat", "conditional=none")
    assert 0 <= float(plain["probe_accuracy"]) <= 1
    assert 0 <= float(concat["nearest_neighbour_error"]) <= 1
    assert 0 <= float(concat["nearest_neighbour_error_baseline"]) <= 1
    assert (old["variant"], old["probe_accuracy"]) == ("gone", "")
    rows = read_rows(folder / "arithmetic.csv")
    assert [row["variant"] for row in rows].count("gone") == 1
    assert len(rows) == 1 + 2 * len(results)
    assert (folder / "arithmetic.png").stat().st_size > 5000


def test_pooling_plots_distance_over_seconds_of_existing_runs(study_folder, tmp_path, monkeypatch, plain_run):
    folder = study_folder(pooling, "pooling")
    monkeypatch.setattr(
        pooling,
        "measure_speeds",
        lambda configs: [{"variant": variant, "images_per_second": "4"} for variant in configs],
    )
    sweep = {"baseline": "discriminator=strided_conv", "metrics": ["frechet"]}
    config = OmegaConf.create({"sweep": sweep, "data": {"batch_size": 8}})
    monkeypatch.setattr(pooling, "sweep_configs", lambda _: {"discriminator": config})
    variants = ("discriminator=max_pool", "discriminator=gone")
    curves = [
        {
            "sweep": "discriminator",
            "variant": variant,
            "seed": 0,
            "step": step,
            "test/frechet": 40 / step,
            "outcome": "finished",
        }
        for variant in variants
        for step in (10, 20)
    ]
    write_rows(folder / "curves.csv", curves)
    add_run("pooling", "discriminator/seed=0,discriminator=max_pool", plain_run, tmp_path)
    pooling.main()
    assert {path.name for path in folder.glob("*.png")} == {"discriminator_seconds.png"}
    # 8 images per step, 4 images per second
    curves = pooling.add_seconds(read_rows(folder / "curves.csv"), 8)
    assert [row["seconds"] for row in curves] == ["20.0", "40.0"]
    (then,) = pooling.distances_at(curves, 30)
    assert then["frechet"] == pytest.approx(math.sqrt(4 * 2))
    assert {(row["variant"], row["metric"]) for row in read_rows(folder / "seconds.csv")} == {
        ("discriminator=max_pool", "frechet")
    }


def test_speed_of_runs_is_measured_in_turns(plain_run):
    config = runs.config_of(plain_run.parent.parent)
    results = measure_speeds({"a": config, "b": config}, rounds=2, seconds=0.05)
    assert [row["variant"] for row in results] == ["a", "b"]
    assert all(0 < float(row["lowest"]) <= float(row["images_per_second"]) <= float(row["highest"]) for row in results)


def test_activations_plots_gradients_and_units_per_layer(study_folder):
    folder = study_folder(activations, "activations")
    kinds = ("gradient_norms", "units_dead", "units_saturated")
    at = {0: None, 100: 4e-4, 400: 1e-4, 1600: 7.0, 2000: 0.5, 2400: 0.3}  # 1600 is neither early nor late
    curves = [
        {"sweep": sweep, "variant": variant, "seed": seed, "step": step, "outcome": "finished"}
        | {"test/frechet": "" if step == 0 else 3 + seed}
        | ({f"{kind}/discriminator/down_blocks.0": value for kind in kinds} if value else {})
        | ({f"{kind}/generator/start.hidden": 0 for kind in kinds} if value else {})
        | ({"gradient_norms/discriminator/logit": value} if value else {})  # a layer without an activation
        for sweep, variant in (
            ("generator", "activation=relu"),
            ("generator_leaky", "activation=leaky_relu"),
            ("discriminator", "discriminator_activation=tanh"),
        )
        for seed in (0, 1)
        for step, value in at.items()
    ]
    write_rows(folder / "curves.csv", curves)
    activations.main()
    plots = {f"{network}{what}.png" for network in ("generator", "discriminator") for what in ("", "_layers")}
    assert {path.name for path in folder.glob("*.png")} == plots
    rows = read_rows(folder / "layers.csv")
    assert len(rows) == 3 * 2 * 3
    generator, first, logit = rows[:3]
    assert (generator["layer"], first["layer"]) == ("generator/start.hidden", "discriminator/down_blocks.0")
    values = {name: float(value) for name, value in first.items() if name in activations.COLUMNS}
    early, late = 2e-4, math.sqrt(0.5 * 0.3)  # geometric means
    assert values == pytest.approx(
        {"gradient_early": early, "gradient_late": late, "dead": 0.4, "saturated": 0.4}, rel=0.001
    )
    assert (generator["gradient_late"], generator["dead"]) == ("1e-12", "0")  # vanished: 0 is not on a log scale
    assert (logit["gradient_late"], logit["dead"]) == (first["gradient_late"], "")


def test_discriminator_sweep_includes_the_default():
    rows = [{"sweep": "generator", "variant": "activation=relu"}, {"sweep": "discriminator", "variant": "x"}]
    assert [row["variant"] for row in activations.select_sweep(rows, "discriminator")] == [
        "x",
        activations.DEFAULT_VARIANT["variant"],
    ]
    assert [row["variant"] for row in activations.select_sweep(rows, "generator")] == ["activation=relu"]
