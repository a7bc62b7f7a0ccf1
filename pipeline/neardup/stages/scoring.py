"""DISTANCES, METRICS, RATES and CURVES of a benchmark: what every threshold of a hasher finds and lets through."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from neardup import tables
from neardup.hashers import folder_label
from neardup.metrics.rates import Exemplars, Pairs, Rate, curve, recall_at
from neardup.metrics.rules import rule
from neardup.stages.live import Maker
from neardup.stages.nearing import Near, NearTask, collect, groups
from neardup.stages.originals import Originals, read_originals

TABLES = ("metrics", "rates", "curves")


@dataclass(frozen=True)
class Wanted:
    """By what rules thresholds are chosen."""

    fpr: tuple[float, ...] = (0.001,)  # the first is that of the recommended threshold
    fpr_threshold: float = 1e-4
    precision_threshold: float = 99.9


class ScoreTask(NamedTuple):
    """One hasher, all of whose tiles are done."""

    root: str
    tiles: tuple[NearTask, ...]
    originals: tuple[str, ...]  # parts
    transforms: tuple[tuple[str, str], ...]  # names and canonical texts
    stamp: tuple[Any, ...]
    wanted: Wanted


class Scored(NamedTuple):
    """The parts that a task wrote, by table folder."""

    spec: str
    parts: dict[str, list[str]]


def check_wanted(wanted: Wanted) -> None:
    """Raises UsageError for limits that cannot be meant."""
    rule(None, wanted.fpr_threshold, "ranked")
    rule(wanted.precision_threshold, None, "ranked")
    for rate in wanted.fpr:
        rule(None, rate, "ranked")


def score_task(
    root: str,
    maker: Maker,
    tiles: Sequence[NearTask],
    parts: Sequence[str],
    transforms: Mapping[str, str],
    wanted: Wanted,
) -> ScoreTask:
    """The task of one hasher; `transforms` are canonical texts by name."""
    return ScoreTask(root, tuple(tiles), tuple(parts), tuple(transforms.items()), tuple(maker.stamp), wanted)


def score(task: ScoreTask) -> Scored:
    """Write the DISTANCES, METRICS, RATES and CURVES of one hasher."""
    spec = str(task.stamp[0])
    originals = read_originals(task.root, task.originals)
    made_by = {
        "hasher": list(task.stamp),
        "transforms": [list(each) for each in task.transforms],
        "fpr": list(task.wanted.fpr),
    }
    folder = f"distances/hasher={folder_label(spec)}"
    if not task.tiles:
        return Scored(spec, {})
    near = collect(task.root, task.tiles)
    names = [name for name, _ in task.transforms]
    cells = [_cell(near, *found) for found in groups(near)]
    rows = pa.concat_tables(_distances(cell, near, originals, names) for cell in cells)
    parts = {folder: tables.write_chunks(task.root, folder, rows, made_by)}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for group, chosen in _grouped(cells, originals, names):
        _score_group({"hasher": spec, **group}, chosen, near.values, task.wanted, found)
    schemas = {"metrics": tables.METRICS, "rates": tables.RATES, "curves": tables.CURVES}
    for name, schema in schemas.items():
        parts[name] = tables.write_chunks(task.root, name, pa.Table.from_pylist(found[name], schema=schema), made_by)
    return Scored(spec, parts)


def with_scores(
    manifest: Mapping[str, list[str]], originals: Sequence[str], scored: Sequence[Scored]
) -> dict[str, list[str]]:
    """The manifest with the tables of this benchmark in place of an earlier one's."""
    replaced = ("originals", *TABLES)
    kept = {k: v for k, v in manifest.items() if k not in replaced and not k.startswith("distances/")}
    for one in scored:
        for folder, names in one.parts.items():
            kept[folder] = kept.get(folder, []) + names
    return {**kept, "originals": list(originals)}


# --- exemplars --------------------------------------------------------------------------------------------------------


class _Cell(NamedTuple):
    """The altered pictures of one category and transform."""

    category: int
    transform: int
    exemplars: Exemplars
    hashes: np.ndarray  # int64: how many each picture has
    incorrect_row: np.ndarray  # row of the work file, -1 for none
    pairs: np.ndarray


def _cell(near: Near, category: int, transform: int, rows: slice, pairs: np.ndarray) -> _Cell:
    """The smallest distances of each picture, of whose hashes the rows are."""
    owners = near.owners[rows]
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    correct, incorrect = (np.fmin.reduceat(column[rows], starts) for column in near.nearest[:2])
    hashes = np.diff(np.append(starts, len(owners)))
    nearest = near.nearest.incorrect[rows] == np.repeat(incorrect, hashes)
    first = np.minimum.reduceat(np.where(nearest, np.arange(len(owners)), len(owners)), starts)
    row = np.where(first < len(owners), near.nearest.incorrect_row[rows][np.minimum(first, len(owners) - 1)], -1)
    return _Cell(category, transform, Exemplars(owners[starts], correct, incorrect), hashes, row, pairs)


