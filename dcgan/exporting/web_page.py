"""The web page of `python -m dcgan.explore`: sliders, the image they select, and the judge's prediction."""

from typing import TYPE_CHECKING, Any

from jaxtyping import UInt8
from PIL.Image import Image
from torch import Tensor

from dcgan.common.arg_checks import check_int, check_ints
from dcgan.common.errors import UserError
from dcgan.common.image_grid import display_scale, enlarge, to_pil, to_rgb
from dcgan.metrics.judge import Judge
from dcgan.sampling.latent_walks import direction_vectors
from dcgan.sampling.trained_generator import TrainedGenerator

if TYPE_CHECKING:
    import gradio as gr

MAX_SEED = 999
EXTENT = 4.0  # standard deviations of a normal prior
CACHE_SECONDS = 600  # how long gradio keeps pictures on disk


class Explorer:
    """Generates one image from the values of the sliders.

    Args:
        generator: The generator.
        judge: Classifies the image; None: no prediction.
        along: "principal" or "coordinate", as in `dcgan.sampling.latent_walks.Traverse`.
        directions: The indices of two directions of z, >= 0.

    Raises:
        ValueError: `along` or `directions` is none of these.
        UserError: z has no direction with such an index.
    """

    def __init__(self, generator: TrainedGenerator, judge: Judge | None, along: str, directions: list[int]) -> None:
        check_ints("directions", directions, 0)
        if len(directions) != 2:
            raise ValueError(f"directions must be two indices, got {directions}")
        self.generator, self.judge, self.directions = generator, judge, directions
        self.axes = direction_vectors(generator.network, along, directions)

    def generate(
        self, seed: int, truncation: float, label: int | None, first: float, second: float
    ) -> UInt8[Tensor, "1 c h w"]:
        """Return the image of truncation * z, moved by `first` and `second` along the two directions."""
        check_int("seed", seed, 0)
        z = truncation * self.generator.z(1, seed) + first * self.axes[:1] + second * self.axes[1:]
        return next(self.generator.generate(z, self.generator.labels(1, seed, label), 1))

    def render(
        self, seed: float, truncation: float, label: str | None, first: float, second: float
    ) -> tuple[Image, dict[str, float]]:
        """Return the picture for the values of the sliders, and the judge's probability of each class."""
        image = self.generate(int(seed), truncation, None if label is None else int(label), first, second)
        picture = to_rgb(image)[0]
        probabilities = [] if self.judge is None else self.judge.classify(image).softmax(dim=1)[0].tolist()
        return to_pil(enlarge(picture, display_scale(picture))), {str(k): p for k, p in enumerate(probabilities)}


def build_page(explorer: Explorer) -> "gr.Blocks":
    import gradio as gr

    facts, classes = explorer.generator.facts, explorer.generator.classes
    with gr.Blocks(title="DCGAN explorer", analytics_enabled=False, delete_cache=(CACHE_SECONDS,) * 2) as blocks:
        gr.Markdown(f"### {facts['choices']['model']}, {facts['dataset']}, step {facts['step']:,}")
        with gr.Row():
            with gr.Column():
                labels = [str(k) for k in range(classes)]
                inputs: list[Any] = [
                    gr.Slider(0, MAX_SEED, 0, step=1, label="seed"),
                    gr.Slider(0, 2, 1, step=0.05, label="truncation (times z)"),
                    gr.Radio(labels, value="0" if classes else None, label="label", visible=classes > 0),
                    *(gr.Slider(-EXTENT, EXTENT, 0, step=0.1, label=f"direction {i}") for i in explorer.directions),
                ]
            with gr.Column():
                image = gr.Image(label="image", format="png", interactive=False, height=400, buttons=["download"])
                has_judge = explorer.judge is not None
                prediction = gr.Label(label="the judge's prediction", num_top_classes=3, visible=has_judge)
        triggers, outputs = [blocks.load, *(control.change for control in inputs)], [image, prediction]
        # while a slider moves, "always_last" skips all but its last value
        gr.on(triggers, explorer.render, inputs, outputs, show_progress="hidden", trigger_mode="always_last")
    return blocks


def launch(explorer: Explorer, host: str, port: int, browser: bool) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        UserError: The port cannot be used.
    """
    import gradio as gr

    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # downloads no fonts
    try:
        build_page(explorer).launch(
            server_name=host, server_port=port, inbrowser=browser, share=False, quiet=True, footer_links=[], theme=theme
        )
    except OSError as error:
        raise UserError(f"port {port} cannot be used ({error}): choose another port=") from error
