"""The web page of `python -m dcgan.explore`: sliders, the image they select, and the judge's prediction."""

from typing import TYPE_CHECKING, Any

from jaxtyping import UInt8
from torch import Tensor

from dcgan.common.arg_checks import check_int, check_ints
from dcgan.common.errors import UserError
from dcgan.common.image_grid import display_scale, enlarge, to_pil, to_rgb
from dcgan.metrics.judge import Judge
from dcgan.sampling.latent_walks import direction_vectors
from dcgan.sampling.trained_generator import TrainedGenerator

if TYPE_CHECKING:
    import gradio as gr
    from PIL.Image import Image

MAX_SEED = 999
EXTENT = 4.0  # standard deviations of a normal prior
CACHE_SECONDS = 600  # how long gradio keeps pictures on disk
TRIGGER_MODE = "always_last"  # while a slider moves, skip all but its last value


class Explorer:
    """Generates one image from the values of the sliders.

    Args:
        generator: The generator.
        judge: Classifies the image; None: no prediction.
        along: Kind of the directions, as in `dcgan.sampling.latent_walks.Traverse`.
        directions: The indices of two directions of z, >= 0.

    Raises:
        ValueError: The directions are not two integers >= 0, or their kind is unknown.
        UserError: z has fewer dimensions.
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
        """Return the image of the seed's z times `truncation`, moved along the two directions."""
        check_int("seed", seed, 0)
        z = truncation * self.generator.z(1, seed) + first * self.axes[:1] + second * self.axes[1:]
        return next(self.generator.generate(z, self.generator.labels(1, seed, label), 1))

    def render(
        self, seed: float, truncation: float, label: str | None, first: float, second: float
    ) -> tuple["Image", dict[str, float]]:
        """Return the picture for the values of the sliders, and the judge's probability of each class."""
        image = self.generate(int(seed), truncation, None if label is None else int(label), first, second)
        picture = to_rgb(image)[0]
        probabilities = [] if self.judge is None else self.judge(image).logits.softmax(dim=1)[0].tolist()
        return to_pil(enlarge(picture, display_scale(picture))), {str(k): p for k, p in enumerate(probabilities)}


def build_page(explorer: Explorer) -> "gr.Blocks":
    import gradio as gr

    facts, classes = explorer.generator.facts, explorer.generator.classes
    with gr.Blocks(
        title="DCGAN explorer", analytics_enabled=False, delete_cache=(CACHE_SECONDS, CACHE_SECONDS)
    ) as blocks:
        gr.Markdown(f"### {facts['choices']['model']}, {facts['dataset']}, step {facts['step']:,}")
        with gr.Row():
            with gr.Column():
                seed = gr.Slider(0, MAX_SEED, 0, step=1, label="seed")
                truncation = gr.Slider(0, 2, 1, step=0.05, label="truncation (times z)")
                label = gr.Radio([str(k) for k in range(classes)], value="0" if classes else None, label="label")
                label.visible = classes > 0
                first = gr.Slider(-EXTENT, EXTENT, 0, step=0.1, label=f"direction {explorer.directions[0]}")
                second = gr.Slider(-EXTENT, EXTENT, 0, step=0.1, label=f"direction {explorer.directions[1]}")
            with gr.Column():
                image = gr.Image(label="image", format="png", interactive=False, height=400, buttons=["download"])
                prediction = gr.Label(
                    label="the judge's prediction", num_top_classes=3, visible=explorer.judge is not None
                )
        inputs: list[Any] = [seed, truncation, label, first, second]
        gr.on(
            [blocks.load, *(control.change for control in inputs)],
            explorer.render,
            inputs,
            [image, prediction],
            show_progress="hidden",
            trigger_mode=TRIGGER_MODE,
        )
    return blocks


def launch(explorer: Explorer, host: str, port: int, browser: bool) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        UserError: The port cannot be used.
    """
    import gradio as gr

    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # no downloads
    try:
        build_page(explorer).launch(
            server_name=host,
            server_port=port,
            inbrowser=browser,
            share=False,
            quiet=True,
            footer_links=[],
            theme=theme,
        )
    except OSError as error:
        raise UserError(f"port {port} cannot be used ({error}): choose another port=") from error
