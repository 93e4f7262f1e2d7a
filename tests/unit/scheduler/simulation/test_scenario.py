from pathlib import Path

import pytest

from services.scheduler.simulation.errors import ScenarioError
from services.scheduler.simulation.scenario import scenario as scenarios
from services.scheduler.simulation.scenario.overrides import Override
from services.scheduler.simulation.scenario.section import Section
from tests.unit.scheduler.simulation.scenarios import SMALL


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("duration_s=0", "duration_s", "a number above 0"),
        ("duration_s='long'", "duration_s", "a number of at least 0"),
        ("nodes.node.count=0", "nodes.node.count", "a whole number of at least 1"),
        ("nodes.node.count=1.5", "nodes.node.count", "a whole number of at least 1"),
        ("nodes.node.device=other", "nodes.node.device", "one of card"),
        ("devices.card.tail_s=-1", "devices.card.tail_s", "a number of at least 0"),
        ("decode_step_s=[[8, 0.1], [1, 0.1]]", "speeds.card.llama.decode_step_s", "ascending"),
        ("decode_step_s=[[1, inf]]", "speeds.card.llama.decode_step_s", "above 0"),
        ("decode_step_s=[[1, 0]]", "speeds.card.llama.decode_step_s", "above 0"),
        ("models.model.architecture=x", "speeds.card.x", "it is missing"),
        ("models.model.prompt=5", "models.model.prompt", "a table"),
        ("min_pipeline_size=9", "models.model.min_pipeline_size", "at most"),
        ("models.model.weights_gb=0", "models.model.weights_gb", "a number above 0"),
        ("memory_gb=0", "devices.card.memory_gb", "more than process_gb"),
        ("nic_gbps=true", "nodes.node.nic_gbps", "a number of at least 0"),
    ],
)
def test_a_wrong_value_is_named_with_file_and_key(override: str, key: str, expected: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        scenarios.parse("small.toml", SMALL, [Override.of(override)])
    assert caught.value.key == key
    assert expected in str(caught.value)
    assert str(caught.value).startswith("small.toml: ")


def test_embedding_and_head_are_no_more_than_the_model() -> None:
    larger = Override("models.model.ends_gb", 11.0, is_new=True)
    with pytest.raises(ScenarioError, match=r"models.model.ends_gb.*at most weights_gb, 10"):
        scenarios.parse("small.toml", SMALL, [larger])


def test_a_key_that_nobody_reads_is_an_error() -> None:
    with pytest.raises(ScenarioError, match=r"models\.model\.sloots = 3: expected no such key"):
        scenarios.parse("s", SMALL.replace("kv_gb = 2", "kv_gb = 2\nsloots = 3"))


def test_a_missing_key_is_an_error() -> None:
    with pytest.raises(ScenarioError, match=r"models\.model\.kv_gb = None: .* it is missing"):
        scenarios.parse("s", SMALL.replace("kv_gb = 2\n", ""))


def test_an_empty_table_of_tables_is_an_error() -> None:
    """There would be no nodes, or no models."""
    with pytest.raises(ScenarioError, match=r"nodes = {}: .* one entry at least"):
        list(Section("s", "nodes", {}).sections())


def test_what_is_no_toml_is_an_error() -> None:
    with pytest.raises(ScenarioError, match="toml"):
        scenarios.parse("s", "= 3")


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioError, match="codec can't decode"):
        scenarios.load(str(tmp_path / "s.toml"))


def test_a_file_that_is_not_there_is_an_error_that_names_the_built_in_ones() -> None:
    with pytest.raises(ScenarioError, match="nsdi26-e2e, scale"):
        scenarios.load("nowhere")


def test_a_key_may_be_shortened_to_what_is_unique() -> None:
    for text in ("traffic.rate_per_s=0.5", "rate_per_s=0.5", "rate=0.5"):
        assert scenarios.parse("s", SMALL, [Override.of(text)]).traffic.rate_per_s == 0.5
    with pytest.raises(ScenarioError, match="one key; it has"):
        scenarios.parse("s", SMALL, [Override.of("max_tokens=5")])
    with pytest.raises(ScenarioError, match=r"a key of the file, as .*keep_alive_s"):
        scenarios.parse("s", SMALL, [Override.of("models.model.keepalive=5")])
    with pytest.raises(ScenarioError, match="KEY=VALUE"):
        Override.of("rate")


def test_a_set_of_constants_is_laid_over_the_file() -> None:
    text = SMALL + "\n[constants_of.slow.devices.card]\nlaunch_s = 9\n"
    assert scenarios.parse("s", text).nodes[0].device.start.launch_s == 2
    slow = scenarios.parse("s", text, constants="slow")
    assert (slow.constants, slow.nodes[0].device.start.launch_s) == ("slow", 9)
    assert scenarios.parse("s", text, [Override.of("constants=slow")]).constants == "slow"
    with pytest.raises(ScenarioError, match=r"constants = 'fast': expected one of slow"):
        scenarios.parse("s", text, constants="fast")


@pytest.mark.parametrize("constants", ["published", "measured"])
def test_the_published_testbed_is_as_described(constants: str) -> None:
    loaded = scenarios.load("nsdi26-e2e", constants=constants)
    assert sum(group.count * group.num_devices for group in loaded.nodes) == 24
    # 2 x 64 + 4 x 16 = 192 Gbit/s: the store has as much.
    nics = sum(group.count * group.nic_bytes_per_s for group in loaded.nodes)
    assert nics == loaded.egress_bytes_per_s == 24e9
    slos = {group.name: (group.ttft_slo_s, group.tpot_slo_s) for group in loaded.models}
    assert slos == {
        "chat-7b": (7.5, 0.2),
        "chat-13b": (12, 0.2),
        "code-7b": (7.5, 0.084),
        "code-13b": (12, 0.116),
        "summary-7b": (37.5, 0.084),
        "summary-13b": (60, 0.116),
    }
    assert {group.full_bytes for group in loaded.models} == {18 * 10**9, 30 * 10**9}


def test_the_large_scenario_is_as_large_as_it_says() -> None:
    loaded = scenarios.load("scale")
    assert sum(group.count * group.num_devices for group in loaded.nodes) == 8_000
    assert sum(group.count for group in loaded.models) == 100_000
