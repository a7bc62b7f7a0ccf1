"""`--cluster`, as text or as a YAML file, → which cluster is meant. Nothing is started here, no class is imported."""

import difflib
import re
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from neardup.errors import ConfigError

_GIVE = "give none, local, a number of workers, HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT or a .yaml file"
_RUNNING = ("address", "security")
_LOCAL = ("workers", "threads_per_worker", "memory_per_worker")
_STARTED = ("class", "arguments", "scale", "adapt")
_SECURITY = {"ca_file": "tls_ca_file", "cert_file": "tls_client_cert", "key_file": "tls_client_key"}
_WAIT_S = 60.0


@dataclass(frozen=True)
class Settings:
    """Which cluster, and how large."""

    kind: Literal["none", "local", "running", "class"]
    address: str = ""
    security: dict[str, str] = field(default_factory=dict)  # arguments of distributed.Security
    workers: int | None = None
    threads_per_worker: int = 1
    memory_per_worker: str | int = "auto"
    class_path: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    adapt: dict[str, int] = field(default_factory=dict)
    wait_s: float = _WAIT_S  # for the first worker, or for another when the last has gone


def read(cluster: str | int | dict[str, Any]) -> Settings:
    """The settings that a flag, a key of a configuration or a file describes. Raises ConfigError."""
    if isinstance(cluster, str) and cluster.endswith((".yaml", ".yml")):
        cluster = cluster_from_file(cluster)
    if isinstance(cluster, dict):
        return _of_keys(cluster)
    text = str(cluster).strip()
    if text in ("none", "local"):
        return Settings("none" if text == "none" else "local")
    if text.isdecimal() and int(text) > 0:
        return Settings("local", workers=int(text))
    if "://" in text or ":" in text:
        return Settings("running", address=_address(text))
    raise ConfigError(f"unknown cluster {text!r}; {_GIVE}")


def cluster_from_file(path: str) -> dict[str, Any] | str:
    """The cluster that a YAML file describes, its keys checked: an address, or settings for `read`."""
    try:
        with open(path) as file:
            settings = yaml.safe_load(file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the cluster file {path!r}: {str(error).splitlines()[0]}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: expected keys such as 'workers', 'address' or 'class'")
    try:
        _of_keys(settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return str(settings["address"]) if set(settings) == {"address"} else settings


def _address(text: str) -> str:
    scheme, separator, place = text.rpartition("://")
    if separator and scheme not in ("tcp", "tls", "ws", "wss", "ucx"):
        raise ConfigError(f"unknown cluster {text!r}: no scheduler is reached by {scheme}://; {_GIVE}")
    if (
        not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:/\s\[\]]+):\d{1,5}/?", place)
        or int(place.rstrip("/").rsplit(":", 1)[1]) > 65535
    ):
        raise ConfigError(f"cluster {text!r} has no valid port; a scheduler is at HOST:PORT, by default at HOST:8786")
    return f"{scheme or 'tcp'}://{place.rstrip('/')}"


def _of_keys(keys: dict[str, Any]) -> Settings:
    kinds = [kind for kind in ("address", "class") if kind in keys]
    if len(kinds) == 2:
        raise ConfigError("a cluster has an 'address' or a 'class', not both")
    known = {"address": _RUNNING, "class": _STARTED}.get(kinds[0] if kinds else "", _LOCAL)
    _refuse_unknown("cluster setting", keys, (*known, "wait_s"), (*_RUNNING, *_STARTED, *_LOCAL))
    wait_s = keys.get("wait_s", _WAIT_S)
    if not isinstance(wait_s, int | float) or isinstance(wait_s, bool) or wait_s <= 0:
        raise ConfigError(f"wait_s: expected seconds above 0, not {wait_s!r}")
    if "address" in keys:
        return Settings("running", _address(str(keys["address"])), _security(keys.get("security")), wait_s=wait_s)
    if "class" in keys:
        return _of_class(keys, wait_s)
    workers, threads = (_count(keys, name) for name in ("workers", "threads_per_worker"))
    return Settings(
        "local",
        workers=workers,
        threads_per_worker=threads or 1,
        memory_per_worker=keys.get("memory_per_worker", "auto"),
        wait_s=wait_s,
    )


def _of_class(keys: dict[str, Any], wait_s: float) -> Settings:
    path, arguments, adapt = str(keys["class"]), keys.get("arguments") or {}, keys.get("adapt") or {}
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", path):
        raise ConfigError(f"class {path!r}: expected a dotted path, such as dask_jobqueue.SLURMCluster")
    if not isinstance(arguments, dict) or not all(isinstance(name, str) for name in arguments):
        raise ConfigError(f"arguments: expected the keyword arguments of {path}, not {arguments!r}")
    if "scale" in keys and "adapt" in keys:
        raise ConfigError("a cluster has 'scale' or 'adapt', not both")
    if not isinstance(adapt, dict):
        raise ConfigError(f"adapt: expected minimum and maximum, not {adapt!r}")
    _refuse_unknown("key of adapt", adapt, ("minimum", "maximum"), ())
    limits = {name: _count(adapt, name, least=int(name == "maximum")) for name in adapt}
    if "adapt" in keys and not limits.get("maximum"):
        raise ConfigError("adapt: 'maximum' is missing, the number of workers at most")
    if (limits.get("minimum") or 0) > (limits.get("maximum") or 0):
        raise ConfigError(f"adapt: minimum {limits['minimum']} is more than maximum {limits['maximum']}")
    return Settings(
        "class",
        workers=_count(keys, "scale"),
        class_path=path,
        arguments=arguments,
        adapt={name: limit for name, limit in limits.items() if limit is not None},
        wait_s=wait_s,
    )


def _security(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ConfigError(f"security: expected ca_file, cert_file and key_file, not {given!r}")
    _refuse_unknown("key of security", given, tuple(_SECURITY), ())
    return {_SECURITY[name]: str(path) for name, path in given.items()}


def _count(keys: dict[str, Any], name: str, least: int = 1) -> int | None:
    value = keys.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise ConfigError(f"{name}: expected a whole number, at least {least}, not {value!r}")
    return value


def _refuse_unknown(what: str, keys: dict[str, Any], known: tuple[str, ...], elsewhere: tuple[str, ...]) -> None:
    unknown = [str(key) for key in keys if key not in known]
    if not unknown:
        return
    close = difflib.get_close_matches(unknown[0], known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
    if unknown[0] in elsewhere:
        hint = f"it does not go with {', '.join(repr(key) for key in keys if key in known) or 'these'}; {hint}"
    raise ConfigError(f"unknown {what} {unknown[0]!r}; {hint}")
