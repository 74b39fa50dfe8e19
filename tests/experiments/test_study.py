"""The studies: their sweeps compose, and their files contain the results of their runs."""

import shutil
from importlib import import_module

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image

from dcgan.common.command import CONF
from dcgan.models.layers import count_parameters
from dcgan.training.run import build_gan
from experiments import runs, study
from experiments.tables import read_rows
from tests.conftest import options_with

SWEEPS = study.sweep_files()


def composed(sweep: str, *overrides: str):
    """Return the config of one job, with Hydra's own."""
    with initialize_config_dir(str(study.HERE), version_base="1.3"):
        search = f"hydra.searchpath=[file://{CONF}]"
        config = compose(sweep, overrides=[search, *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
    return config


def jobs(sweep: str) -> list[list[str]]:
    """Return the overrides of each job, split by Hydra's sweeper."""
    params = composed(sweep).hydra.sweeper.params
    parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    return BasicSweeper.split_arguments(parsed, None)[0]


@pytest.fixture(autouse=True)
def _reset_hydra():
    yield
    HydraConfig.instance().cfg = None


@pytest.mark.parametrize("sweep", SWEEPS)
def test_each_sweep_has_seeds_and_its_variants_can_be_built(sweep):
    variants: dict[tuple[str, ...], list[str]] = {}
    for job in jobs(sweep):
        variant = tuple(o for o in job if not o.startswith("seed="))
        variants.setdefault(variant, []).extend(o for o in job if o.startswith("seed="))
    assert all(len(set(seeds)) >= 3 for seeds in variants.values())
    for variant in variants:
        config = composed(sweep, *variant)
        assert config.sweep.name.startswith(sweep.partition("/")[0] + "/")
        build_gan(config)


@pytest.mark.parametrize("name", sorted({sweep.partition("/")[0] for sweep in SWEEPS}))
def test_baseline_of_each_sweep_exists(name):
    files = {composed(sweep).sweep.name.rpartition("/")[2]: sweep for sweep in SWEEPS if sweep.startswith(f"{name}/")}
    variants = {own: {" ".join(o for o in job if "seed=" not in o) for job in jobs(files[own])} for own in files}
    settings = {sweep: config.sweep for sweep, config in study.sweep_configs(name).items()}
    assert settings.keys() == files.keys()
    for own, sweep in settings.items():
        other, _, variant = sweep.baseline.rpartition("/")
        assert variant in variants[other or own]
        assert set(sweep.metrics) <= set(study.TABLE_METRICS)


def test_variants_have_the_settings_of_their_sweep():
    bare = composed("activations/discriminator_bare", "discriminator_activation=tanh")
    assert bare.initialization._target_ == "dcgan.models.initialization.HeInitialization"
    kinds = (bare.model.normalization._target_, bare.discriminator.normalization._target_)
    assert kinds == ("dcgan.models.normalization.BatchNorm", "dcgan.models.normalization.NoNorm")
    rates = [composed(f"upsampling/{of}").optimizer.generator.lr for of in ("equal_parameters", "recipe_rates")]
    assert rates == [1e-3, 3e-3]
    for job in [job for job in jobs("losses/penalised") if "seed=0" in job]:
        config = composed("losses/penalised", *job)
        assert config.discriminator.normalization._target_ == "dcgan.models.normalization.LayerNorm"
        assert bool(config.penalty) == ("penalty=r1" in job)
    wasserstein = composed("losses/wasserstein", "loss=wasserstein_gp", "discriminator_steps=5")
    assert wasserstein.penalty._target_ == "dcgan.losses.gradient_penalties.WassersteinGP"
    modes = composed("modes/sweep", "discriminator.pack=2")
    assert (modes.data.classes, modes.model.latent_dim, next(iter(modes.evaluator))) == (1000, 100, "modes")
    base = composed("pooling/sweep")
    assert (base.model.base_channels, base.ema.decay, base.hydra.launcher.n_jobs) == (16, 0.9999, 2)


def test_sweeps_have_different_folders():
    names = [OmegaConf.load(study.HERE / f"{sweep}.yaml").sweep.name for sweep in SWEEPS]
    assert len(set(names)) == len(names)


def test_equal_parameters_are_equal_with_the_same_discriminator():
    sweep = "upsampling/equal_parameters"
    built = [build_gan(composed(sweep, *job)) for job in jobs(sweep) if "seed=0" in job]
    assert len(built) == len([*options_with("model", "upsampling"), "keras_mnist"])
    generators = [count_parameters(gan.generator) for gan in built]
    assert max(generators) / generators[0] < 1.02
    assert min(generators) / generators[0] > 0.98
    assert len({count_parameters(gan.discriminator) for gan in built}) == 1


TINY_STUDY = """# @package _global_
defaults: [/train, _self_]
sweep: {name: tiny/rates, baseline: optimizer.lr=0.001, metrics: [frechet, cb2]}
max_steps: 4
metrics: {every_n_steps: 2}
trainer: {accelerator: cpu}
model: {base_channels: 4, latent_dim: 8, hidden_width: 16}
data: {batch_size: 8}
samples: {n: 4, steps: []}
hydra:
  sweeper:
    params: {seed: "0,1", optimizer.lr: "1e-3,-1"}
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch, command):
    """A study whose second variant fails. Its commands run in this process; `calls` has their outcomes."""
    folder = tmp_path / "studies" / "tiny"
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(TINY_STUDY)
    calls = []

    def call(line):
        calls.append(command(import_module(line[2]), *line[3:]))
        monkeypatch.setattr(study.sys, "argv", ["study", "tiny"])  # the command has changed it
        return calls[-1].code

    monkeypatch.setattr(study, "HERE", folder.parent)
    monkeypatch.setattr(runs, "MIN_COVERAGE", 0)  # four steps do not learn digits
    monkeypatch.setattr(study.subprocess, "call", call)
    monkeypatch.setattr(study.sys, "argv", ["study", "tiny"])
    return folder, calls


def test_study_is_run_once_and_completed_when_called_again(tiny, monkeypatch):
    folder, calls = tiny
    with pytest.raises(SystemExit) as end:
        study.main()
    assert end.value.code == 1  # one variant has failed
    rows = read_rows(folder / "runs.csv")
    assert [(row["sweep"], row["variant"], row["seed"]) for row in rows] == [
        ("rates", f"optimizer.lr={lr}", seed) for lr, seed in (("-1", "0"), ("-1", "1"), ("0.001", "0"), ("0.001", "1"))
    ]
    assert [row["outcome"] for row in rows[2:]] == ["finished", "finished"]
    assert all("-1" in row["outcome"] for row in rows[:2])  # the reason of the failure
    assert float(rows[2]["frechet"]) != float(rows[3]["frechet"])
    curves = read_rows(folder / "curves.csv")
    assert [(row["seed"], row["step"]) for row in curves] == [(s, t) for s in "01" for t in ("0", "2", "4")]
    assert not curves[0]["test/frechet"]
    assert curves[2]["test/frechet"] == f"{float(rows[2]['frechet']):.5g}"
    with Image.open(folder / "rates.png") as picture:
        assert picture.width == 1408  # distance, coverage and the legend
    with Image.open(folder / "rates_samples.png") as picture:
        assert picture.width == 330  # the other variant has failed
    compared = read_rows(folder / "contrasts.csv")
    assert [(row["variant"], row["metric"], row["n"], row["n_baseline"]) for row in compared] == [
        ("optimizer.lr=-1", "frechet", "0", "2"),
        ("optimizer.lr=-1", "cb2", "0", "2"),
    ]
    table = (folder / "table.md").read_text()
    assert "| rates | optimizer.lr=-1 | optimizer.lr=0.001 | too few runs | too few runs |" in table
    assert "| rates | optimizer.lr=0.001 | 2 | " in table
    assert "| rates | optimizer.lr=-1 | 0 of 2 |" in table
    assert f"- rates optimizer.lr=-1 seed=0: {rows[0]['outcome']}" in table

    before = (folder / "runs.csv").read_text()
    with pytest.raises(SystemExit):
        study.main()
    assert calls[1].out.count("finished     ") == 2
    assert (folder / "runs.csv").read_text() == before

    # more seeds of one sweep are added to the rows of the first ones, although their runs are deleted
    shutil.rmtree("runs")
    monkeypatch.setattr(study.sys, "argv", ["study", "tiny/sweep", "--seeds", "5,4"])
    with pytest.raises(SystemExit):
        study.main()
    assert calls[2].out.count("finished     ") == 0
    both = read_rows(folder / "runs.csv")
    assert [row["seed"] for row in both] == ["0", "1", "4", "5"] * 2
    assert [row for row in both if row["seed"] in "01"] == rows
    assert [(row["seed"], row["step"]) for row in read_rows(folder / "curves.csv")] == [
        (s, t) for s in "0145" for t in ("0", "2", "4")
    ]
    assert "| rates | optimizer.lr=0.001 | 4 | " in (folder / "table.md").read_text()

    # the files are made again from runs.csv and curves.csv, without a run
    files = {path.name: path.read_bytes() for path in folder.glob("*") if path.suffix in (".csv", ".md")}
    (folder / "contrasts.csv").unlink()
    (folder / "table.md").unlink()
    monkeypatch.setattr(study.sys, "argv", ["study", "tiny", "--from-csv"])
    study.main()
    assert len(calls) == 3
    assert {name: (folder / name).read_bytes() for name in files} == files
    monkeypatch.setattr(study.sys, "argv", ["study", "tiny/sweep", "--from-csv"])
    with pytest.raises(SystemExit) as end:
        study.main()
    assert end.value.code == 2
    monkeypatch.setattr(study.sys, "argv", ["study", "tiny"])

    # the metrics of a run that has not learned are not used
    monkeypatch.setattr(runs, "MIN_COVERAGE", 0.1)
    with pytest.raises(SystemExit):
        study.main()
    ran = [row for row in read_rows(folder / "runs.csv") if row["variant"] == "optimizer.lr=0.001"]
    assert all(row["outcome"].startswith("nothing learned: coverage 0") for row in ran)
    table = (folder / "table.md").read_text()
    assert "| rates | optimizer.lr=0.001 | 0 of 4 |" in table
    assert "- rates optimizer.lr=0.001 seed=0: nothing learned" in table


def test_table_has_the_mean_and_its_interval_over_seeds():
    rows = [
        {"sweep": "s", "variant": "a", "seed": i, "outcome": "finished", "frechet": x} for i, x in enumerate((1, 2, 3))
    ]
    # Student's t with 2 degrees of freedom: 4.303 * 1 / sqrt(3)
    assert "| s | a | 3 | 2.0 ± 2.5 |" in study.results_table(rows)


def test_unknown_study_is_rejected_with_a_list_of_studies(monkeypatch, capsys):
    monkeypatch.setattr(study.sys, "argv", ["study", "nonsense"])
    with pytest.raises(SystemExit) as end:
        study.main()
    assert end.value.code == 2
    assert "upsampling" in capsys.readouterr().err
