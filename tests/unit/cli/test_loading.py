"""`hydraserve preload`, `unload` and `pin` against a server's answers."""

import httpx

from tests.unit.cli.server import MODEL, Server, error, run

LOADED = httpx.Response(202, json=MODEL)


def test_a_model_is_preloaded_by_its_name_slashes_and_all() -> None:
    server = Server({"POST /api/v1/models/org/tiny/preload": LOADED})

    result = run("preload org/tiny", server)

    assert result.exit_code == 0
    assert result.stdout.startswith("org/tiny is loaded as soon as there is room")


def test_a_model_is_unloaded() -> None:
    server = Server({"POST /api/v1/models/tiny/unload": LOADED})

    result = run("unload tiny", server)

    assert result.exit_code == 0
    assert result.stdout.startswith("the endpoints of tiny go")


def test_a_pinned_model_is_not_unloaded() -> None:
    refused = error(409, "the model 'tiny' shall always have 1 endpoints", "model_is_pinned")

    result = run("unload tiny", Server({"POST /api/v1/models/tiny/unload": refused}))

    assert result.exit_code == 1
    assert "shall always have" in result.stderr


def test_a_pin_is_a_setting_of_the_model() -> None:
    pinned = MODEL | {"min_endpoints": 2}
    server = Server({"PATCH /api/v1/models/tiny": [pinned, MODEL | {"min_endpoints": 0}]})

    assert run("pin tiny 2", server).stdout == "tiny keeps 2 endpoints at least\n"
    assert run("pin tiny 0", server).stdout == "tiny keeps 0 endpoints at least\n"
    assert server.bodies == [{"min_endpoints": 2}, {"min_endpoints": 0}]


def test_one_endpoint_is_pinned_where_no_number_is_given() -> None:
    server = Server({"PATCH /api/v1/models/tiny": MODEL | {"min_endpoints": 1}})

    assert run("pin tiny", server).stdout == "tiny keeps 1 endpoint at least\n"
    assert run("pin tiny -- -1", server).exit_code == 2


def test_keep_alive_may_be_auto() -> None:
    server = Server({"PATCH /api/v1/models/tiny": MODEL | {"keep_alive_s": "auto"}})

    result = run("models set tiny --keep-alive auto", server)

    assert result.exit_code == 0
    assert "by its own requests" in result.stdout
    assert server.bodies == [{"keep_alive_s": "auto"}]
    for text in ("soon", "nan", "inf"):
        refused = run(f"models set tiny --keep-alive {text}", server)
        assert refused.exit_code == 2
        assert f"'{text}' is neither a number of seconds nor auto" in refused.stderr
