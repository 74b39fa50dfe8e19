"""What measuring costs at the defaults: `python -m experiments.metrics.measure` (MNIST in data/; about five minutes).

Steps of the default training, a measurement of 10,000 images as a run makes five of, one look of the health callback
and each metric alone, alternating; the shares are of the default run's 9,360 steps.
"""

import resource
import statistics
import time
import warnings
from pathlib import Path

import torch
from hydra.utils import instantiate

from dcgan.metrics.compute import applicable_metrics, load_real_statistics, measure
from dcgan.metrics.memorization import nearest_train_images
from dcgan.sampling.trained_generator import sample_latents
from dcgan.training.callbacks.health import N_IMAGES, diversity
from experiments.bench import bare, begin, show, write
from experiments.composing import configured

HERE = Path(__file__).parent
ROUNDS, STEPS = 5, 20
RUN_STEPS, MEASUREMENTS, LOOKS = 9360, 5, 9360 // 25


def main() -> None:
    begin()
    config = configured()
    gan, data = bare(config), instantiate(config.data)
    real = load_real_statistics(data, torch.device("cpu"))
    light = applicable_metrics(instantiate(config.evaluator, _convert_="all"), has_judge=True, has_labels=False)
    full = applicable_metrics(
        instantiate(configured(command="evaluate").evaluator, _convert_="all"), has_judge=True, has_labels=False
    )
    batch = data.pixels.encode(data.resize(real.train_images[:128]))
    z = sample_latents(gan.generator, 10_000, 0)

    def draw():
        return torch.cat([gan.sample(part) for part in z.split(500)])

    samples = real.extract_features(draw())
    measure(full, samples, real)  # fills the cache
    arms = {
        "a step of the default training": (lambda: gan.training_step((batch, None), 0), STEPS),
        "a look of the health callback": (lambda: diversity(gan.sample(gan.fixed_z[:N_IMAGES])), STEPS),
        "a measurement in training": (lambda: measure(light, real.extract_features(draw()), real), 1),
        "  drawing 10,000 images": (draw, 1),
        "  the judge's look at them": (lambda: real.extract_features(samples.images), 1),
    }
    for name, metric in full.items():
        arms[f"  {name}"] = (lambda metric=metric: metric(samples, real), 1)
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(ROUNDS):
        for name, (arm, repeats) in arms.items():
            nearest_train_images.cache_clear()
            started = time.perf_counter()
            for _ in range(repeats):
                arm()
            times[name].append((time.perf_counter() - started) / repeats)

    step, look, measurement = list(times.values())[:3]
    shares = {
        "share of the default run, measurements": [
            MEASUREMENTS * m / (RUN_STEPS * s) for m, s in zip(measurement, step, strict=True)
        ],
        "share of the default run, health": [LOOKS * h / (RUN_STEPS * s) for h, s in zip(look, step, strict=True)],
    }
    rows = [
        {"what": name, "median": f"{statistics.median(v):{form}}{unit}", "range": f"{min(v):{form}}-{max(v):{form}}"}
        for figures, form, unit in ((times, ".4g", " s"), (shares, ".2%", ""))
        for name, v in figures.items()
    ]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    rows.append({"what": "peak memory", "median": f"{peak:.2f} GB"})
    show(rows)
    write(HERE / "results.csv", rows)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
