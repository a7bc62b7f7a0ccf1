"""Every file in configs/ can be loaded, and settings win in their documented order."""

from pathlib import Path

import pytest

from conftest import ROOT
from neardup import config
from neardup.errors import ConfigError
from neardup.run import cluster_from_file

FILES = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_configuration_loads(file: Path) -> None:
    if file.name.startswith("cluster-"):
        assert cluster_from_file(str(file))
    else:
        assert config.load(config.JOBS[file.stem.split("-")[0]], str(file), (), {})


def test_flags_beat_settings_beat_the_file(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("inputs: [a]\noutput: o\nslices: {items: 1, bytes: 1MB}\ncluster: local\n")
    job = config.load(config.HashJob, str(file), ("slices.items=2", "output=p"), {"output": "q", "cluster": None})
    assert (job.slices.items, job.slices.bytes, job.output, job.cluster) == (2, 1_000_000, "q", "local")


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("inputs: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ConfigError, match="is not YAML"):
        config.load(config.HashJob, str(file), (), {})
