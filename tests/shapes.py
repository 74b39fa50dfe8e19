"""The runtime type checker that pytest applies to the package: it checks the shapes of tensors only.

mypy checks the other annotations. Constructors must be able to report wrong types in their own messages.
"""

from collections.abc import Callable

from beartype import beartype


def check(function: Callable) -> Callable:
    """Check the jaxtyping annotations of a function at each call."""
    function.__annotations__ = {
        name: hint for name, hint in function.__annotations__.items() if "jaxtyping" in repr(hint)
    }
    return beartype(function)
