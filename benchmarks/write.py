"""Write docs/benchmarks.md: run the benchmarks and keep what they print.

    python benchmarks/write.py CORPUS PYTHON [NAME…]

CORPUS: a folder of images. PYTHON: an interpreter with the peers (perception[pdq], imagehash, faiss-cpu). With names,
only those sections are measured again; the others stay as they are.
"""

import os
import platform
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `python benchmarks/write.py CORPUS PYTHON`. Each section is what one script printed, with the machine it ran
on; figures of two scripts, or of two machines, are not comparable. CORPUS is a folder of images, PYTHON an interpreter
with the peers.
"""
RUNS = {
    "dedup": ("A whole run, and the killable child", ["benchmarks/dedup.py", "CORPUS", "--rounds", "3"]),
    "hashing": (
        "Hashers beside the references",
        ["benchmarks/hashing.py", "CORPUS", "--oracle", "PYTHON", "--limit", "40"],
    ),
    "conformance": (
        "Bits that differ from the references",
        ["benchmarks/conformance.py", "CORPUS", "--oracle", "PYTHON", "--limit", "100"],
    ),
    "join": ("The join", ["benchmarks/join.py", "--oracle", "PYTHON"]),
    "million": ("The join of a million", ["benchmarks/join.py", "--planned", "1000000", "--oracle", "PYTHON"]),
    "workers": ("The join on one worker and on two", ["benchmarks/join.py", "--stage", "1000000"]),
    "ten-million": ("The join of ten million", ["benchmarks/join.py", "--stage", "10000000", "--workers", "2"]),
    "real": ("Speed and recall on real hashes", ["benchmarks/recall.py", "CORPUS", "--peers", "PYTHON"]),
    "thresholds": ("What the recommended thresholds find", ["benchmarks/corpus_recall.py", "CORPUS"]),
    "crop": ("Rules of comparing crop-resistant hashes", ["benchmarks/crop_rules.py", "CORPUS"]),
    "benchmark": (
        "The benchmark job",
        ["benchmarks/benchmark_job.py", "CORPUS", "--oracle", "PYTHON", "--subset", "1000"],
    ),
    "synthetic": ("The benchmark of a million", ["benchmarks/benchmark_job.py", "--synthetic", "100000x1000000"]),
    "scores": (
        "Cells of METRICS beside the reference",
        ["benchmarks/conformance_benchmark.py", "CORPUS", "--oracle", "PYTHON"],
    ),
    "store": ("Hashing from an object store", ["benchmarks/store.py", "--rounds", "1", "--faults"]),
    "nightly": (
        "Nightly runs, and what interrupts them",
        ["benchmarks/incremental.py", "--sequences", "200", "--interruptions", "20"],
    ),
    "enrich": ("A million rows enriched", ["benchmarks/enrich.py"]),
    "flood": ("A flood of near duplicates", ["benchmarks/flood.py"]),
}


def main() -> None:
    corpus, oracle, *names = sys.argv[1:]
    sections = _sections(PAGE.read_text()) if PAGE.exists() else {}
    for name in names or RUNS:
        title, command = RUNS[name]
        given = [{"CORPUS": corpus, "PYTHON": oracle}.get(word, word) for word in command]
        done = subprocess.run([sys.executable, *given], capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):  # 1: a target was missed, which is printed
            sys.exit(f"{name} failed: {done.stderr}")
        text = done.stdout.replace(corpus, "CORPUS").replace(oracle, "PYTHON").rstrip()
        sections[title] = f"`python {' '.join(command)}`, {date.today()}, {_machine()}\n\n```text\n{text}\n```\n"
    order = [title for title, _ in RUNS.values()]
    body = [f"## {title}\n\n{sections[title].strip()}\n" for title in order if title in sections]
    PAGE.write_text("\n".join([HEAD, *body]))


def _machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else platform.processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _sections(page: str) -> dict[str, str]:
    parts = re.split(r"^## (.*)\n\n", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


if __name__ == "__main__":
    main()
