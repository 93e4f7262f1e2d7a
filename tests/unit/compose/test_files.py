"""What the compose file's neighbours promise each other."""

import json
import re
from pathlib import Path

PROJECT = Path(__file__).parents[3]
FOLDER = PROJECT / "deploy" / "compose"


def test_the_example_names_every_option_with_its_default() -> None:
    used = _options((FOLDER / "compose.yaml").read_text())
    example = dict(re.findall(r"^#(\w+)=(.*)$", (FOLDER / "env.example").read_text(), re.M))

    # Those that `prepare` writes, tests set, or that are one node's own.
    unnamed = {"HYDRA_UID", "HYDRA_GID", "HYDRA_SECRETS", *(f"NODE_{i}_NIC" for i in range(4))}
    assert used.keys() - example.keys() == unnamed
    assert {name: example[name] for name in used.keys() - unnamed} == {
        name: default for name, default in used.items() if name not in unnamed
    }


def _options(compose: str) -> dict[str, str]:
    """With their defaults; where one default is another option, the outer one's is its text."""
    return dict(re.findall(r"(?=\$\{(\w+):-([^}]*)\})", compose))


def test_the_dashboard_asks_for_what_gateways_count() -> None:
    (board,) = (FOLDER / "grafana" / "dashboards").glob("*.json")
    asked = set(re.findall(r"hydra_\w+", board.read_text()))
    sources = (PROJECT / "services" / "gateway").rglob("*.py")
    counted = {name for path in sources for name in re.findall(r'"(hydra_\w+)"', path.read_text())}

    assert {name.removesuffix("_bucket") for name in asked} <= counted
    assert asked


def test_the_dashboard_reads_the_provisioned_source() -> None:
    (board,) = (FOLDER / "grafana" / "dashboards").glob("*.json")
    provisioning = FOLDER / "grafana" / "provisioning"
    (uid,) = re.findall(
        r"uid: (\w+)", (provisioning / "datasources" / "prometheus.yaml").read_text()
    )

    panels = json.loads(board.read_text())["panels"]

    assert {panel["datasource"]["uid"] for panel in panels} == {uid}
