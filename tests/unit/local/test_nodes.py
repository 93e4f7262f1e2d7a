"""Node descriptions from options and files."""

from pathlib import Path

import pytest

from deploy.local.errors import NodeOptionsError
from deploy.local.nodes import MAX_NODES, NodeOptions, equal_nodes, parse_node, read_nodes
from services.worker.agent.settings import parse_device
from tests.support.devices import GPU_UUID


def test_equal_nodes_differ_only_by_their_id() -> None:
    nodes = equal_nodes(3, {"nic": "50M", "memory": "2Gi", "cores": 2, "host_cache": "512Mi"})

    assert nodes == tuple(
        NodeOptions(f"node-{i}", 50_000_000, 2 * 2**30, 2, 512 * 2**20) for i in range(3)
    )


@pytest.mark.parametrize("count", [0, -1, MAX_NODES + 1])
def test_a_senseless_number_of_nodes_is_refused(count: int) -> None:
    with pytest.raises(NodeOptionsError, match=f"nodes is {count}"):
        equal_nodes(count, {})


def test_a_file_describes_each_node(tmp_path: Path) -> None:
    file = tmp_path / "nodes.toml"
    file.write_text('[[nodes]]\nnode_id = "a"\nnic = "1G"\n[[nodes]]\nnode_id = "b"\ncores = 4\n')

    assert read_nodes(file) == (NodeOptions("a", nic_bytes_per_s=10**9), NodeOptions("b", cores=4))


@pytest.mark.parametrize(
    ("table", "device"),
    [
        ({"memory": "1Gi", "cores": 2}, f"cpu:{2**30}:2"),
        ({"memory": "1Gi", "cores": 2, "gpu": 0}, f"cuda:0:{2**30}:2"),
        ({"gpu": 3}, f"cuda:3:{2 * 2**30}:1"),
        ({"gpu": GPU_UUID}, f"cuda:{GPU_UUID}:{2 * 2**30}:1"),
    ],
)
def test_a_device_is_what_the_agent_understands(table: dict[str, object], device: str) -> None:
    node = parse_node({"node_id": "a", **table})
    assert node.device == device
    parsed = parse_device(0, device)
    assert parsed.gpu == (None if node.gpu is None else str(node.gpu))
    assert parsed.memory_bytes == node.device_memory_bytes


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "nodes is None"),  # no table at all
        ("nodes = 3", "nodes is 3"),  # not tables
        ("[[nodes]]\nnic = '1G'", "node_id"),  # which node?
        ("[[nodes]]\nnode_id = 'a'\n[[nodes]]\nnode_id = 'a'", "different"),
        ("[[nodes]]\nnode_id = 'a'\ngpus = 1", "gpus"),  # a misspelt key is not ignored
        ("[[nodes]", "TOML"),  # not TOML
    ],
)
def test_a_malformed_file_is_refused_with_what_is_wrong(
    tmp_path: Path, text: str, named: str
) -> None:
    file = tmp_path / "nodes.toml"
    file.write_text(text)

    with pytest.raises(NodeOptionsError, match=named):
        read_nodes(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NodeOptionsError, match=r"absent\.toml"):
        read_nodes(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("node_id", "../up"),  # becomes a folder and a subject
        ("nic", "fast"),
        ("nic", "0"),
        ("memory", -1),
        ("cores", "two"),
        ("cores", True),  # TOML's true is no number
        ("cores", 0),
        ("host_cache", "0"),
        ("gpu", -1),
        ("gpu", "all"),
        ("gpu", True),
        ("gpu", "GPU-8932f937"),
    ],
)
def test_a_bad_value_is_refused_with_its_key(key: str, value: object) -> None:
    with pytest.raises(NodeOptionsError, match=key):
        parse_node({"node_id": "a", key: value})
