"""Export a trained generator. Each file is compared with the generator before it is renamed to `out`."""

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from dcgan import __version__
from dcgan.checkpoints.io import FORMAT
from dcgan.common.atomic_files import atomic_folder, atomic_path
from dcgan.common.errors import UserError
from dcgan.common.image_grid import image_grid, save_png
from dcgan.exporting.model_card import model_card
from dcgan.sampling.trained_generator import CONFIG, HUB_WEIGHTS, TrainedGenerator, build_generator

TOLERANCE = 1e-4  # absolute, for values in [-1, 1] or [0, 1]
CHECKED_BATCH_SIZES = (1, 3, 64)
TRACED_BATCH_SIZE = 2  # torch.export would take a batch size of 1 for a constant
Inputs = tuple[Tensor, ...]


def example_inputs(generator: TrainedGenerator, n: int) -> Inputs:
    """Return n inputs of the network: z, and labels if it is conditional."""
    labels = generator.labels(n, 0)
    return (generator.z(n, 0),) if labels is None else (generator.z(n, 0), labels)


def check_export(generator: TrainedGenerator, run: Callable[[Inputs], Tensor], method: str) -> str:
    """Compare the network's images with those of its export, which `run` calls. Return a line to print.

    Raises:
        UserError: The largest difference of a pixel is above `TOLERANCE`, or NaN.
    """
    with torch.no_grad():
        difference = max(
            (generator.network(*inputs) - run(inputs)).abs().max().item()
            for inputs in (example_inputs(generator, n) for n in CHECKED_BATCH_SIZES)
        )
    if not difference <= TOLERANCE:
        raise UserError(f"the export differs from the generator by up to {difference:.2g}: it was not written")
    return f"checked      {method}: largest difference {difference:.1g}"


def exported_program(generator: TrainedGenerator) -> ExportedProgram:
    """Return the graph for any batch size, without the paths of source files."""
    # torch.export reports weights in another memory format as incomplete
    network: nn.Module = copy.deepcopy(generator.network).to(memory_format=torch.contiguous_format)
    inputs = example_inputs(generator, TRACED_BATCH_SIZE)
    program = torch.export.export(network, inputs, dynamic_shapes=[{0: Dim("batch")}] * len(inputs))
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


# --- writers: write `out` and return the line of `check_export`; `evaluation` is the checkpoint's evaluation file


def write_onnx(out: Path, generator: TrainedGenerator, evaluation: Path) -> str:
    """Write an ONNX graph that maps z (and label) to images in the network's range."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"out={out} needs ONNX, which is not installed: pip install 'dcgan[onnx]'") from error
    names = ["z", "label"][: len(example_inputs(generator, 1))]
    program = torch.onnx.export(
        exported_program(generator), (), dynamo=True, input_names=names, output_names=["images"], verbose=False
    )
    assert program is not None  # it is None only with dynamo=False
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

        return check_export(generator, run, "with onnxruntime against PyTorch")


def write_pt2(out: Path, generator: TrainedGenerator, evaluation: Path) -> str:
    """Write a torch.export archive: torch.export.load(out).module()(z) runs without dcgan."""
    buffer = io.BytesIO()  # if the disk is full, PyTorch's file writer aborts the process
    torch.export.save(exported_program(generator), buffer)
    module = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    checked = check_export(generator, lambda inputs: module(*inputs), "against the generator")
    with atomic_path(out) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return checked


def write_safetensors(out: Path, generator: TrainedGenerator, evaluation: Path) -> str:
    """Write the weights, and a config.json next to them, for `load_generator`."""
    config = out.with_name(CONFIG)
    if config.exists() and not is_config_of(config, out):
        raise UserError(f"{config} is not the config of {out.name} and would be overwritten: choose another folder")
    return write_weights(out, generator)


def is_config_of(config: Path, weights: Path) -> bool:
    try:
        return json.loads(config.read_text()).get("file") == weights.name
    except (ValueError, AttributeError):
        return False


def write_weights(out: Path, generator: TrainedGenerator) -> str:
    content = {"library": "dcgan", "version": __version__, "format": FORMAT, "file": out.name, **generator.facts}
    weights = {name: tensor.contiguous() for name, tensor in generator.network.state_dict().items()}
    with atomic_path(out.with_name(CONFIG)) as config, atomic_path(out) as temporary:
        config.write_text(json.dumps(content, indent=2) + "\n")
        temporary.write_bytes(save(weights))  # a file of save_file is readable by its owner only
        network = build_generator(load_file(temporary), json.loads(config.read_text()))
        return check_export(generator, lambda inputs: network(*inputs), "by reading it back")


def write_hub_folder(out: Path, generator: TrainedGenerator, evaluation: Path) -> str:
    """Write a folder for a model hub: weights, config, samples, and a model card with the evaluation's metrics."""
    grid = image_grid(generator.sample(64))
    with atomic_folder(out) as temporary:
        checked = write_weights(temporary / HUB_WEIGHTS, generator)
        save_png(temporary / "samples.png", grid)
        (temporary / "README.md").write_text(model_card(generator, read_evaluation(evaluation, generator)))
    return checked


def read_evaluation(path: Path, generator: TrainedGenerator) -> dict | None:
    """Return the evaluation of the generator; None if there is no file, or it is of other weights."""
    try:
        evaluation = json.loads(path.read_text())
        matches = all(evaluation["checkpoint"][name] == generator.facts[name] for name in ("step", "weights", "seed"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return evaluation if matches else None


WRITERS: dict[str, Callable[[Path, TrainedGenerator, Path], str]] = {
    ".onnx": write_onnx,
    ".safetensors": write_safetensors,
    ".pt2": write_pt2,
    "": write_hub_folder,
}
