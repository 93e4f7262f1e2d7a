"""What people read of a cause: one sentence, made of its facts as far as these are known."""

from collections.abc import Mapping

from libs.common.causes import Cause, CauseKind, Fact

_OF_FETCHES = frozenset(
    {
        CauseKind.UNIT_MISSING,
        CauseKind.UNIT_CORRUPT,
        CauseKind.STORE_UNREACHABLE,
        CauseKind.STORE_REFUSED,
        CauseKind.MANIFEST_INVALID,
        CauseKind.HOST_CACHE_FULL,
        CauseKind.SHARED_MEMORY_FULL,
        CauseKind.HOST_CALL_FAILED,
        CauseKind.FETCHER_FAILED,
    }
)

# The first sentence whose facts are all known is said.
_SENTENCES: Mapping[CauseKind, tuple[str, ...]] = {
    CauseKind.NODE_LOST: (
        "node {node_id} is lost: its agent is silent",
        "its node is lost: its agent is silent",
    ),
    CauseKind.NODE_SILENT: (
        "node {node_id} with worker {worker_id} is silent: {felt}",
        "node {node_id} is silent",
        "its node is silent",
    ),
    CauseKind.AGENT_RESTARTED: (
        "the agent of node {node_id} restarted and its workers ended",
        "its agent restarted and its workers ended",
    ),
    CauseKind.FETCHER_SILENT: (
        "the fetcher of node {node_id} is silent",
        "the fetcher of its node is silent",
    ),
    CauseKind.WORKER_VANISHED: ("{who} vanished from its agent's list",),
    CauseKind.WORKER_ENDED: ("{who}: it ended by itself ({state})", "{who} ended by itself"),
    CauseKind.STAGE_SILENT: ("{who} hangs: {felt}", "{who} hangs: only its neighbours say so"),
    CauseKind.STAGES_SEPARATED: (
        "its stages lost each other: {felt}",
        "its stages lost each other",
    ),
    CauseKind.START_STALLED: ("its start stands still: {progress}", "its start stands still"),
    CauseKind.STALE_CONTEXT: ("the model's context became longer while it started",),
    CauseKind.NOBODY_WAITED: ("nobody waited for it any more",),
    CauseKind.LAUNCH_FAILED: ("{detail}", "no worker process could be started"),
    CauseKind.PROCESS_EXITED: (
        "the worker process was killed by {signal}: {last_words}",
        "the worker process was killed by {signal}",
        "the worker process exited with code {code}: {last_words}",
        "the worker process exited with code {code}",
        "the worker process ended",
    ),
    CauseKind.PROCESS_UNWATCHED: (
        "the worker process could not be watched: {detail}: {last_words}",
        "the worker process could not be watched: {detail}",
        "the worker process could not be watched",
    ),
    CauseKind.PROCESS_HUNG: ("no sign of life for {seconds:g} s", "no sign of life"),
    CauseKind.ENGINE_HUNG: (
        "the engine has not moved for {seconds:g} s",
        "the engine does not move any more",
    ),
    CauseKind.START_TIMED_OUT: ("not ready within {seconds:g} s", "not ready in time"),
    CauseKind.PROTOCOL_BROKEN: (
        "the {by} broke the protocol: {detail}",
        "the protocol was broken: {detail}",
        "the protocol was broken",
    ),
    CauseKind.CONNECTION_CLOSED: ("the worker process closed its connection",),
    CauseKind.AGENT_FAILED: (
        "internal error of the agent: {detail}",
        "internal error of the agent",
    ),
    CauseKind.ENGINE_FAILED: ("{detail}", "the engine failed"),
    CauseKind.DEVICE_FAILED: ("{detail}", "its device failed"),
    CauseKind.RESERVATION_TOO_SMALL: (
        "{reserved_bytes} bytes of the GPU were reserved for it, which is too little: weights, KV "
        "cache and the driver's context take {needed_bytes}",
        "too little of its GPU was reserved for it",
    ),
    CauseKind.DATA_PORT_REFUSED: ("{detail}", "there is no data port for it"),
    CauseKind.NEIGHBOUR_LOST: (
        "stage {own_stage} lost its neighbour stage {stage}: {detail}",
        "stage {own_stage} lost its neighbour stage {stage}",
        "it lost its neighbour stage {stage}",
        "it lost its neighbour",
    ),
    CauseKind.NEIGHBOUR_STALLED: (
        "the next stage took nothing for {seconds:g} s",
        "the next stage took nothing",
    ),
    CauseKind.NEIGHBOUR_MISSING: (
        "stage {own_stage} was not linked within {seconds:g} s",
        "it was not linked with its neighbours in time",
    ),
    CauseKind.WEIGHTS_UNAVAILABLE: (
        "the weights cannot be had: {detail}",
        "the weights cannot be had",
    ),
    CauseKind.UNIT_MISSING: (
        "{key}: the object store has no such object",
        "the object store lacks one of its objects",
    ),
    CauseKind.UNIT_CORRUPT: (
        "{key}: the stored bytes do not match their digest ({detail})",
        "{key}: the stored bytes do not match their digest",
        "the stored bytes do not match their digest",
    ),
    CauseKind.STORE_UNREACHABLE: (
        "{key}: the object store cannot be reached ({detail})",
        "the object store cannot be reached: {detail}",
        "the object store cannot be reached",
    ),
    CauseKind.STORE_REFUSED: (
        "{key}: the object store refuses to send it ({detail})",
        "the object store refuses: {detail}",
        "the object store refuses to send it",
    ),
    CauseKind.MANIFEST_INVALID: ("{detail}", "its manifest is not valid"),
    CauseKind.HOST_CACHE_FULL: (
        "the host cache has no room for {needed_bytes} bytes: {used_bytes} of {capacity_bytes} "
        "are used, and {held_bytes} of them are in use by workers or fetches",
        "the host cache has no room for {needed_bytes} bytes",
        "the host cache has no room",
    ),
    CauseKind.SHARED_MEMORY_FULL: (
        "shared memory is full: {needed_bytes} bytes are needed in {folder}, whose file system "
        "has {free_bytes} of {size_bytes} free, and {held_bytes} are in use by workers or "
        "fetches; enlarge its mount (a container's --shm-size, a volume's size), or lower "
        "HYDRA_HOST_CACHE_BYTES on the nodes that share it",
        "shared memory is full",
    ),
    CauseKind.HOST_CALL_FAILED: (
        "the node's system refused a call: {detail}",
        "the node's system refused a call",
    ),
    CauseKind.FETCHER_FAILED: ("{detail}", "internal error, see the fetcher's log"),
    CauseKind.UNKNOWN: ("{detail}", "nobody knows why"),
}
_HUNG = (CauseKind.PROCESS_HUNG, CauseKind.ENGINE_HUNG, CauseKind.START_TIMED_OUT)
_NAMING = frozenset(  # their sentences say of whom they speak
    kind
    for kind, sentences in _SENTENCES.items()
    if "{who}" in sentences[0] or "{node_id}" in sentences[0]
)


