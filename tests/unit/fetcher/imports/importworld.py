"""An importer on an object store in memory, with a folder of models."""

from collections.abc import Callable
from pathlib import Path

import pytest

from libs.common.tenants import OPERATOR_TENANT
from libs.common.testing.objectstore import MemoryObjectStore
from services.fetcher.errors import ImportRefused
from services.fetcher.fetching.governor import NicGovernor
from services.fetcher.fetching.transfer import RetryPolicy
from services.fetcher.imports.gguf_conversion import ConversionLimits
from services.fetcher.imports.importer import (
    ImportedModel,
    Importer,
    ImportProgress,
    ImportSettings,
)
from services.fetcher.imports.upload import Uploader

QUICK = RetryPolicy(patience_s=0.2, first_delay_s=0.001, max_delay_s=0.01)


class ImportWorld:
    def __init__(self, folder: Path) -> None:
        self.store = MemoryObjectStore()
        self.root = folder / "models"
        self.root.mkdir()
        self.source = self.root / "tiny"
        self.scratch = folder / "scratch"
        self.progress: list[ImportProgress] = []
        self.report: Callable[[ImportProgress], None] = self.progress.append
        self.retry = QUICK

    async def run(
        self, source: Path | None = None, *, tenant: str = OPERATOR_TENANT, is_public: bool = True
    ) -> ImportedModel:
        uploader = Uploader(self.store, self.store, NicGovernor(0), self.retry)
        limits = ConversionLimits(memory_bytes=1 << 30, timeout_s=10)
        settings = ImportSettings((self.root,), self.scratch, limits)
        importer = Importer(uploader, settings)
        return await importer.run(
            source or self.source, tenant=tenant, is_public=is_public, report=self.report
        )

    async def refused(self, source: Path | None = None) -> ImportRefused:
        with pytest.raises(ImportRefused) as caught:
            await self.run(source)
        assert self.store.num_puts == 0
        return caught.value
