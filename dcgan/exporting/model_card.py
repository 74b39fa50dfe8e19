"""The model card of an exported generator, which a model hub shows."""

from pathlib import Path
from typing import Any

from dcgan import __version__
from dcgan.common.command import CONF
from dcgan.common.config_tree import top_comment
from dcgan.models.layers import count_parameters
from dcgan.sampling.trained_generator import TrainedGenerator

NOT_EVALUATED = "Not evaluated: `python -m dcgan.evaluate checkpoint=CKPT` before the export adds metrics here."
EVALUATION = {  # the structure of an evaluation file
    "metrics": {str: float | None},
    "floor": {str: float | None},
    "better": {str: str},
    "n": int,
    "features": {str: {"description": str}},
    "judge": dict | None,
    "checkpoint": {"step": int, "weights": str, "seed": int},
}
SIZES = ("latent_dim", "base_channels", "hidden_width")
OMITTED_GROUPS = ("trainer", "evaluator", "features", "experiment", "search")  # they do not describe the model


def model_card(generator: TrainedGenerator, evaluation: dict[str, Any] | None, name: str) -> str:
    """Return Markdown with the front matter that hubs read.

    Args:
        generator: The exported generator.
        evaluation: The content of its last.evaluation.json; None if it was not evaluated.
        name: What `load_generator` loads it by.
    """
    facts, sizes = generator.facts, generator.facts["config"]["model"]
    choices = {group: option for group, option in sorted(facts["choices"].items()) if group not in OMITTED_GROUPS}
    settings = choices | {f"model.{key}": sizes[key] for key in SIZES if key in sizes}
    setting_rows = "\n".join(f"| `{key}` | {value} |" for key, value in settings.items())
    kind = "A conditional" if generator.classes else "An unconditional"
    _, channels, height, width = generator.sample(1).shape
    weights = "an average of the weights over the steps" if facts["weights"] == "ema" else "the last step's weights"
    label = ", label=7" if generator.classes else ""
    license_line = "" if facts["license"] is None else f"license: {facts['license']}\n"
    return f"""---
library_name: dcgan
pipeline_tag: unconditional-image-generation
tags: [gan, dcgan, {facts["dataset"].lower()}]
{license_line}---

# {choices["model"]} DCGAN of {facts["dataset"]}

{kind} DCGAN generator of {height} x {width} pixels with {count_parameters(generator.network):,} parameters, trained on
{facts["dataset"]} for {facts["step"]:,} steps (seed {facts["seed"]}): {weights}.

![Samples](samples.png)

## Use

```python
from dcgan import load_generator

images = load_generator("{name}").sample(64, seed=0{label})  # uint8, (64, {channels}, {height}, {width})
```

```
python -m dcgan.sample checkpoint={name} out=grid.png
python -m dcgan.export checkpoint={name} out=generator.onnx
```

`model.safetensors` holds the network's weights{describe_dtype(facts)}, and `config.json` its architecture. Neither can
run code. The inputs of the network: {describe_inputs(generator)}.
Its images are in the range [{generator.pixels.low:g}, 1]; as uint8: `{generator.pixels.decode_formula}`. Exported by
dcgan {__version__}.

## Data

{describe_data(facts)}
{"Color" if channels == 3 else "Gray"}, at {height} x {width} pixels{" and with labels" if generator.classes else ""}.

## Training

| key | |
| --- | --- |
{setting_rows}

## Metrics

{NOT_EVALUATED if evaluation is None else metrics_table(evaluation)}{rounding_note(facts, evaluation)}

## License

{describe_license(facts)}
"""


def describe_inputs(generator: TrainedGenerator) -> str:
    labels = f", and a label from 0 to {generator.classes - 1}" if generator.classes else ""
    return f"z, with {generator.network.latent_dim} components from {generator.network.prior}{labels}"


def describe_dtype(facts: dict[str, Any]) -> str:
    return "" if facts["dtype"] is None else f" (rounded to {facts['dtype']})"


def rounding_note(facts: dict[str, Any], evaluation: dict[str, Any] | None) -> str:
    """Return a sentence that says that the metrics are those of other weights, if they are."""
    is_rounded = facts["dtype"] is not None and evaluation is not None
    return f"\n\nMeasured before the weights were rounded to {facts['dtype']}." if is_rounded else ""


def describe_data(facts: dict[str, Any]) -> str:
    """Return the number and the kind of the training images. The description of an own option is not known."""
    option = CONF / "data" / f"{Path(facts['choices']['data']).name}.yaml"
    number = "Images" if facts["images"] is None else f"{facts['images']:,} training images"
    description = f": {top_comment(option)}" if option.is_file() else ""
    return f"{number} of {facts['dataset']} (`data={facts['choices']['data']}`){description}."


def describe_license(facts: dict[str, Any]) -> str:
    stated = facts["license"] is not None
    weights = f"The weights: {facts['license']}." if stated else "The license of the weights is not stated."
    return f"{weights} The license of the training data may restrict their use, too. dcgan itself: Apache-2.0."


def metrics_table(evaluation: dict[str, Any]) -> str:
    baseline, better = evaluation["floor"], evaluation["better"]
    rows = "\n".join(
        f"| `{name}` | {format_value(value)} | {format_value(baseline.get(name))} | {better.get(name, '')} |"
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
