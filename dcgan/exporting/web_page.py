"""The web page of `python -m dcgan.explore`: a grid of seeds, one image with sliders, and a walk between two seeds."""

import os
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import torch
from jaxtyping import UInt8
from PIL.Image import Image
from torch import Tensor

from dcgan.common.arg_checks import check_int, check_ints
from dcgan.common.errors import UserError
from dcgan.common.image_grid import enlarge, image_grid, to_pil, to_rgb
from dcgan.metrics.judge import Judge
from dcgan.sampling.latent_walks import direction_vectors, slerp
from dcgan.sampling.trained_generator import TrainedGenerator

if TYPE_CHECKING:
    import gradio as gr
    from starlette.types import ASGIApp, Receive, Scope, Send

GRID_IMAGES = 20
# as many columns of the grid as the window has room for
CSS = ".grid-container {grid-template-columns: repeat(auto-fill, minmax(100px, 1fr)) !important}"
WALK_IMAGES = 10
MAX_SEED = 999
EXTENT = 4.0  # standard deviations of a normal prior
CACHE_SECONDS = 600  # how long gradio keeps pictures on disk
LOCAL_NAMES = ("127.0.0.1", "localhost")


class Explorer:
    """Generates the images that the controls select.

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

    def z(self, seed: float, length: float) -> Tensor:
        """Return the latent vector of a seed times `length`."""
        check_int("seed", int(seed), 0)
        return length * self.generator.z(1, int(seed))

    def generate(self, z: Tensor, label: str | None) -> UInt8[Tensor, "n c h w"]:
        """Return the images of z; a conditional model gets the label."""
        labels = self.generator.labels(len(z), 0, None if label is None else int(label))
        return torch.cat(list(self.generator.generate(z, labels)))

    def render(
        self, seed: float, length: float, label: str | None, first: float, second: float
    ) -> tuple[Image, dict[str, float]]:
        """Return the picture of one seed, moved along the two directions, and the judge's probability of each class."""
        image = self.generate(self.z(seed, length) + first * self.axes[:1] + second * self.axes[1:], label)
        probabilities = [] if self.judge is None else self.judge.classify(image).softmax(dim=1)[0].tolist()
        return to_picture(to_rgb(image)[0]), {str(k): p for k, p in enumerate(probabilities)}

    def grid(self, start: float, length: float, label: str | None) -> list[tuple[Image, str]]:
        """Return the pictures of consecutive seeds, and their captions."""
        seeds = range(int(start), int(start) + GRID_IMAGES)
        images = to_rgb(self.generate(torch.cat([self.z(seed, length) for seed in seeds]), label))
        return [(to_picture(image, width=128), str(seed)) for image, seed in zip(images, seeds, strict=True)]

    def walk(self, start: float, end: float, length: float, label: str | None) -> Image:
        """Return a row of images from one seed to another, on the sphere."""
        ends = self.z(start, length), self.z(end, length)
        z = torch.cat([slerp(*ends, t) for t in torch.linspace(0, 1, WALK_IMAGES).tolist()])
        return to_picture(image_grid(self.generate(z, label), WALK_IMAGES), width=1000)


def to_picture(image: UInt8[Tensor, "3 h w"], width: int = 512) -> Image:
    """Return the image enlarged to about `width` pixels."""
    return to_pil(enlarge(image, max(1, round(width / image.shape[2]))))


class LocalRequests:
    """ASGI middleware that rejects requests which other web sites cause in the user's browser.

    Their Host is not this machine (a name that was rebound to 127.0.0.1), or their Origin is another page. The port may
    differ, as it does behind `ssh -L`.
    """

    def __init__(self, app: "ASGIApp") -> None:
        self.app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from starlette.datastructures import Headers
        from starlette.responses import PlainTextResponse

        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            host = headers.get("host", "")
            is_local = urlsplit(f"//{host}").hostname in LOCAL_NAMES
            if not is_local or headers.get("origin", f"http://{host}") != f"http://{host}":
                await PlainTextResponse("this page is for requests of this machine only", 403)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def build_page(explorer: Explorer) -> "gr.Blocks":
    import gradio as gr

    def select(event: gr.SelectData, start: float, seed: float) -> tuple[int, float, int]:
        """Return the clicked seed, and the seeds at both ends of the walk."""
        clicked = int(start) + int(event.index)
        return clicked, seed, clicked

    facts, classes, has_judge = explorer.generator.facts, explorer.generator.classes, explorer.judge is not None
    labels = [str(k) for k in range(classes)]
    with gr.Blocks(title="DCGAN explorer", analytics_enabled=False, delete_cache=(CACHE_SECONDS,) * 2) as blocks:
        gr.Markdown(
            f"### {facts['choices']['model']}, {facts['dataset']}, step {facts['step']:,}\n"
            "Click an image to see it below. The walk goes from the image before to the clicked one."
        )
        with gr.Row():
            start = gr.Slider(0, MAX_SEED + 1 - GRID_IMAGES, 0, step=GRID_IMAGES, label="first seed of the grid")
            length = gr.Slider(0, 2, 1, step=0.05, label="length of z (times)")
        label = gr.Radio(labels, value="0" if classes else None, label="label", visible=classes > 0)
        grid = gr.Gallery(
            label="seeds",
            format="png",
            height="max-content",  # for "auto" it would be 450 pixels
            allow_preview=False,
            interactive=False,
            buttons=[],
        )
        with gr.Row():
            with gr.Column():
                seed = gr.Slider(0, MAX_SEED, 0, step=1, label="seed")
                moves = [gr.Slider(-EXTENT, EXTENT, 0, step=0.1, label=f"direction {i}") for i in explorer.directions]
                prediction = gr.Label(label="the judge's prediction", num_top_classes=3, visible=has_judge)
            image = gr.Image(label="image", format="png", interactive=False, height=400, buttons=["download"])
        with gr.Row():
            with gr.Column(scale=1):
                ends = [
                    gr.Number(value, label=f"walk {name} seed", precision=0, minimum=0, maximum=MAX_SEED)
                    for name, value in (("from", 0), ("to", 1))
                ]
            walk = gr.Image(label="walk", format="png", interactive=False, buttons=["download"], scale=5)
        grid.select(select, [start, seed], [seed, *ends], show_progress="hidden")
        updates: list[tuple[Any, list[Any], list[Any]]] = [
            (explorer.grid, [start, length, label], [grid]),
            (explorer.render, [seed, length, label, *moves], [image, prediction]),
            (explorer.walk, [*ends, length, label], [walk]),
        ]
        for draw, inputs, outputs in updates:
            triggers = [blocks.load, *(control.change for control in inputs)]
            # while a slider moves, "always_last" skips all but its last value
            gr.on(triggers, draw, inputs, outputs, show_progress="hidden", trigger_mode="always_last")
    return blocks


def launch(explorer: Explorer, host: str, port: int, browser: bool) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        UserError: The port cannot be used.
    """
    # in a folder of this process: another user of the machine may own the default one
    with TemporaryDirectory(prefix="dcgan-explore-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
        import gradio as gr
        from starlette.middleware import Middleware

        theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # downloads no fonts
        page = build_page(explorer)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                inbrowser=browser,
                share=False,
                quiet=True,
                footer_links=[],
                theme=theme,
                css=CSS,
                app_kwargs={"middleware": [Middleware(LocalRequests)]},
                max_file_size=0,  # no uploads
            )
        except OSError as error:
            raise UserError(f"port {port} cannot be used ({error}): choose another port=") from error
