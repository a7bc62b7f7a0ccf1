"""The job `export`: copy what is kept, list what is not. Nothing is deleted."""

import time
from collections import Counter
from typing import Any

from neardup import storage
from neardup.config import ExportJob
from neardup.errors import RunError, UsageError
from neardup.stages import exporting
from neardup_jobs.dedup import _since
from neardup_jobs.progress import Style, stage


def run_export(job: ExportJob, style: Style) -> dict[str, Any]:
    """Write the survivors and the delete list of an output; gives what was done."""
    if job.survivors is None and job.delete_list is None:
        raise UsageError("nothing to export; give --survivors DEST, --delete-list FILE or both")
    if job.form not in exporting.FORMS:
        raise UsageError(f"unknown --as {job.form!r}; known are {', '.join(exporting.FORMS)}")
    begun = time.perf_counter()
    root = storage.absolute(job.output)
    decided = exporting.read_decided(root, job.output)
    if job.delete_list is not None:
        exporting.check_place(job.delete_list, decided)
        listed = exporting.delete_list(job.delete_list, decided)
    summary: dict[str, Any] = {"job": "export", "output": root, "delete_list": job.delete_list}
    if job.survivors is not None:
        exporting.check_place(job.survivors, decided, root)
        summary["survivors"] = _survivors(storage.absolute(job.survivors), decided, job, style)
    if job.delete_list is not None:  # last: what is to go is not named before what stays is safe
        folder, _, name = storage.absolute(job.delete_list).rpartition("/")
        storage.write(folder, name, listed)
    saved = exporting.saved(decided)
    return {**summary, "dropped": saved.items, "bytes_saved": saved.bytes, "seconds": _since(begun)}


def _survivors(dest: str, decided: exporting.Decided, job: ExportJob, style: Style) -> dict[str, Any]:
    survivors = exporting.survivors(decided, not job.without_errors)
    done: Counter[str] = Counter()
    failures: list[str] = []
    with stage(style, "export", len(survivors), "items") as advance:
        for receipt in exporting.FORMS[job.form](dest, survivors):
            done.update(written=receipt.written, there=receipt.there, missing=receipt.missing)
            failures += receipt.failures
            advance(receipt.items, receipt.bytes, len(receipt.failures))
    if failures:
        raise RunError(f"{len(failures):,} of {len(survivors):,} items could not be exported, first: {failures[0]}")
    return {"folder": dest, "items": len(survivors), **done}


def show_export(summary: dict[str, Any]) -> None:
    """What was done, on standard output."""
    if done := summary.get("survivors"):
        files = f"{done['written']:,} files written, {done['there']:,} there already, {done['missing']:,} missing"
        print(f"survivors: {done['items']:,} items in {done['folder'].removeprefix('file://')} ({files})")
    if summary["delete_list"]:
        print(f"delete list: {summary['delete_list']}; nothing was deleted")
    print(f"not kept: {summary['dropped']:,} items, {summary['bytes_saved']:,} bytes saved without them")
