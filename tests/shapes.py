"""The checker behind the shapes in signatures: under pytest each call's tensors are held against them.

Only the annotations that name a shape are checked. The rest is mypy's work, and constructors must meet wrong types
with their own sentence, which a test can only see where the checker does not come first.
"""

from collections.abc import Callable

from beartype import beartype


def check(function: Callable) -> Callable:
    function.__annotations__ = {
        name: hint for name, hint in function.__annotations__.items() if "jaxtyping" in repr(hint)
    }
    return beartype(function)
