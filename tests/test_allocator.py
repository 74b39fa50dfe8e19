"""Memory that is freed and asked for again comes from the process, not from the kernel."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")

FAULTS = """
import resource
from dcgan.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(40):
        bytearray(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

as_it_comes = faults()
keep_freed_memory()
faults()  # what it keeps, it must first have
print(as_it_comes, faults())
"""


def faults(**environment: str) -> tuple[int, int]:
    process = subprocess.run(
        [sys.executable, "-c", FAULTS], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    as_it_comes, kept = map(int, process.stdout.split())
    return as_it_comes, kept


def test_freed_memory_is_kept():
    as_it_comes, kept = faults()
    assert kept * 20 < as_it_comes


def test_a_users_own_settings_of_malloc_stay():
    as_it_comes, kept = faults(MALLOC_MMAP_THRESHOLD_="65536")
    assert kept * 2 > as_it_comes
