"""The page of `python -m dcgan.explore`: sliders, the image they draw, and what the judge takes it for."""

from typing import TYPE_CHECKING, Any

from jaxtyping import UInt8
from torch import Tensor

from dcgan.checks import UserError, check_int, check_ints
from dcgan.grids import as_image, enlarge, fitting_factor, rgb
from dcgan.metrics.judge import Judge
from dcgan.modes.walks import direction_vectors
from dcgan.trained import TrainedGenerator

if TYPE_CHECKING:
    import gradio as gr
    from PIL.Image import Image

LARGEST_SEED = 999
EXTENT = 4.0  # standard deviations of a normal prior
KEPT_SECONDS = 600  # after which the pictures that gradio keeps on disk are removed
LIVE = "always_last"  # of the places that a slider passes, the last one is drawn


class Explorer:
    """One image at a time.

    judge: None: there is no verdict. along, directions: two directions of z, as `dcgan.modes.walks.Traverse`'s.
    """

    def __init__(self, generator: TrainedGenerator, judge: Judge | None, along: str, directions: list[int]) -> None:
        check_ints("directions", directions, 0)
        if len(directions) != 2:
            raise ValueError(f"directions must be two, got {directions}")
        self.generator, self.judge, self.directions = generator, judge, directions
        self.axes = direction_vectors(generator.network, along, directions)

    def draw(
        self, seed: int, truncation: float, label: int | None, first: float, second: float
    ) -> UInt8[Tensor, "1 c h w"]:
        """The image of the seed's z, times `truncation`, moved so far along the two directions."""
        check_int("seed", seed, 0)
        z = truncation * self.generator.z(1, seed) + first * self.axes[:1] + second * self.axes[1:]
        return next(self.generator.draw(z, self.generator.labels(1, seed, label), 1))

    def look(
        self, seed: float, truncation: float, label: str | None, first: float, second: float
    ) -> tuple["Image", dict[str, float]]:
        """What the page shows of its sliders: the picture, and the judge's probability of each class."""
        image = self.draw(int(seed), truncation, None if label is None else int(label), first, second)
        picture = rgb(image)[0]
        shares = [] if self.judge is None else self.judge(image).logits.softmax(dim=1)[0].tolist()
        return as_image(enlarge(picture, fitting_factor(picture))), {str(digit): s for digit, s in enumerate(shares)}


def page(explorer: Explorer) -> "gr.Blocks":
    import gradio as gr

    facts, classes = explorer.generator.facts, explorer.generator.classes
    one, two = explorer.directions
    with gr.Blocks(
        title="DCGAN explorer", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)
    ) as blocks:
        gr.Markdown(f"### {facts['choices']['model']}, {facts['dataset']}, step {facts['step']:,}")
        with gr.Row():
            with gr.Column():
                seed = gr.Slider(0, LARGEST_SEED, 0, step=1, label="seed")
                truncation = gr.Slider(0, 2, 1, step=0.05, label="truncation (times z)")
                label = gr.Radio([str(k) for k in range(classes)], value="0" if classes else None, label="label")
                label.visible = classes > 0
                first = gr.Slider(-EXTENT, EXTENT, 0, step=0.1, label=f"direction {one}")
                second = gr.Slider(-EXTENT, EXTENT, 0, step=0.1, label=f"direction {two}")
            with gr.Column():
                image = gr.Image(label="image", format="png", interactive=False, height=400, buttons=["download"])
                verdict = gr.Label(label="the judge's verdict", num_top_classes=3, visible=explorer.judge is not None)
        inputs: list[Any] = [seed, truncation, label, first, second]
        gr.on(
            [blocks.load, *(control.change for control in inputs)],
            explorer.look,
            inputs,
            [image, verdict],
            show_progress="hidden",
            trigger_mode=LIVE,
        )
    return blocks


def launch(explorer: Explorer, host: str, port: int, browser: bool) -> None:
    """Serve the page until Ctrl-C. UserError where the port is taken."""
    import gradio as gr

    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # fetched from nowhere
    try:
        page(explorer).launch(
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