def _distances(cell: _Cell, near: Near, originals: Originals, names: Sequence[str]) -> pa.Table:
    exemplars = cell.exemplars
    n = len(exemplars.owners)
    others = near.owners[np.maximum(cell.incorrect_row, 0)]
    columns = [
        originals.uris.take(pa.array(exemplars.owners)),
        pa.repeat(originals.names[cell.category], n),
        pa.repeat(names[cell.transform], n),
        pa.array(cell.hashes, pa.int32()),
        pa.array(exemplars.correct, from_pandas=True),  # NaN becomes null
        pa.array(exemplars.incorrect, from_pandas=True),
        originals.uris.take(pa.array(others, mask=cell.incorrect_row < 0)),
    ]
    return pa.table(columns, schema=tables.DISTANCES)


def _grouped(
    cells: Sequence[_Cell], originals: Originals, names: Sequence[str]
) -> Iterator[tuple[dict[str, str | None], list[_Cell]]]:
    """Each category and transform, each transform, and all together."""
    for cell in cells:
        yield {"category": originals.names[cell.category], "transform": names[cell.transform]}, [cell]
    for transform in sorted({cell.transform for cell in cells}):
        chosen = [cell for cell in cells if cell.transform == transform]
        yield {"category": None, "transform": names[transform]}, chosen
    yield {"category": None, "transform": None}, list(cells)


# --- scores -----------------------------------------------------------------------------------------------------------


def _score_group(
    group: dict[str, str | None],
    cells: Sequence[_Cell],
    values: np.ndarray,
    wanted: Wanted,
    found: dict[str, list[dict[str, Any]]],
) -> None:
    """Add the rows of one group to each table."""
    exemplars = Exemplars(*(np.concatenate(column) for column in zip(*(cell.exemplars for cell in cells), strict=True)))
    pairs = Pairs(values, np.sum([cell.pairs for cell in cells], axis=0))
    found["metrics"].append(
        {
            **group,
            "n_exemplars": int(sum(cell.hashes.sum() for cell in cells)),
            "n_altered": len(exemplars.owners),
            "n_originals": len(np.unique(exemplars.owners)),
            "pairs": int(pairs.counts.sum()),
            **_by_rules(exemplars, wanted),
        }
    )
    of_group = {key: value for key, value in group.items() if key != "hasher"}  # all hashers get the same draws
    seed = int.from_bytes(blake2b(repr(of_group).encode(), digest_size=8).digest())
    found["rates"] += [{**group, **_rate(rate)} for rate in recall_at(exemplars, pairs, wanted.fpr, seed)]
    drawn = curve(exemplars, pairs)
    for threshold, recall, queries, of_pairs in zip(*(column.tolist() for column in drawn), strict=True):
        point = {"threshold": threshold, "recall": 100 * recall, "fpr_queries": queries, "fpr_pairs": _known(of_pairs)}
        found["curves"].append({**group, **point})


def _by_rules(exemplars: Exemplars, wanted: Wanted) -> dict[str, float | None]:
    """Threshold, recall and accuracy by the reference's rules, as METRICS names them."""
    row: dict[str, float | None] = {}
    rules = {
        ("", "fpr", ""): rule(None, wanted.fpr_threshold, "ranked"),
        ("precision_", "precision", ""): rule(wanted.precision_threshold, None, "ranked"),
        ("", "fpr", "_grouped"): rule(None, wanted.fpr_threshold, "grouped"),
        ("precision_", "precision", "_grouped"): rule(wanted.precision_threshold, None, "grouped"),
    }
    for (prefix, accuracy, suffix), by in rules.items():
        choice = by.choose(exemplars.correct, exemplars.incorrect)
        row[f"{prefix}threshold{suffix}"] = _known(choice.threshold)
        row[f"{prefix}recall{suffix}"] = choice.recall
        row[f"{accuracy}{suffix}"] = _known(choice.accuracy)
    return row


def _rate(rate: Rate) -> dict[str, Any]:
    shares = {"recall": rate.recall, "recall_low": rate.low, "recall_high": rate.high}
    percent = {name: round(100 * share, 3) for name, share in shares.items()}
    return {"of": rate.of, "wanted": rate.wanted, "threshold": rate.threshold, "fpr": _known(rate.rate), **percent}


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None
