"""Memory that is freed and asked for again comes from the process, not from the kernel."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
from dcgan.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        bytearray(2**26)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

as_it_comes = faults()
keep_freed_memory()
faults()  # what it keeps, it must first have
print(as_it_comes, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_kept():
    said = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout
    as_it_comes, kept = map(int, said.split())
    assert kept * 20 < as_it_comes
