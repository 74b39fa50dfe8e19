import pytest

from dcgan.common import cpu
from dcgan.common.cpu import CoreUsage, computes_bf16, thread_advice


@pytest.fixture
def usage(monkeypatch):
    """Return a function: the usage after 10 s, in which all programs and this one used these core seconds."""

    def after_10_seconds(cores: int, busy: float, own: float) -> CoreUsage:
        usage = CoreUsage()
        usage.cores, usage.start = set(range(cores)), (0.0, 0.0, 0.0)
        monkeypatch.setattr(cpu.time, "monotonic", lambda: 10.0)
        monkeypatch.setattr(cpu.time, "process_time", lambda: own)
        monkeypatch.setattr(CoreUsage, "busy_seconds", lambda self: busy)
        return usage

    return after_10_seconds


@pytest.mark.parametrize(
    ("threads", "cores", "busy", "own", "advice"),
    [
        (2, 2, 10, 10, ""),  # this program alone
        (2, 2, 19, 9, "2, but other programs use 1.0 of 2 cores: OMP_NUM_THREADS=1 before the command"),
        (2, 2, 20, 0, "2, but other programs use 2.0 of 2 cores: OMP_NUM_THREADS=1"),
        (1, 2, 20, 0, ""),  # it cannot use less
        (8, 8, 24, 4, "8, but other programs use 2.0 of 8 cores: OMP_NUM_THREADS=6"),
        (2, 2, 4, 0, ""),  # less than half a core is noise
        (4, 0, 0, 0, ""),  # not Linux: unknown
    ],
)
def test_advice_is_given_if_threads_outnumber_the_free_cores(usage, threads, cores, busy, own, advice):
    text = thread_advice(threads, usage(cores, busy, own))
    assert text.startswith(advice)
    assert bool(text) == bool(advice)


def test_short_interval_gives_no_advice():
    assert CoreUsage().by_others() == 0


def test_own_work_is_not_that_of_others(monkeypatch):
    monkeypatch.setattr(cpu, "MIN_SECONDS", 0)
    usage = CoreUsage()
    if not usage.cores:
        pytest.skip("no /proc/stat")
    before = usage.start[1]
    while cpu.time.process_time() - usage.start[2] < 0.1:
        pass
    assert usage.busy_seconds() - before >= 0.05
    assert 0 <= usage.by_others() <= len(usage.cores)


@pytest.mark.parametrize(
    ("flags", "limit", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16\n", None, True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", "all", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", "AVX512_CORE_AMX", True),
        ("flags\t\t: fpu amx_bf16 avx512_bf16\n", "AVX2", False),
        ("flags\t\t: fpu avx512f bf16\n", None, False),
        ("processor\t: 0\n", None, False),  # another architecture
        (None, None, False),  # no such file
    ],
)
def test_computes_bf16(tmp_path, monkeypatch, flags, limit, expected):
    monkeypatch.setattr(cpu, "CPU_INFO", tmp_path / "cpuinfo")
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    if limit is not None:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert computes_bf16() == expected
