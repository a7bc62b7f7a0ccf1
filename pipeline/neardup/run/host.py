"""What this process may use of its machine: cores and memory, within the limits of its container."""

import os
from pathlib import Path, PurePosixPath

import psutil


def cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: the least of its affinity and the CPU quotas of its control groups."""
    quotas = [_quota_v2(folder) for folder in _groups(root, "")] + [
        _quota_v1(folder) for folder in _groups(root, "cpu")
    ]
    return max(1, int(min([float(len(os.sched_getaffinity(0))), *(quota for quota in quotas if quota)])))


def memory_bytes(root: Path = Path("/")) -> int:
    """Memory that this process may use: the least of the machine's and the limits of its control groups."""
    limits = [_number(folder / "memory.max") for folder in _groups(root, "")]
    limits += [_number(folder / "memory.limit_in_bytes") for folder in _groups(root, "memory")]
    return min([int(psutil.virtual_memory().total), *(limit for limit in limits if limit)])


def _groups(root: Path, controller: str) -> list[Path]:
    """The folders of this process's control group and of those above it; `controller` is empty for version 2."""
    top = root / "sys/fs/cgroup"
    tops = (
        [top]
        if not controller
        else [top / controller, top / "cpu,cpuacct"]
        if controller == "cpu"
        else [top / controller]
    )
    named = PurePosixPath("/")
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            named = PurePosixPath(path)
    # inside a container the path is often that of the host, which is not mounted: the top is then the container's own
    paths = [named, *named.parents]
    return [folder for top in tops for path in paths if (folder := top / str(path).lstrip("/")).is_dir()]


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.strip().isdigit() else None


def _quota_v1(folder: Path) -> float | None:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period else None


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdigit() else None  # "max" and -1 are no limit


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
