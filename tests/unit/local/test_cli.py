"""The command line: what it makes of its options, and what it says of bad ones."""

from pathlib import Path

import pytest

from deploy.local.cli import main, parse_stack_options
from deploy.local.nodes import NodeOptions
from libs.common.startmode import StartMode


def test_without_options_there_are_four_nodes_on_a_free_port() -> None:
    options = parse_stack_options(["up"], {})

    assert [node.node_id for node in options.nodes] == ["node-0", "node-1", "node-2", "node-3"]
    assert (options.host, options.port) == ("127.0.0.1", None)
    assert (options.num_gateways, options.num_schedulers) == (1, 1)
    assert options.start_mode is StartMode.HYDRA
    assert options.standby_runtimes == 1


def test_options_describe_equal_nodes() -> None:
    sizes = "--nodes 1 --nic 1G --memory 4Gi --host-cache 2Gi --cores 3"
    arguments = f"up --start-mode sequential --standby-runtimes 2 {sizes}".split()

    options = parse_stack_options(arguments, {})

    assert options.nodes == (NodeOptions("node-0", 10**9, 4 * 2**30, 3, 2 * 2**30),)
    assert options.start_mode is StartMode.SEQUENTIAL
    assert options.standby_runtimes == 2


def test_nodes_may_share_a_gpu() -> None:
    arguments = "up --nodes 2 --gpu 0 --memory 17Gi --cores 3".split()

    options = parse_stack_options(arguments, {})

    assert [node.device for node in options.nodes] == [f"cuda:0:{17 * 2**30}:3"] * 2


def test_a_file_describes_nodes_that_differ(tmp_path: Path) -> None:
    file = tmp_path / "nodes.toml"
    file.write_text('[[nodes]]\nnode_id = "fast"\nnic = "1G"\n[[nodes]]\nnode_id = "slow"\n')

    options = parse_stack_options(["up", "--nodes-file", str(file)], {})

    assert [node.node_id for node in options.nodes] == ["fast", "slow"]


def test_import_roots_become_absolute_and_services_settings_are_passed_on() -> None:
    environment = {"HYDRA_LOG_LEVEL": "DEBUG", "HOME": "/home/a", "HYDRASERVE_STATE": "/state"}

    options = parse_stack_options(["up", "--import-root", "models"], environment)

    assert options.import_roots == (Path.cwd() / "models",)
    assert options.service_env == {"HYDRA_LOG_LEVEL": "DEBUG"}
    assert options.state.path == Path("/state")


def test_a_bad_node_ends_with_exit_code_1_and_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--nodes", "0"]) == 1
    assert "node option nodes is 0; expected 1 to 64" in capsys.readouterr().out
