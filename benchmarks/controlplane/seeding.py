"""Fills Postgres with the catalogue, as if all of it had been imported long ago."""

import json
from typing import Any

from benchmarks.controlplane import catalogue as c
from benchmarks.controlplane.catalogue import Catalogue

_MANIFESTS = """
INSERT INTO manifests (digest, summary)
SELECT encode(sha256(convert_to('manifest/' || number, 'UTF8')), 'hex'),
    $2::jsonb || jsonb_build_object('units', (
        SELECT jsonb_agg(unit || jsonb_build_object('digest',
            encode(sha256(convert_to('unit/' || number || '/' || (place - 1), 'UTF8')), 'hex'))
            ORDER BY place)
        FROM jsonb_array_elements($2::jsonb -> 'units') WITH ORDINALITY AS units (unit, place)))
FROM generate_series(0, $1::int - 1) AS number
ON CONFLICT DO NOTHING
"""
_MODELS = """
INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
    max_pipeline_size, max_queue, max_slots, max_endpoints, kv_cache_bytes, manifest_digest,
    import_bytes_done, import_bytes_total)
SELECT 'model-' || lpad(number::text, 7, '0'), 'tenant-' || (number % $2::int),
    'm-' || lpad(number::text, 7, '0'), 'catalogue', 'READY', 10000, 200, $3::float,
    $4::int, 100, $5::int, 1,
    CASE WHEN number >= $1::int - $6::int THEN $7::bigint ELSE $8::bigint END,
    encode(sha256(convert_to('manifest/' || number, 'UTF8')), 'hex'), $9::bigint, $9::bigint
FROM generate_series(0, $1::int - 1) AS number
ON CONFLICT DO NOTHING
"""


async def seed(
    connection: Any, catalogue: Catalogue, tokenizer_files: Any, keep_alive_s: float
) -> None:
    """`connection`: of the administrator. Rows that are there already stay."""
    template = c.summary(0, tokenizer_files).model_dump(mode="json")
    await connection.execute(_MANIFESTS, catalogue.num_models, json.dumps(template), timeout=900)
    await connection.execute(
        _MODELS,
        catalogue.num_models,
        catalogue.num_tenants,
        keep_alive_s,
        c.MAX_STAGES,
        c.MAX_SLOTS,
        catalogue.num_large,
        c.LARGE_KV_CACHE_BYTES,
        c.KV_CACHE_BYTES,
        sum(c.unit_sizes_bytes()),
        timeout=900,
    )
    await connection.execute("ANALYZE", timeout=300)


async def tokenizer_files(connection: Any, model_name: str) -> Any:
    """Of a model that was really imported: name → digest and size."""
    summary = await connection.fetchval(
        "SELECT m.summary FROM manifests AS m JOIN models ON models.manifest_digest = m.digest "
        "WHERE models.name = $1 AND models.state = 'READY'",
        model_name,
    )
    return None if summary is None else json.loads(summary)["tokenizer_files"]