def words(cause: Cause) -> str:
    """One sentence for people: what happened, and to whom."""
    facts = dict(cause.facts)
    who = _who(facts)
    said = _sentence(_SENTENCES[cause.kind], {**facts, "who": who or "a worker"})
    if cause.kind in _HUNG:
        said = _in_stage_and_step(said, facts)
    if who is None or cause.kind in _NAMING:
        return said
    return f"the fetch for {who} failed: {said}" if cause.kind in _OF_FETCHES else f"{who}: {said}"


def _who(facts: Mapping[str, Fact]) -> str | None:
    if "worker_id" not in facts:
        return None
    where = f" on node {facts['node_id']}" if "node_id" in facts else ""
    return f"worker {facts['worker_id']}{where}"


def _sentence(sentences: tuple[str, ...], facts: Mapping[str, Fact]) -> str:
    for sentence in sentences:
        try:
            return sentence.format_map(facts)
        except (KeyError, ValueError):  # not known, or a text where a number should be
            continue
    raise AssertionError("the last one needs no fact")


def _in_stage_and_step(said: str, facts: Mapping[str, Fact]) -> str:
    stage = f"stage {facts['own_stage']}: " if "own_stage" in facts else ""
    step = f" (in step {facts['step']})" if "step" in facts else ""
    return f"{stage}{said}{step}"
