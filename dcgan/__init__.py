"""A laboratory for deep convolutional GANs: see, measure and change how a DCGAN works.

>>> from dcgan import load_generator
>>> images = load_generator("mnist").sample(64, seed=0)  # or a run's checkpoint, an export, "hub:USER/NAME"
"""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcgan.sampling.trained_generator import TrainedGenerator as TrainedGenerator
    from dcgan.sampling.trained_generator import load_generator as load_generator

__version__ = "0.1.0"
__all__ = ["TrainedGenerator", "load_generator"]


def __getattr__(name: str) -> Any:
    """Import torch on first use, so that the commands start without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dcgan.sampling import trained_generator

    return getattr(trained_generator, name)


def _report_error(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Report an interrupt in one line, and any other error as Python does."""
    if issubclass(kind, KeyboardInterrupt):
        print("error: interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


if sys.argv[:1] == ["-m"]:  # Python is about to import a command, which catches interrupts itself once it runs
    sys.excepthook = _report_error
