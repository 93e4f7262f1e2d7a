"""What may not be imported is refused with its cause, and a store that is away is waited for."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import zeros

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client
from tests.acceptance.observing import settled
from tests.support.checkpoints import make_tiny_llama

pytestmark = pytest.mark.asyncio(loop_scope="session")


def rewrite_header(folder: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def corrupt_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 40) + b"{not json" + path.read_bytes()[17:])


def overlap(folder: Path) -> None:
    def change(header: dict[str, dict[str, object]]) -> None:
        first, second = [name for name in header if "q_proj" in name][:2]
        header[second]["data_offsets"] = header[first]["data_offsets"]

    rewrite_header(folder, change)


def out_of_range(folder: Path) -> None:
    def change(header: dict[str, dict[str, object]]) -> None:
        name = next(n for n in header if "norm" in n)
        header[name]["data_offsets"] = [2**40, 2**40 + 256]

    rewrite_header(folder, change)


def missing_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors")


def unused_bytes(folder: Path) -> None:
    rewrite_header(folder, lambda header: header.pop(next(n for n in header if "up_proj" in n)))


def outside_weight_map(folder: Path) -> None:
    save_file({"stolen": zeros(4)}, str(folder.parent / "secret.safetensors"))
    index = {"weight_map": {"model.embed_tokens.weight": "../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


def symlink_out(folder: Path) -> None:
    outside = folder.parent.parent / "outside.safetensors"
    outside.write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(outside)


def unknown_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["MambaForCausalLM"]
    config["model_type"] = "mamba"
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (corrupt_header, ["model.safetensors"]),
        (overlap, ["overlap"]),
        (out_of_range, ["model.safetensors"]),
        (missing_tensor, ["model.layers.1.mlp.up_proj.weight"]),
        (unused_bytes, ["unused bytes"]),
        (outside_weight_map, ["secret.safetensors"]),
        (symlink_out, ["link"]),
        (unknown_architecture, ["amba"]),
    ],
)
async def test_a_damaged_source_fails_with_its_cause(
    client: Client, sources: Path, damage: Callable[[Path], None], words: list[str]
) -> None:
    name = f"bad-{damage.__name__.replace('_', '-')}"
    damage(make_tiny_llama(sources / name))

    await client.register(name, str(sources / name))
    model = await client.imported(name)

    assert model["state"] == "FAILED"
    assert all(word in model["cause"] for word in words), model["cause"]
    refused = await client.chat(name, "hello")
    assert refused.status_code == 422, refused.text
    assert model["cause"][:40] in refused.text or "FAILED" in refused.text
    await client.delete(name)


@pytest.mark.parametrize("source", ["/etc", "/", "relative/path", "/nonexistent/model"])
async def test_a_source_outside_the_allowed_roots_is_refused(client: Client, source: str) -> None:
    response = await client.http.post("/api/v1/models", json={"name": "out", "source": source})
    if response.status_code == 202:
        model = await client.imported("out")
        assert model["state"] == "FAILED" and model["cause"]
        await client.delete("out")
    else:
        assert response.status_code == 400, response.text


async def test_a_model_that_fits_no_node_is_refused_with_the_numbers(
    client: Client, tiny: Path
) -> None:
    await client.ready("huge", str(tiny), kv_cache_bytes=2**40)
    response = await client.chat("huge", "hello")
    message = response.json()["error"]["message"]
    assert response.status_code == 422
    assert response.headers["x-hydra-reason"] == "model_too_large"
    assert str(2**40)[:4] in message.replace(",", "").replace("_", "") or "GiB" in message, message
    await client.delete("huge")


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ 'x' * 10**9 }}",
        "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}"
        "{% endfor %}{{ ns.s }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    ],
)
async def test_a_hostile_chat_template_costs_only_its_own_request(
    client: Client, stack: LocalStack, sources: Path, tiny: Path, template: str
) -> None:
    name = f"hostile-{abs(hash(template)) % 10**6}"
    await client.ready("honest", str(tiny), keep_alive_s=1)
    await client.ready(name, str(make_tiny_llama(sources / name, chat_template=template)))

    response = await client.chat(name, "hello")
    assert response.status_code == 400, response.text
    assert "template" in response.json()["error"]["message"]
    assert (await client.stream("honest", "hello", max_tokens=3)).is_complete
    await client.delete(name)
    await client.delete("honest")
    await settled(stack, client)


async def test_an_import_waits_for_an_object_store_that_is_down_and_resumes(
    client: Client, stack: LocalStack, sources: Path
) -> None:
    folder = make_tiny_llama(sources / "patient", seed=11)
    stack.hold("s3")
    stack.kill("s3")
    await client.register("patient", str(folder))
    assert (await client.model("patient"))["state"] == "IMPORTING"
    await stack.start("s3")

    assert (await client.imported("patient"))["state"] == "READY"
    assert (await client.stream("patient", "hello", max_tokens=3)).is_complete
    await client.delete("patient")
    await settled(stack, client, timeout_s=90)


async def test_names_are_taken_once_and_settings_are_checked(client: Client, tiny: Path) -> None:
    await client.register("taken", str(tiny))
    again = await client.http.post("/api/v1/models", json={"name": "taken", "source": str(tiny)})
    assert again.status_code == 409
    for wrong in ({"keep_alive_s": -1}, {"max_slots": 0}, {"slo": {"ttft_ms": 0}}, {"nmae": "x"}):
        body = {"name": "other", "source": str(tiny), **wrong}
        response = await client.http.post("/api/v1/models", json=body)
        assert response.status_code == 400, (wrong, response.text)
    await client.imported("taken")
    await client.delete("taken")
