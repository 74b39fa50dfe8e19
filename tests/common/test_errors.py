import pytest

from dcgan.common.errors import explain


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (MemoryError(), "too little memory (MemoryError): lower"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "too little memory"),
        (ImportError("libtorch.so: failed to map segment from shared object"), "raise the limit of this shell"),
        (PermissionError(13, "Permission denied", "a/b"), "a/b cannot be read or written: Permission denied"),
        (ValueError("one\n  sentence"), "one sentence"),
    ],
)
def test_error_is_explained_in_one_line(error, part):
    sentence = explain(error)
    assert sentence is not None
    assert part in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("error", [ImportError("no module named x"), RuntimeError("a bug"), KeyError("x")])
def test_bug_is_not_explained(error):
    assert explain(error) is None
