"""Export a trained generator. Each file is compared with the generator before it is renamed to `out`."""

import copy
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from dcgan import __version__
from dcgan.checkpoints.io import FORMAT
from dcgan.common.atomic_files import atomic_folder, atomic_path
from dcgan.common.errors import UserError
from dcgan.common.hub import HubRepository
from dcgan.common.image_grid import image_grid, save_png
from dcgan.common.schema import read_json
from dcgan.exporting.model_card import EVALUATION, model_card
from dcgan.sampling.locate import CONFIG, HUB_EVALUATION, HUB_WEIGHTS
from dcgan.sampling.trained_generator import TrainedGenerator, build_generator

if TYPE_CHECKING:
    from onnx_ir import Model

TOLERANCE = 1e-4  # absolute, for values in [-1, 1] or [0, 1]
CHECKED_BATCH_SIZES = (1, 3, 64)
TRACED_BATCH_SIZE = 2  # torch.export would take a batch size of 1 for a constant
BATCH = "batch"  # the name of the first dimension
LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
Inputs = tuple[Tensor, ...]


def with_license(generator: TrainedGenerator, license_id: str | None) -> TrainedGenerator:
    """Return the generator with a license of its weights; None: that of an earlier export, if any.

    Raises:
        UserError: The license is not an identifier.
    """
    if license_id is None:
        return generator
    if not (isinstance(license_id, str) and LICENSE.fullmatch(license_id)):
        raise UserError(f"license must be an identifier such as apache-2.0 or cc-by-4.0, got {license_id!r}")
    return replace(generator, facts=generator.facts | {"license": license_id})


def round_to_float16(generator: TrainedGenerator) -> TrainedGenerator:
    """Return the generator with weights that float16 represents, so that `write_weights` needs half the bytes."""
    network = copy.deepcopy(generator.network).half().float()
    return replace(generator, network=network, facts=generator.facts | {"dtype": "float16"})


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
    program = torch.export.export(network, inputs, dynamic_shapes=[{0: Dim(BATCH)}] * len(inputs))
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
    program.model.metadata_props.update(onnx_metadata(generator, names))
    rename_batch_dimension(program.model)
    for node in program.model.graph:
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)
    with atomic_path(out) as temporary:
        program.save(temporary, external_data=False)
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])

        def run(inputs: Inputs) -> Tensor:
            feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
            return torch.from_numpy(session.run(None, feed)[0])

        return check_export(generator, run, "with onnxruntime against PyTorch")


def onnx_metadata(generator: TrainedGenerator, inputs: list[str]) -> dict[str, str]:
    """Return what a program needs to know to use the network."""
    network, facts = generator.network, generator.facts
    return {
        "library": f"dcgan {__version__}",
        "inputs": ", ".join(inputs),
        "prior": str(network.prior),
        "latent_dim": str(network.latent_dim),
        "classes": str(network.classes),
        "pixel_range": f"[{generator.pixels.low:g}, 1]",
        "to_uint8": generator.pixels.decode_formula,
        **{name: str(facts[name]) for name in ("dataset", "step", "weights", "license") if facts[name] is not None},
    }


def rename_batch_dimension(model: "Model") -> None:
    """Give the first dimension of inputs and outputs its name. PyTorch calls it s6 or the like."""
    import onnx_ir

    (symbol,) = {value.shape[0] for value in model.graph.inputs if value.shape is not None}
    values = [*model.graph.inputs, *(output for node in model.graph for output in node.outputs)]
    for value in values:
        if value.shape is not None:
            dims = [onnx_ir.SymbolicDim(BATCH) if dim == symbol else dim for dim in value.shape]
            value.shape = onnx_ir.Shape(dims)


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
    own = {"library": "dcgan", "version": __version__, "format": FORMAT, "file": out.name}
    content = own | generator.facts | own  # the generator of an export has the facts of that file
    weights = {name: tensor.contiguous() for name, tensor in generator.network.state_dict().items()}
    if generator.facts["dtype"] == "float16":
        weights = {name: x.half() if x.is_floating_point() else x for name, x in weights.items()}
    with atomic_path(out.with_name(CONFIG)) as config, atomic_path(out) as temporary:
        config.write_text(json.dumps(content, indent=2) + "\n")
        temporary.write_bytes(save(weights))  # a file of save_file is readable by its owner only
        network = build_generator(load_file(temporary), json.loads(config.read_text()))
        return check_export(generator, lambda inputs: network(*inputs), "by reading it back")


def write_hub_folder(out: Path, generator: TrainedGenerator, evaluation: Path) -> str:
    """Write a folder for a model hub: weights, config, samples, the evaluation, if any, and a model card."""
    return write_folder(out, generator, evaluation, out.name)


def write_folder(out: Path, generator: TrainedGenerator, evaluation: Path, name: str) -> str:
    """Write a folder for a model hub, whose model card loads `name`."""
    grid, metrics = image_grid(generator.sample(64)), read_evaluation(evaluation, generator)
    with atomic_folder(out) as temporary:
        checked = write_weights(temporary / HUB_WEIGHTS, generator)
        save_png(temporary / "samples.png", grid)
        if metrics is not None:
            (temporary / HUB_EVALUATION).write_text(json.dumps(metrics, indent=2) + "\n")
        (temporary / "README.md").write_text(model_card(generator, metrics, name))
    return checked


def upload(repository: HubRepository, generator: TrainedGenerator, evaluation: Path) -> str:
    """Upload the files of `write_hub_folder`. Return the lines to print."""
    with TemporaryDirectory() as folder:
        out = Path(folder, "generator")
        checked = write_folder(out, generator, evaluation, str(repository))
        return f"{checked}\naddress      {repository.upload(out)}"


def read_evaluation(path: Path, generator: TrainedGenerator) -> dict | None:
    """Return the evaluation of the generator; None if there is no file, or it is of other weights."""
    try:
        evaluation = read_json(path, EVALUATION)
    except UserError:
        return None
    is_same = all(evaluation["checkpoint"][name] == generator.facts[name] for name in ("step", "weights", "seed"))
    return evaluation if is_same else None


WRITERS: dict[str, Callable[[Path, TrainedGenerator, Path], str]] = {
    ".onnx": write_onnx,
    ".safetensors": write_safetensors,
    ".pt2": write_pt2,
    "": write_hub_folder,
}
