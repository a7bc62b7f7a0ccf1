"""Two drivers on one output, 1,000 runs each with random pauses and kills, on disk and on SeaweedFS: what was counted.

python benchmarks/commits.py                            all must be 0 in the column of faults
python benchmarks/commits.py --check-then-write         the same with a check followed by a write, which fails
python benchmarks/commits.py --runs 100 --store disk
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests import stores, two_drivers


def main() -> None:
    """Print one line of counts per store; ends with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="of each of the two drivers")
    parser.add_argument("--store", choices=["disk", "seaweed", "both"], default="both")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check-then-write", action="store_true")
    given = parser.parse_args()
    commit = two_drivers.by_writing if given.check_then_write else two_drivers.by_swap
    print("store    runs  commits  manifests  pauses  kills  refused  lost  failed  faults  seconds", flush=True)
    faults = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if given.store != "seaweed":
            faults += _show("disk", f"file://{folder}/out", given, commit)
        if given.store != "disk":
            (Path(folder) / "seaweed").mkdir()
            with stores.seaweed(Path(folder) / "seaweed") as url, stores.environment(url):
                stores.make_bucket("outputs")
                faults += _show("seaweed", "s3://outputs/fight", given, commit)
    print("\n".join(faults[:20]))
    sys.exit(1 if faults else 0)


def _show(store: str, root: str, given: argparse.Namespace, commit: two_drivers.Commit) -> list[str]:
    begun = time.monotonic()
    shown = two_drivers.fight(root, given.runs, given.seed, commit)
    counts = shown.counts
    runs = sum(counts[ending] for ending in ("done", "refused", "lost", "failed"))
    columns = [runs, counts["commits"], counts["manifests"], counts["pauses"], counts["kills"]]
    columns += [counts["refused"], counts["lost"], counts["failed"], len(shown.faults), round(time.monotonic() - begun)]
    widths = (6, 9, 11, 8, 7, 9, 6, 8, 8, 9)
    print(
        f"{store:7}" + "".join(f"{column:{width},}" for column, width in zip(columns, widths, strict=True)), flush=True
    )
    for text in sorted(text for text in counts if text.startswith("failed:")):
        print(f"    {text} ×{counts[text]}")
    return [f"{store}: {fault}" for fault in shown.faults]


if __name__ == "__main__":
    main()
