"""Finds out how workers can be given shares here, by doing it."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from libs.common.errors import SettingsError
from services.worker.agent.devices.device import Device
from services.worker.agent.settings import AgentSettings, ComputeShares, DeviceKind
from services.worker.agent.shares.cgroup import ROOT, CgroupShares, open_cgroup, own_cgroup
from services.worker.agent.shares.cpu_shares import CpuShares
from services.worker.agent.shares.mps import find_mps
from services.worker.agent.shares.nice import NiceShares
from services.worker.agent.shares.node_compute import NodeCompute
from services.worker.errors import CgroupUnavailable

logger = logging.getLogger(__name__)

MEMBERSHIP = Path("/proc/self/cgroup")


def open_node_compute(
    settings: AgentSettings,
    devices: tuple[Device, ...],
    environ: Mapping[str, str] = os.environ,
    root: Path = ROOT,
    membership: Path = MEMBERSHIP,
) -> NodeCompute:
    """Raises SettingsError where caps are asked for and cannot be had."""
    are_caps = settings.compute_shares is ComputeShares.CAPS
    pipes = find_mps(environ)
    has_gpu = any(device.kind is DeviceKind.CUDA for device in devices)
    if are_caps and has_gpu and pipes is None:
        raise _no_caps(
            "or, for caps on GPUs, CUDA's Multi-Process Service, which does not run: start it with "
            "`nvidia-cuda-mps-control -d`"
        )
    cpu = _open_cpu_shares(settings.node_id, root, membership, are_caps=are_caps)
    return NodeCompute(devices, cpu, are_caps, pipes)


def _open_cpu_shares(node_id: str, root: Path, membership: Path, *, are_caps: bool) -> CpuShares:
    try:
        folder = open_cgroup(own_cgroup(_text(membership), root), node_id)
    except CgroupUnavailable as exc:
        if are_caps:
            raise _no_caps(
                "or, for caps, a cgroup (version 2) of the agent's own that it may write to, as "
                f"systemd's `Delegate=cpu` gives ({exc})"
            ) from exc
        logger.info("workers share the processor by nice values: %s", exc)
        return NiceShares()
    logger.info("workers share the processor by cgroups below %s", folder)
    return CgroupShares(folder, are_caps=are_caps)


def _text(membership: Path) -> str:
    try:
        return membership.read_text()
    except OSError as exc:
        raise CgroupUnavailable(f"this machine has no cgroups: {exc}") from exc


def _no_caps(or_else: str) -> SettingsError:
    return SettingsError(
        "HYDRA_COMPUTE_SHARES", ComputeShares.CAPS.value, f"{ComputeShares.WEIGHTS}, {or_else}"
    )
