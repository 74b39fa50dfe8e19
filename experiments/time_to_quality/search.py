"""Search for a recipe with Optuna: `python -m experiments.time_to_quality.search --trials 100`, in several processes.

A trial trains for up to 180 s on one thread. After 20 and 60 s it continues only if it is in the best third of the
trials that got there (asynchronous successive halving, Li et al. 2020). The budget is seconds of training, not steps,
so that a cheaper step is worth as much as a better one. The distances are to 10,000 images held out from the training
images; the test images are not used. The processes share runs/time_to_quality.journal; the trials are also in
search.csv. The same command continues a search.
"""

import argparse
import math
import warnings
from pathlib import Path

import optuna
from optuna.trial import TrialState

from dcgan.common.errors import UserError
from dcgan.runs.search.study import open_study
from experiments.bench import CPU, FrechetEvaluator, TimedTraining, build_step, infinite_batches, start_benchmark
from experiments.configs import compose_config
from experiments.tables import Row, write_rows

HERE = Path(__file__).parent
JOURNAL = Path("runs/time_to_quality.journal")
RUNG_SECONDS = (20, 60, 180)  # total seconds of training on one thread
N_SAMPLES = 5000
HELD_OUT = "data._target_=experiments.time_to_quality.held_out.HeldOutMNIST"

OPTIONS = {
    "model": ("upsample_conv", "pixel_shuffle", "keras_mnist"),
    "model.base_channels": (8, 12, 16, 24, 32),
    "model.latent_dim": (16, 32, 64),
    "discriminator": ("strided_conv", "avg_pool"),
    "discriminator.base_channels": (8, 12, 16, 24, 32),
    "discriminator.hidden_width": (128, 256, 512, 1024),
    "activation": ("relu", "leaky_relu", "gelu", "silu"),
    "discriminator_activation": ("leaky_relu", "gelu", "silu"),
    "discriminator_normalization": ("batch", "layer", "none"),
    "loss": ("non_saturating", "relativistic", "relativistic_average", "hinge"),
    "data.batch_size": (32, 64, 96, 128),
    "optimizer.beta1": (0.0, 0.5),
    "optimizer.beta2": (0.9, 0.99, 0.999),
}
GENERATOR_WIDTHS = (128, 256, 512, 1024)
PENALTY_WEIGHTS = ("none", "0.1", "1", "10")  # of R1 in each 8th step, without batch norm in D
RATES = {"optimizer.generator.lr": (5e-4, 1e-2), "optimizer.discriminator.lr": (2e-4, 5e-3)}
# experiment=fast, and what was better than it with one seed
FAST = {
    "model": "upsample_conv",
    "model.base_channels": 16,
    "model.hidden_width": 512,
    "model.latent_dim": 32,
    "discriminator": "strided_conv",
    "discriminator.base_channels": 16,
    "discriminator.hidden_width": 512,
    "activation": "relu",
    "discriminator_activation": "leaky_relu",
    "discriminator_normalization": "batch",
    "loss": "non_saturating",
    "data.batch_size": 64,
    "optimizer.beta1": 0.5,
    "optimizer.beta2": 0.999,
    "optimizer.generator.lr": 3e-3,
    "optimizer.discriminator.lr": 1e-3,
}
FIRST_TRIALS = (
    FAST,
    FAST | {"discriminator": "avg_pool"},
    FAST | {"discriminator_activation": "gelu"},
    FAST | {"discriminator": "avg_pool", "discriminator_activation": "gelu"},
    FAST | {"model": "keras_mnist"},
)


def suggest_recipe(trial: optuna.Trial) -> list[str]:
    """Return the overrides of a trial."""
    chosen = {key: trial.suggest_categorical(key, options) for key, options in OPTIONS.items()}
    chosen |= {key: trial.suggest_float(key, *limits, log=True) for key, limits in RATES.items()}
    betas = f"[{chosen.pop('optimizer.beta1')},{chosen.pop('optimizer.beta2')}]"
    recipe = {"optimizer.betas": betas, "ema.decay": 0.9999} | chosen
    if chosen["model"] != "keras_mnist":
        recipe["model.hidden_width"] = trial.suggest_categorical("model.hidden_width", GENERATOR_WIDTHS)
    if chosen["discriminator_normalization"] != "batch":
        weight = trial.suggest_categorical("penalty.weight", PENALTY_WEIGHTS)
        if weight != "none":
            recipe |= {"penalty": "r1", "penalty.weight": weight, "penalty.every": 8}
    return [f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in recipe.items()]


def train(trial: optuna.Trial, evaluator: FrechetEvaluator) -> float:
    """Train a trial from rung to rung, and return its last distance. TrialPruned if it does not continue."""
    overrides = suggest_recipe(trial)
    trial.set_user_attr("overrides", " ".join(overrides))
    config = compose_config("trainer.precision=auto", HELD_OUT, *overrides, f"seed={trial.number}")
    gan, step = build_step(config)
    batches = infinite_batches(config)
    training = TimedTraining(lambda: step(next(batches), 0))
    distance = math.inf
    for seconds in RUNG_SECONDS:
        training.train(seconds)
        distance = evaluator(gan.sample, gan.generator, trial.number)
        print(f"trial {trial.number} {seconds:4} s {distance:8.2f} step {gan.step:6}", *overrides, flush=True)
        if not math.isfinite(distance):
            raise optuna.TrialPruned
        trial.set_user_attr(f"steps_{seconds}", gan.step)
        trial.report(distance, seconds)
        if seconds < RUNG_SECONDS[-1] and trial.should_prune():
            raise optuna.TrialPruned
    return distance


def write_trials(study: optuna.Study) -> None:
    """Write search.csv, a row per trial, the best first."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.intermediate_values]
    trials.sort(key=lambda trial: (-max(trial.intermediate_values), list(trial.intermediate_values.values())[-1]))
    rows: list[Row] = []
    for trial in trials:
        distances, steps = trial.intermediate_values, trial.user_attrs
        row = {"trial": str(trial.number), "state": trial.state.name.lower()}
        row |= {f"frechet_{s}": f"{distances[s]:.3f}" if s in distances else "" for s in RUNG_SECONDS}
        row |= {f"steps_{s}": str(steps.get(f"steps_{s}", "")) for s in RUNG_SECONDS}
        rows.append(row | {"overrides": trial.user_attrs["overrides"]})
    write_rows(HERE / "search.csv", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100, help="number of trials of all processes")
    parser.add_argument("--seed", type=int, default=0, help="of the sampler: another one for each process")
    args = parser.parse_args()
    start_benchmark(threads=1)
    evaluator = FrechetEvaluator(N_SAMPLES, CPU, compose_config(HELD_OUT).data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # multivariate, group, constant_liar
        sampler = optuna.samplers.TPESampler(seed=args.seed, multivariate=True, group=True, constant_liar=True)
    pruner = optuna.pruners.SuccessiveHalvingPruner(RUNG_SECONDS[0], reduction_factor=3)
    JOURNAL.parent.mkdir(exist_ok=True)
    study = open_study(JOURNAL, pruner, sampler)
    if not study.get_trials(deepcopy=False):
        for recipe in FIRST_TRIALS:
            study.enqueue_trial(recipe)
    stop = optuna.study.MaxTrialsCallback(args.trials, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    study.optimize(
        lambda trial: train(trial, evaluator),
        callbacks=[stop, lambda study, _: write_trials(study)],
        catch=(UserError, ValueError, RuntimeError),
    )


if __name__ == "__main__":
    main()
