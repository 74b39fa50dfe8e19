"""A trained generator in the formats of others. A file is checked against the generator before it takes its name."""

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from dcgan import __version__
from dcgan.checks import UserError
from dcgan.files import atomic_folder, atomic_path
from dcgan.grids import enlarge, fitting_factor, image_grid, write_png
from dcgan.model_card import model_card
from dcgan.trained import CONFIG, FORMAT, HUB_WEIGHTS, TrainedGenerator, network_of
from dcgan.upsampling import UpsampleConv

LARGEST_DIFFERENCE = 1e-4  # of values in [-1, 1] or [0, 1], from the generator's own
SIZES = (1, 3, 64)  # of batches that are compared
EXAMPLE = 2  # images that a graph is traced with: of one, the batch would be taken for a constant

Inputs = tuple[Tensor, ...]


def inputs_of(generator: TrainedGenerator, n: int) -> Inputs:
    """z, and labels where there are some: what the network is called with."""
    labels = generator.labels(n, 0)
    return (generator.z(n, 0),) if labels is None else (generator.z(n, 0), labels)


def largest_difference(generator: TrainedGenerator, run: Callable[[Inputs], Tensor]) -> float:
    """Between the network's images and those of `run`. UserError where it is too large."""
    with torch.no_grad():
        worst = max(
            (generator.network(*inputs) - run(inputs)).abs().max().item()
            for inputs in (inputs_of(generator, n) for n in SIZES)
        )
    if not worst <= LARGEST_DIFFERENCE:
        raise UserError(f"the export differs from the generator by up to {worst:.2g}: it was not written")
    return worst


def exported_program(generator: TrainedGenerator) -> ExportedProgram:
    """The graph for batches of any size, without the paths of the source files that it was traced from."""
    # torch.export calls a weight in another memory format incomplete
    network: nn.Module = copy.deepcopy(generator.network).to(memory_format=torch.contiguous_format)
    for name, module in list(network.named_modules()):
        if isinstance(module, UpsampleConv):
            network.set_submodule(name, module.with_constant_weights())
    inputs = inputs_of(generator, EXAMPLE)
    program = torch.export.export(network, inputs, dynamic_shapes=[{0: Dim("batch")}] * len(inputs))
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


def onnx(out: Path, generator: TrainedGenerator, evaluation: Path) -> str:
    """An ONNX graph: z (and label) to images in the network's range."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"out={out} needs ONNX, which is not installed: pip install 'dcgan[onnx]'") from error
    names = ["z", "label"][: len(inputs_of(generator, 1))]
    program = torch.onnx.export(
        exported_program(generator), (), dynamo=True, input_names=names, output_names=["images"], verbose=False
    )
    assert program is not None  # None is for the exporter without dynamo
    program.model.metadata_props.update(
        {"library": f"dcgan {__version__}", "pixel_range": f"[{generator.pixels.low:g}, 1]"}
        | {name: str(generator.facts[name]) for name in ("dataset", "step", "weights")}
    )
    for node in program.model.graph:
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)
    with atomic_path(out) as temporary:
        program.save(temporary, external_data=False)
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])

        def run(inputs: Inputs) -> Tensor:
            feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
            return torch.from_numpy(session.run(None, feed)[0])

        worst = largest_difference(generator, run)
    return f"checked      against PyTorch with onnxruntime: at most {worst:.1g} apart"


def pt2(out: Path, generator: TrainedGenerator, evaluation: Path) -> str:
    """A torch.export archive: torch.export.load(out).module()(z) needs no dcgan."""
    buffer = io.BytesIO()  # torch's writer of files ends the process where the disk is full
    torch.export.save(exported_program(generator), buffer)
    module = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    worst = largest_difference(generator, lambda inputs: module(*inputs))
    with atomic_path(out) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return f"checked      against the generator: at most {worst:.1g} apart"


def safetensors(out: Path, generator: TrainedGenerator, evaluation: Path) -> str:
    """The weights, and a config.json beside them: what `load_generator` reads."""
    config = out.with_name(CONFIG)
    if config.exists() and not belongs_to(config, out):
        raise UserError(f"{config} belongs to something else, and this export needs that name: choose another folder")
    return write_weights(out, generator)


def belongs_to(config: Path, weights: Path) -> bool:
    try:
        return json.loads(config.read_text()).get("file") == weights.name
    except (ValueError, AttributeError):
        return False


def write_weights(out: Path, generator: TrainedGenerator) -> str:
    from safetensors.torch import load_file, save

    about = {"library": "dcgan", "version": __version__, "format": FORMAT, "file": out.name, **generator.facts}
    weights = {name: tensor.contiguous() for name, tensor in generator.network.state_dict().items()}
    with atomic_path(out.with_name(CONFIG)) as config, atomic_path(out) as temporary:
        config.write_text(json.dumps(about, indent=2) + "\n")
        temporary.write_bytes(save(weights))  # save_file would let nobody else read it
        again = network_of(load_file(temporary), json.loads(config.read_text()))
        worst = largest_difference(generator, lambda inputs: again(*inputs))
    return f"checked      by reading it back: at most {worst:.1g} apart"


def hub_folder(out: Path, generator: TrainedGenerator, evaluation: Path) -> str:
    """A folder ready for a model hub: weights, config, samples and a model card with the figures of the evaluation."""
    grid = image_grid(generator.sample(64))
    with atomic_folder(out) as temporary:
        checked = write_weights(temporary / HUB_WEIGHTS, generator)
        write_png(temporary / "samples.png", enlarge(grid, fitting_factor(grid)))
        (temporary / "README.md").write_text(model_card(generator, read_evaluation(evaluation, generator)))
    return checked


def read_evaluation(path: Path, generator: TrainedGenerator) -> dict | None:
    """The evaluation of these very weights, where there is one."""
    try:
        found = json.loads(path.read_text())
        same = all(found["checkpoint"][name] == generator.facts[name] for name in ("step", "weights", "seed"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if same else None


WRITERS: dict[str, Callable[[Path, TrainedGenerator, Path], str]] = {
    ".onnx": onnx,
    ".safetensors": safetensors,
    ".pt2": pt2,
    "": hub_folder,
}
