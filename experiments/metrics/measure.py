"""Time the measurements at the defaults: `python -m experiments.metrics.measure` (MNIST in data/; five minutes).

In turns: steps of the default training, a health check, an evaluation of 10,000 images, its parts, and each metric. The
shares are those of a default run: 9,360 steps with five evaluations and a health check every 25 steps.
"""

import resource
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from hydra.utils import instantiate
from torch import Tensor

from dcgan.metrics.compute import Metrics, applicable_metrics, load_real_statistics, measure
from dcgan.metrics.judge import JudgeFeatures
from dcgan.metrics.memorization import nearest_train_images
from dcgan.sampling.trained_generator import sample_latents
from dcgan.training.callbacks.health import N_IMAGES, diversity
from experiments.bench import build_standalone_gan, print_results, repeat_in_turns, start_benchmark, write_results
from experiments.configs import compose_config
from experiments.tables import Row

HERE = Path(__file__).parent
ROUNDS, STEPS = 5, 20
RUN_STEPS, EVALUATIONS, HEALTH_CHECKS = 9360, 5, 9360 // 25
STEP, HEALTH, EVALUATION = (
    "a step of the default training",
    "a health check",
    "an evaluation during training",
)


def load_metrics(command: str) -> Metrics:
    """Return the metrics of a command's default evaluator."""
    evaluator = instantiate(compose_config(command=command).evaluator, _convert_="all")
    return applicable_metrics(evaluator, has_judge=True, has_labels=False)


def mean_seconds(function: Callable[[], object], repeats: int) -> float:
    nearest_train_images.cache_clear()
    started = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - started) / repeats


def measure_times() -> dict[str, list[float]]:
    """Return the seconds of each measurement, per round."""
    config = compose_config()
    gan, data = build_standalone_gan(config), instantiate(config.data)
    real = load_real_statistics(data, {"judge": JudgeFeatures}, torch.device("cpu"))
    light, full = load_metrics("train"), load_metrics("evaluate")
    batch = data.pixels.encode(data.resize(real.train_images[:128]))
    z = sample_latents(gan.generator, 10_000, 0)

    def generate() -> Tensor:
        return torch.cat([gan.sample(part) for part in z.split(500)])

    samples = real.extract_features(generate())
    measure(full, samples, real)  # fills the cache
    functions: dict[str, tuple[Callable[[], object], int]] = {
        STEP: (lambda: gan.training_step((batch, None), 0), STEPS),
        HEALTH: (lambda: diversity(gan.sample(gan.fixed_z[:N_IMAGES])), STEPS),
        EVALUATION: (lambda: measure(light, real.extract_features(generate()), real), 1),
        "  generating 10,000 images": (generate, 1),
        "  their features by the judge": (lambda: real.extract_features(samples.images), 1),
    }
    functions |= {f"  {name}": (partial(metric, samples, real), 1) for name, metric in full.items()}
    timers = {name: partial(mean_seconds, function, repeats) for name, (function, repeats) in functions.items()}
    return repeat_in_turns(timers, ROUNDS)


def shares_of_run(times: dict[str, list[float]], name: str, count: int) -> list[float]:
    """Return the time of `count` calls as a share of the steps of a default run, per round."""
    return [count * own / (RUN_STEPS * step) for own, step in zip(times[name], times[STEP], strict=True)]


def result_rows(values: dict[str, list[float]], number_format: str, unit: str = "") -> list[Row]:
    """Return a row per name with the median and the range."""
    return [
        {"measurement": name, "median": f"{statistics.median(own):{number_format}}{unit}"}
        | {"range": f"{min(own):{number_format}}-{max(own):{number_format}}"}
        for name, own in values.items()
    ]


def main() -> None:
    start_benchmark()
    times = measure_times()
    shares = {
        "share of the default run, evaluations": shares_of_run(times, EVALUATION, EVALUATIONS),
        "share of the default run, health checks": shares_of_run(times, HEALTH, HEALTH_CHECKS),
    }
    rows = result_rows(times, ".4g", " s") + result_rows(shares, ".2%")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    rows.append({"measurement": "peak memory", "median": f"{peak:.2f} GB"})
    print_results(rows)
    write_results(HERE / "results.csv", rows)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
