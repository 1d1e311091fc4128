"""A compose service, and a Deployment with its Service. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

from tputtui.engine import flags
from tputtui.profile import EngineSpec

__all__ = ["compose", "dumped", "kubernetes"]

_IMAGE = "vllm/vllm-openai"
_PORT = 8000
_BOOT_S = 1800
"""Seconds that a large model may take to load before the container counts as failed."""
_CACHE = "/root/.cache/huggingface"
_PARALLEL = tuple(
    f"{kind}_parallel_size" for kind in ("tensor", "pipeline", "prefill_context", "data")
)


def compose(spec: EngineSpec, version: str) -> str:
    """A compose file with one service. version: of vLLM; empty for the newest."""
    model, mounted = _placed(spec.model)
    port = _port(spec)
    volumes: list[Any] = [f"huggingface:{_CACHE}"]
    if mounted:
        # The long form, because a folder may have a colon in its name.
        places = {"source": spec.model.replace("$", "$$"), "target": model.replace("$", "$$")}
        volumes.append({"type": "bind", **places, "read_only": True})
    service: dict[str, Any] = {
        "image": f"{_IMAGE}:{_tag(version)}",
        # Compose replaces variables after a dollar sign; two of them make one.
        "command": [_Word(word.replace("$", "$$")) for word in (model, *_words(spec))],
        "ports": [f"{port}:{port}"],
        # The workers of several GPUs communicate through shared memory.
        "ipc": "host",
        "environment": {"HF_TOKEN": "${HF_TOKEN:-}"},
        "volumes": volumes,
        "deploy": {
            "resources": {
                "reservations": {
                    "devices": [{"driver": "nvidia", "count": _gpus(spec), "capabilities": ["gpu"]}]
                }
            }
        },
        "healthcheck": {
            "test": [
                "CMD",
                "curl",
                "-fsS" + ("k" if _scheme(spec) == "https" else ""),
                f"{_scheme(spec)}://localhost:{port}/health",
            ],
            "interval": "10s",
            "timeout": "5s",
            "retries": 3,
            "start_period": f"{_BOOT_S}s",
        },
        "restart": "unless-stopped",
    }
    return dumped({"services": {"vllm": service}, "volumes": {"huggingface": {}}})


def kubernetes(spec: EngineSpec, version: str) -> str:
    """A Deployment with GPU limits and probes, and a Service in front of it."""
    model, mounted = _placed(spec.model)
    labels = {"app": _named(spec.model)}
    port = _port(spec)
    gpus = {"nvidia.com/gpu": str(_gpus(spec))}
    probe = {"httpGet": {"path": "/health", "port": "http"}}
    if _scheme(spec) == "https":
        probe["httpGet"]["scheme"] = "HTTPS"
    mounts = [{"name": "shm", "mountPath": "/dev/shm"}, {"name": "cache", "mountPath": _CACHE}]
    volumes: list[dict[str, Any]] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}},
        {"name": "cache", "emptyDir": {}},
    ]
    if mounted:
        mounts.append({"name": "models", "mountPath": str(PurePosixPath(model).parent)})
        volumes.append({"name": "models", "persistentVolumeClaim": {"claimName": "models"}})
    container = {
        "name": "vllm",
        "image": f"{_IMAGE}:{_tag(version)}",
        # Kubernetes replaces variables after "$(", and turns "$$" into "$" everywhere.
        "args": [_Word(word.replace("$", "$$")) for word in (model, *_words(spec))],
        "ports": [{"name": "http", "containerPort": port}],
        "env": [
            {
                "name": "HF_TOKEN",
                "valueFrom": {
                    "secretKeyRef": {"name": "huggingface", "key": "token", "optional": True}
                },
            }
        ],
        "resources": {"limits": gpus, "requests": gpus},
        "startupProbe": {**probe, "periodSeconds": 10, "failureThreshold": _BOOT_S // 10},
        "readinessProbe": {**probe, "periodSeconds": 5},
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 3},
        "volumeMounts": mounts,
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": labels["app"], "labels": labels},
        "spec": {
            "replicas": 1,
            # A second copy would need the GPUs that the first one uses.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "volumes": volumes},
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": labels["app"], "labels": labels},
        "spec": {
            "selector": labels,
            "ports": [{"name": "http", "port": port, "targetPort": "http"}],
        },
    }
    return f"{dumped(deployment)}---\n{dumped(service)}"


def _words(spec: EngineSpec) -> list[str]:
    return flags.to_argv(spec.args)


def _port(spec: EngineSpec) -> int:
    port = spec.args.get("port")
    return port if isinstance(port, int) else _PORT


def _scheme(spec: EngineSpec) -> str:
    return "https" if spec.args.get("ssl_certfile") else "http"


def _gpus(spec: EngineSpec) -> int:
    """Number of GPUs that one replica uses."""
    count = 1
    for name in _PARALLEL:
        value = spec.args.get(name)
        count *= value if isinstance(value, int) and value > 0 else 1
    return count


def _tag(version: str) -> str:
    return f"v{version}" if re.fullmatch(r"\d+(\.\d+)+", version) else "latest"


def _placed(model: str) -> tuple[str, bool]:
    """The model's name or path inside the container, and whether it has to be mounted there."""
    if model.startswith("/"):
        return f"/models/{PurePosixPath(model).name}", True
    return model, False


def _named(model: str) -> str:
    """A name of the model that Kubernetes accepts (RFC 1123 label)."""
    last = model.rstrip("/").rpartition("/")[2].lower()
    return f"vllm-{re.sub(r'[^a-z0-9]+', '-', last).strip('-')}"[:60].strip("-")


def dumped(document: Mapping[str, Any]) -> str:
    """`document` as YAML; keys keep their order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=88)


class _Word(str):
    """Text that every version of YAML must read as text: 5e-05, y, 0o17."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if isinstance(text, _Word) else None
    if not text.isprintable():
        # Line ends other than \n are read back unchanged only where they are escaped.
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style=style)


_Dumper.add_representer(str, _quoted)
_Dumper.add_representer(_Word, _quoted)
