"""From a source that a user names to a model in the object store.

Everything is validated before the first byte is stored. Each unit is repacked, hashed and, if the
store does not have it yet, uploaded; so an import that was interrupted goes on where it was, and
models of one owner that share units share their storage. A source that changes meanwhile is
refused: nobody knows when whoever writes to it is done.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from libs.common.errors import ManifestError, ObjectStoreError
from libs.common.strict_json import canonical_bytes
from libs.common.tenants import OPERATOR_TENANT
from libs.common.weights.manifest import FileEntry, Manifest, UnitEntry, manifest_key, tokenizer_key
from libs.common.weights.manifest_json import decode_manifest, encode_manifest
from services.fetcher.errors import ImportRefused
from services.fetcher.imports.architectures import (
    CONFIG_NAME,
    ModelPlan,
    PlannedUnit,
    plan_model,
)
from services.fetcher.imports.checkpoint import Checkpoint, read_checkpoint
from services.fetcher.imports.gguf_conversion import ConversionLimits, converted_gguf
from services.fetcher.imports.repack import layout_of, pack_unit
from services.fetcher.imports.source import SourceFolder, opened_folder
from services.fetcher.imports.stored_model import find_whole
from services.fetcher.imports.tokenizer_files import TokenizerFiles, read_tokenizer_files
from services.fetcher.imports.upload import Uploader

logger = logging.getLogger(__name__)

GGUF_SUFFIX = ".gguf"


@dataclass(frozen=True)
class ImportProgress:
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True)
class ImportedModel:
    manifest: Manifest
    manifest_digest: str
    num_units_sent: int  # the others were stored already


Report = Callable[[ImportProgress], None]


@dataclass(frozen=True)
class ImportSettings:
    roots: tuple[Path, ...]
    scratch_dir: Path
    conversion: ConversionLimits


class Importer:
    def __init__(self, uploader: Uploader, settings: ImportSettings) -> None:
        self._uploader, self._settings = uploader, settings

    async def run(
        self, source: Path, *, tenant: str, is_public: bool, report: Report
    ) -> ImportedModel:
        """Raises ImportRefused, with a code and what to do next."""
        roots, owner = self._roots_of(tenant), None if is_public else tenant
        try:
            async with self._folder(source, roots) as folder:
                return await self._import(folder, _config_name(source), owner, report)
        except ObjectStoreError as exc:
            raise ImportRefused("store_refused", f"the object store says no: {exc}") from exc
        except OSError as exc:
            raise ImportRefused(
                "scratch_failed", f"the importing node cannot write its scratch files: {exc}"
            ) from exc

    async def find_stored(
        self, manifest_digest: str, suspect_keys: Collection[str], report: Report
    ) -> ImportedModel | None:
        """A model that was imported before, if all its objects are whole after all: then it needs
        no source. Raises ImportRefused."""
        try:
            manifest = await find_whole(
                *(self._uploader, manifest_digest, suspect_keys),
                report=lambda done, total: report(ImportProgress(done, total)),
            )
        except ObjectStoreError as exc:
            raise ImportRefused("store_refused", f"the object store says no: {exc}") from exc
        return None if manifest is None else ImportedModel(manifest, manifest_digest, 0)

    def _roots_of(self, tenant: str) -> tuple[Path, ...]:
        """An operator's models come from anywhere below the roots, others' from their own folders:
        who may name a path may read what lies there."""
        if tenant == OPERATOR_TENANT:
            return self._settings.roots
        return tuple(root / tenant for root in self._settings.roots)

    @contextlib.asynccontextmanager
    async def _folder(self, source: Path, roots: tuple[Path, ...]) -> AsyncIterator[SourceFolder]:
        # Others may pass it, as a conversion's own user has to, and see nothing.
        self._settings.scratch_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        if not _is_gguf(source):
            with opened_folder(source, roots) as folder:
                yield folder
            return
        async with converted_gguf(
            source, roots, self._settings.scratch_dir, self._settings.conversion
        ) as converted:
            # Beneath its parent: the child may have put a link in its place.
            with opened_folder(converted, [converted.parent]) as folder:
                yield folder

    async def _import(
        self, folder: SourceFolder, config_name: str, owner: str | None, report: Report
    ) -> ImportedModel:
        checked = await asyncio.to_thread(_check, folder, config_name, owner)
        sizes = (layout_of(unit, owner).size_bytes for unit in checked.plan.units)
        tally = _Tally(report, sum(sizes))
        units = [await self._store_unit(unit, checked, tally) for unit in checked.plan.units]
        await asyncio.to_thread(folder.require_unchanged)
        manifest = Manifest(
            architecture=checked.plan.architecture,
            config_json=canonical_bytes(checked.checkpoint.config.values).decode(),
            dtype=checked.checkpoint.dtype,
            max_context_tokens=checked.plan.max_context_tokens,
            vocab_size=checked.plan.vocab_size,
            bos_token_id=checked.tokenizer.bos_token_id,
            eos_token_ids=checked.tokenizer.eos_token_ids,
            kv_bytes_per_token=checked.plan.kv_bytes_per_token,
            tokenizer_files=await self._store_tokenizer(checked.tokenizer),
            units=tuple(units),
        )
        data = _checked_bytes(manifest)
        digest = await self._uploader.put_bytes(manifest_key, data)
        return ImportedModel(manifest, digest, tally.num_sent)

    async def _store_unit(
        self, unit: PlannedUnit, checked: "_Checked", tally: "_Tally"
    ) -> UnitEntry:
        packed = await asyncio.to_thread(
            pack_unit,
            unit,
            checked.checkpoint,
            self._settings.scratch_dir,
            owner=checked.owner,
        )
        with packed.file:
            entry = packed.entry
            was_sent = await self._uploader.put_file(
                entry.key, packed.file, size_bytes=entry.size_bytes, digest=entry.digest
            )
        tally.add(entry.size_bytes, was_sent)
        return entry

    async def _store_tokenizer(self, tokenizer: TokenizerFiles) -> tuple[FileEntry, ...]:
        entries = []
        for name, data in sorted(tokenizer.files.items()):
            digest = await self._uploader.put_bytes(tokenizer_key, data)
            entries.append(FileEntry(name, digest, len(data)))
        return tuple(entries)


@dataclass(frozen=True)
class _Checked:
    checkpoint: Checkpoint
    plan: ModelPlan
    tokenizer: TokenizerFiles
    owner: str | None


def _is_gguf(source: Path) -> bool:
    return source.suffix.lower() == GGUF_SUFFIX


def _config_name(source: Path) -> str:
    """A GGUF file has no config.json: its conversion wrote one, which its user never sees."""
    return f"the metadata of {source.name}" if _is_gguf(source) else CONFIG_NAME


def _check(folder: SourceFolder, config_name: str, owner: str | None) -> _Checked:
    """Blocking. All that can be known to be wrong without reading the weights themselves."""
    checkpoint = read_checkpoint(folder, config_name)
    plan = plan_model(checkpoint.config, checkpoint.dtype, config_name)
    checkpoint.check_against(plan)
    tokenizer = read_tokenizer_files(folder, checkpoint.config, plan.vocab_size)
    return _Checked(checkpoint, plan, tokenizer, owner)


def _checked_bytes(manifest: Manifest) -> bytes:
    """What we store must be what we would read."""
    data = encode_manifest(manifest)
    try:
        decode_manifest(data)
    except ManifestError as exc:
        raise ImportRefused("bad_config", f"the model cannot be described: {exc}") from exc
    return data


class _Tally:
    """Counts and reports; one import owns one."""

    def __init__(self, report: Report, bytes_total: int) -> None:
        self._report, self._bytes_total = report, bytes_total
        self._bytes_done, self.num_sent = 0, 0
        report(ImportProgress(0, bytes_total))

    def add(self, nbytes: int, was_sent: bool) -> None:
        self._bytes_done += nbytes
        self.num_sent += was_sent
        self._report(ImportProgress(self._bytes_done, self._bytes_total))
