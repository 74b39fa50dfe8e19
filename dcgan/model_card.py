"""What a model hub shows of an exported generator."""

from collections.abc import Iterable
from typing import Any

from dcgan import __version__
from dcgan.networks import count_parameters
from dcgan.trained import TrainedGenerator

NOT_EVALUATED = "Not evaluated: `python -m dcgan.evaluate checkpoint=CKPT` before the export puts figures here."
NOT_SAID = ("trainer", "evaluator", "experiment")  # choices that say nothing of the model


def model_card(generator: TrainedGenerator, evaluation: dict[str, Any] | None) -> str:
    """Markdown with the front matter that hubs read. evaluation: of these weights, None: there is none."""
    facts, model = generator.facts, generator.facts["config"]["model"]
    choices = {name: option for name, option in sorted(facts["choices"].items()) if name not in NOT_SAID}
    kind = "A conditional" if generator.classes else "An unconditional"
    side, channels = model["image_size"], model["channels"]
    weights = "an average of the weights over the steps" if facts["weights"] == "ema" else "the last step's weights"
    label = ", label=7" if generator.classes else ""
    return f"""---
library_name: dcgan
pipeline_tag: unconditional-image-generation
tags: [gan, dcgan, {facts["dataset"].lower()}]
---

# {choices["model"]} DCGAN of {facts["dataset"]}

{kind} DCGAN generator of {side} x {side} pixels with {count_parameters(generator.network):,} parameters, trained on
{facts["dataset"]} for {facts["step"]:,} steps (seed {facts["seed"]}): {weights}.

![Samples](samples.png)

## Use

```python
from dcgan import load_generator

images = load_generator("FOLDER").sample(64, seed=0{label})  # uint8, (64, {channels}, {side}, {side})
```

`model.safetensors` holds the network alone, whose images lie in [{generator.pixels.low:g}, 1], and `config.json` what
it is built from; made with dcgan {__version__}.

## Training

| choice | |
| --- | --- |
{lines(f"| `{name}` | {option} |" for name, option in choices.items())}
| latent vector | {model["latent_dim"]} |
| base channels | {model["base_channels"]} |

## Figures

{NOT_EVALUATED if evaluation is None else figures(evaluation)}
"""


def figures(evaluation: dict[str, Any]) -> str:
    judge = evaluation["judge"]
    return f"""{evaluation["n"]:,} samples, beside what as many real training images get in their place. The judge is
dcgan's own classifier of {judge["data"]}, version {judge["version"]}, {judge["accuracy"]:.2%} right (SHA-256
{judge["sha256"]}): `frechet` and `kid` are distances in its features,
not comparable with Inception's FID and KID.

| figure | generated | real (floor) | better |
| --- | --- | --- | --- |
{
        lines(
            f"| `{name}` | {number(value)} | {number(evaluation['floor'][name])} | {evaluation['better'][name]} |"
            for name, value in evaluation["metrics"].items()
        )
    }"""


def lines(rows: Iterable[str]) -> str:
    return "\n".join(rows)


def number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"
