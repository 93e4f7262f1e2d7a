"""A folder in Hugging Face's layout, read without trusting a byte of it.

`Checkpoint` knows where every tensor lies in the open files; nothing was loaded yet.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from libs.common.errors import SafetensorsError
from libs.common.strict_json import JsonFieldError, JsonObject, parse_object
from libs.common.weights.safetensors import (
    LENGTH_FIELD_BYTES,
    PlacedTensor,
    TensorSpec,
    header_length,
    parse_header,
)
from services.fetcher.errors import ImportRefused
from services.fetcher.imports.architectures import CONFIG_NAME, ModelPlan
from services.fetcher.imports.source import SourceFile, SourceFolder

MAX_CONFIG_BYTES = 1 << 20
MAX_INDEX_BYTES = 32 << 20
MAX_SHARDS = 1024
WEIGHT_DTYPES = ("BF16", "F16", "F32")

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


@dataclass(frozen=True)
class StoredTensor:
    file: SourceFile
    placed: PlacedTensor

    @property
    def spec(self) -> TensorSpec:
        return self.placed.spec

    @property
    def offset(self) -> int:
        return self.placed.offset


@dataclass(frozen=True)
class Checkpoint:
    config: JsonObject
    tensors: dict[str, StoredTensor]
    config_name: str = CONFIG_NAME  # as the user knows it

    @property
    def dtype(self) -> str:
        """What the weights are stored in. Raises ImportRefused for what no engine computes with."""
        largest = max(self.tensors.values(), key=lambda tensor: tensor.spec.nbytes, default=None)
        if largest is None or largest.spec.dtype not in WEIGHT_DTYPES:
            given = largest.spec.dtype if largest else "missing"
            raise ImportRefused(
                "bad_dtype",
                f"the weights are {given}; save them as one of {', '.join(WEIGHT_DTYPES)}",
            )
        return largest.spec.dtype

    def require_unchanged(self, tensors: Iterable[str]) -> None:
        """The files of these tensors are what they were when they were opened.

        Raises ImportRefused.
        """
        files = {file.name: file for file in (self.tensors[name].file for name in tensors)}
        for file in files.values():
            file.require_unchanged()

    def check_against(self, plan: ModelPlan) -> None:
        """Raises ImportRefused unless the tensors are exactly those of the plan."""
        wanted = {spec.name: spec for unit in plan.units for spec in unit.tensors}
        missing = sorted(wanted.keys() - self.tensors.keys())
        if missing:
            raise ImportRefused(
                "tensor_missing",
                f"{_some(missing)} missing from the checkpoint for {plan.architecture}",
            )
        unknown = sorted(self.tensors.keys() - wanted.keys())
        unexpected = [name for name in unknown if not plan.ignored.fullmatch(name)]
        if unexpected:
            raise ImportRefused(
                "tensor_unexpected",
                f"{_some(unexpected)} in the checkpoint, but not part of {plan.architecture}",
            )
        for name, spec in wanted.items():
            _check_equal(self.tensors[name].spec, spec, self.config_name)


def read_json(folder: SourceFolder, name: str, max_bytes: int) -> JsonObject:
    return parse_json(name, folder.open(name).read_small(max_bytes))


def parse_json(name: str, data: bytes) -> JsonObject:
    try:
        return parse_object(data, name=name)
    except JsonFieldError as exc:
        raise ImportRefused("bad_json", str(exc)) from exc


def read_checkpoint(folder: SourceFolder, config_name: str = CONFIG_NAME) -> Checkpoint:
    """Raises ImportRefused naming what is wrong with which file."""
    config = read_json(folder, CONFIG_NAME, MAX_CONFIG_BYTES)
    shards = _shards(folder)
    files = [folder.open(name) for name in shards]  # every name is checked before any is read
    tensors: dict[str, StoredTensor] = {}
    for file, (name, expected) in zip(files, shards.items(), strict=True):
        found = _read_shard(file)
        if expected is not None and expected != found.keys():
            odd = sorted(expected ^ found.keys())
            raise ImportRefused(
                "bad_index", f"{_INDEX} and {name} disagree: {_some(odd)} in only one of them"
            )
        twice = sorted(tensors.keys() & found.keys())
        if twice:
            raise ImportRefused("bad_index", f"{_some(twice)} in more than one file")
        tensors |= found
    return Checkpoint(config, tensors, config_name)


def _shards(folder: SourceFolder) -> dict[str, set[str] | None]:
    """File names with the tensors each must hold; None where no index says so."""
    if folder.open_if_present(_INDEX) is None:
        if folder.open_if_present(_SINGLE) is None:
            raise ImportRefused(
                "weights_missing",
                f"the folder holds neither {_SINGLE} nor {_INDEX}; save the model as safetensors",
            )
        return {_SINGLE: None}
    index = read_json(folder, _INDEX, MAX_INDEX_BYTES)
    try:
        weight_map = index.child("weight_map")
        named = {tensor: weight_map.text(tensor) for tensor in weight_map.values}
    except JsonFieldError as exc:
        raise ImportRefused("bad_index", f"{_INDEX}: {exc}") from exc
    shards: dict[str, set[str] | None] = {}
    for tensor, file in named.items():
        members = shards.setdefault(file, set())
        assert members is not None
        members.add(tensor)
    if not 1 <= len(shards) <= MAX_SHARDS:
        raise ImportRefused("bad_index", f"{_INDEX} names {len(shards)} files")
    return shards


def _read_shard(file: SourceFile) -> dict[str, StoredTensor]:
    try:
        first = file.read(0, min(LENGTH_FIELD_BYTES, file.size_bytes))
        header = file.read(LENGTH_FIELD_BYTES, header_length(first, file.size_bytes))
        placed = parse_header(header, file.size_bytes)
    except SafetensorsError as exc:
        raise ImportRefused(
            "bad_safetensors", f"{file.name} is damaged: {exc}; download or save it again"
        ) from exc
    return {tensor.spec.name: StoredTensor(file, tensor) for tensor in placed}


def _check_equal(found: TensorSpec, wanted: TensorSpec, config_name: str) -> None:
    if found.shape != wanted.shape:
        raise ImportRefused(
            "shape_mismatch",
            f"{found.name} has the shape {list(found.shape)}; {config_name} makes it "
            f"{list(wanted.shape)}",
        )
    if found.dtype != wanted.dtype:
        raise ImportRefused(
            "dtype_mismatch",
            f"{found.name} is {found.dtype} while other weights are {wanted.dtype}; "
            "save the model in one dtype",
        )


def _some(names: list[str]) -> str:
    """A few names and how many more, as the subject of a sentence."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    verb = "is" if len(names) == 1 else "are"
    return ", ".join(name[:120] for name in names[:3]) + more + f" {verb}"
