"""A compose service, and a Deployment with its Service. Pure."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

import yaml

from tputtui.engine import flags
from tputtui.profile import EngineSpec

__all__ = ["compose", "kubernetes"]

_IMAGE = "vllm/vllm-openai"
_PORT = 8000
_BOOT_S = 1800
"""How long a large model may take to load before it is given up."""
_CACHE = "/root/.cache/huggingface"


def compose(spec: EngineSpec, version: str) -> str:
    """A compose file with one service. version: of vLLM, empty for the newest."""
    model, mounted = _placed(spec.model)
    volumes = [f"huggingface:{_CACHE}"]
    if mounted:
        volumes.append(f"{spec.model}:{model}:ro".replace("$", "$$"))
    service: dict[str, Any] = {
        "image": f"{_IMAGE}:{_tag(version)}",
        # Compose puts variables in where it sees a dollar sign.
        "command": [word.replace("$", "$$") for word in (model, *_words(spec))],
        "ports": [f"{_PORT}:{_PORT}"],
        # Workers of several GPUs talk through shared memory.
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
            "test": ["CMD", "curl", "-fsS", f"http://localhost:{_PORT}/health"],
            "interval": "10s",
            "timeout": "5s",
            "retries": 3,
            "start_period": f"{_BOOT_S}s",
        },
        "restart": "unless-stopped",
    }
    return _dumped({"services": {"vllm": service}, "volumes": {"huggingface": {}}})


def kubernetes(spec: EngineSpec, version: str) -> str:
    """A Deployment with GPU limits and probes, and a Service in front of it."""
    model, mounted = _placed(spec.model)
    labels = {"app": _named(spec.model)}
    gpus = {"nvidia.com/gpu": str(_gpus(spec))}
    probe = {"httpGet": {"path": "/health", "port": "http"}}
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
        # Kubernetes likewise, before a bracket.
        "args": [word.replace("$(", "$$(") for word in (model, *_words(spec))],
        "ports": [{"name": "http", "containerPort": _PORT}],
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
            # A second copy would want the GPUs that the first one has.
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
            "ports": [{"name": "http", "port": _PORT, "targetPort": "http"}],
        },
    }
    return f"{_dumped(deployment)}---\n{_dumped(service)}"


def _words(spec: EngineSpec) -> list[str]:
    return flags.to_argv(spec.args)


def _gpus(spec: EngineSpec) -> int:
    """GPUs that one replica takes."""
    count = 1
    for name in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"):
        value = spec.args.get(name)
        count *= value if isinstance(value, int) and value > 0 else 1
    return count


def _tag(version: str) -> str:
    return f"v{version}" if re.fullmatch(r"\d+(\.\d+)+", version) else "latest"


def _placed(model: str) -> tuple[str, bool]:
    """Where the model is inside the container, and whether it has to be mounted there."""
    if model.startswith("/"):
        return f"/models/{PurePosixPath(model).name}", True
    return model, False


def _named(model: str) -> str:
    """A name as Kubernetes takes them (RFC 1123 label)."""
    last = model.rstrip("/").rpartition("/")[2].lower()
    return f"vllm-{re.sub(r'[^a-z0-9]+', '-', last).strip('-')}"[:60].strip("-")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dumped(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=88)
