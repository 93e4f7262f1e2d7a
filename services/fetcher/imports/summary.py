"""What the scheduler and the gateway are told of a manifest."""

from libs.common.bus.messages import ModelSummary, UnitSummary
from libs.common.weights.manifest import Manifest


def summarize(manifest: Manifest) -> ModelSummary:
    return ModelSummary(
        architecture=manifest.architecture,
        dtype=manifest.dtype,
        num_layers=manifest.num_layers,
        vocab_size=manifest.vocab_size,
        max_context_tokens=manifest.max_context_tokens,
        kv_bytes_per_token=manifest.kv_bytes_per_token,
        weight_bytes=manifest.total_bytes,
        eos_token_ids=manifest.eos_token_ids,
        bos_token_id=manifest.bos_token_id,
        units=tuple(
            UnitSummary(
                kind=unit.kind.value,
                layer=unit.layer_index,
                digest=unit.digest,
                size_bytes=unit.size_bytes,
            )
            for unit in manifest.units
        ),
        tokenizer_files={
            file.name: (file.digest, file.size_bytes) for file in manifest.tokenizer_files
        },
    )
