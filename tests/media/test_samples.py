"""The committed samples are what their lists say."""

import csv
import re
from pathlib import Path

import pytest

from neardup.errors import MediaError
from neardup.media import decode_image

SAMPLES = Path(__file__).parents[2] / "samples"
LISTS = {".csv", ".md", ".py"}
IMAGES = sorted(
    str(path.relative_to(SAMPLES))
    for path in SAMPLES.rglob("*")
    if path.is_file() and path.suffix not in LISTS and "__pycache__" not in path.parts and "clips" not in path.parts
)


def rows(name: str) -> list[dict[str, str]]:
    with (SAMPLES / name).open(newline="") as lines:
        return list(csv.DictReader(lines))


BROKEN = {row["file"]: row["error_class"] for row in rows("broken.csv")}


@pytest.mark.parametrize("name", sorted(set(IMAGES) - set(BROKEN)))
def test_a_photo_decodes(name: str) -> None:
    image = decode_image((SAMPLES / name).read_bytes())
    assert not image.partial
    assert image.pixels.std() > 20


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_fails_as_listed(name: str) -> None:
    with pytest.raises(MediaError) as caught:
        decode_image((SAMPLES / name).read_bytes())
    assert caught.value.error_class == BROKEN[name]


def test_expected_pairs_are_whole_families() -> None:
    pairs = {(row["file_a"], row["file_b"]) for row in rows("expected.csv")}
    files = {*IMAGES, *(f"clips/{path.name}" for path in (SAMPLES / "clips").iterdir())}
    assert all(left < right and {left, right} <= files for left, right in pairs)
    for left, right in pairs:
        for other in files:
            joined = tuple(sorted((left, other))) in pairs
            assert other in (left, right) or joined == (tuple(sorted((right, other))) in pairs)
    copies = {name for name in IMAGES if name.startswith("copies/")}
    assert copies <= {name for pair in pairs for name in pair}


def test_every_file_has_its_licence_or_origin_in_the_readme() -> None:
    table = set(re.findall(r"^\| `([^`]+)` \|", (SAMPLES / "README.md").read_text(), re.MULTILINE))
    assert set(IMAGES) <= table
    assert all((SAMPLES / name).is_file() for name in table)


def test_the_samples_stay_small() -> None:
    assert sum((SAMPLES / name).stat().st_size for name in IMAGES) < 6_000_000


def test_the_turned_photo_is_stored_on_its_side() -> None:
    upright = decode_image((SAMPLES / "scratch/train-tracks1.jpg").read_bytes())
    turned = decode_image((SAMPLES / "copies/tracks-turned.jpg").read_bytes())
    assert turned.pixels.shape == upright.pixels.shape
    assert abs(turned.pixels.astype(int) - upright.pixels).mean() < 6
