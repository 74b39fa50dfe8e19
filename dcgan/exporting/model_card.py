"""The model card of an exported generator, which a model hub shows."""

from typing import Any

from dcgan import __version__
from dcgan.models.layers import count_parameters
from dcgan.sampling.trained_generator import TrainedGenerator

NOT_EVALUATED = "Not evaluated: `python -m dcgan.evaluate checkpoint=CKPT` before the export adds metrics here."
OMITTED_GROUPS = ("trainer", "evaluator", "features", "experiment")  # they do not describe the model


def model_card(generator: TrainedGenerator, evaluation: dict[str, Any] | None) -> str:
    """Return Markdown with the front matter that hubs read.

    Args:
        generator: The exported generator.
        evaluation: The content of its last.evaluation.json; None if it was not evaluated.
    """
    facts, model = generator.facts, generator.facts["config"]["model"]
    choices = {name: option for name, option in sorted(facts["choices"].items()) if name not in OMITTED_GROUPS}
    choice_rows = "\n".join(f"| `{name}` | {option} |" for name, option in choices.items())
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

`model.safetensors` holds the network's weights, and `config.json` its architecture. The network's images are in the
range [{generator.pixels.low:g}, 1]. Exported by dcgan {__version__}.

## Training

| choice | |
| --- | --- |
{choice_rows}
| latent vector | {model["latent_dim"]} |
| base channels | {model["base_channels"]} |

## Metrics

{NOT_EVALUATED if evaluation is None else metrics_table(evaluation)}
"""


def metrics_table(evaluation: dict[str, Any]) -> str:
    baseline, better = evaluation["floor"], evaluation["better"]
    rows = "\n".join(
        f"| `{name}` | {format_value(value)} | {format_value(baseline[name])} | {better[name]} |"
        for name, value in evaluation["metrics"].items()
    )
    return f"""{evaluation["n"]:,} samples. The real-data baseline is the value for as many real training images.
{describe_features(evaluation)}

| metric | generated | real-data baseline | better |
| --- | --- | --- | --- |
{rows}"""


def describe_features(evaluation: dict[str, Any]) -> str:
    """Return what the metrics were measured with."""
    spaces = [f"{facts['description']} (`{name}`)" for name, facts in evaluation["features"].items()]
    sentences = [f"Distances are measured in the features of: {'; '.join(spaces)}."]
    if "inception" not in evaluation["features"]:
        sentences.append("They are not comparable with Inception's FID and KID.")
    if (judge := evaluation["judge"]) is not None:
        sentences.append(f"The judge is dcgan's own classifier of {judge['data']} (SHA-256 {judge['sha256']}).")
    return "\n".join(sentences)


def format_value(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"
