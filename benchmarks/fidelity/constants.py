"""Constants of the simulator, as a run on real processes shows them. Pure.

Times are anchored at first tokens: `launch` and `tail` are what lies between a start's command, or
its last byte, and the first token, without what a prompt takes once the endpoint is warm. A first
prompt is slower than later ones, and that is in them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.fidelity.starts import PromptedStart, Starts, middle
from benchmarks.replay.models import Kind, ReplayModel
from benchmarks.replay.record import RequestRecord, RunRecord
from libs.common.decode_batches import DECODE_BATCHES
from services.scheduler.policy.prediction.quantities import PRIORS, STEPS, Quantity

MIN_VALUES = 3  # of a quantity that is taken from what the scheduler keeps
PAUSE_S = 0.02  # between two rounds for which nobody waits
# A node makes a standby after two looks, a quarter of a second apart, at which no worker starts;
# the fork takes a tenth of a second here.
REFILL_S = 0.7
STOP_S = 0.2  # from the word to stop until the memory is free
UNMEASURED_LAUNCH_S = 2.5  # of a process without a standby (docs/standby-runtimes.md)
# Of a kind of model that no warm request asked for.
UNMEASURED_PREFILL_S, UNMEASURED_STEP_S = 0.0001, 0.001


@dataclass(frozen=True)
class KindSpeed:
    prefill_s_per_token: float
    decode_step_s: Mapping[int, float]  # by batch


@dataclass(frozen=True)
class Constants:
    standby_launch_s: float
    launch_s: float
    register_s: float
    tail_s: float
    round_s: float
    message_s: float
    prompt_hop_s: float
    nic_bytes_per_s: float
    speeds: Mapping[str, KindSpeed]  # by kind of model
    hop_s: float = PRIORS[Quantity.HOP_S]  # nothing measures it
    pause_s: float = PAUSE_S
    standby_refill_s: float = REFILL_S
    stop_s: float = STOP_S


@dataclass(frozen=True)
class Calibration:
    """`nic_bytes_per_s`: as configured, for want of a measurement."""

    record: RunRecord
    models: Sequence[ReplayModel]
    nic_bytes_per_s: float

    def constants(self) -> Constants:
        message_s = self._message_s()
        speeds = {kind.name: self._speed(kind, message_s) for kind in {m.kind for m in self.models}}
        prompt_hop_s = self._row(Quantity.PROMPT_HOP_S) or 0.0
        seen = Starts([*self._prompted(speeds, prompt_hop_s)])
        standby_s = seen.launch_s(is_standby=True)
        launch_s = seen.launch_s(is_standby=False) or self._process_launch_s(standby_s)
        round_s = max(0.0, seen.command_s() - 4 * message_s)
        return Constants(
            standby_launch_s=standby_s or launch_s,
            launch_s=launch_s,
            register_s=max(0.0, seen.linked_s() - round_s - 2 * message_s),
            tail_s=seen.tail_s() or self._row(Quantity.TAIL_S) or 0.0,
            round_s=round_s,
            message_s=message_s,
            prompt_hop_s=prompt_hop_s,
            nic_bytes_per_s=seen.nic_bytes_per_s() or self.nic_bytes_per_s,
            speeds=speeds,
        )

    def _prompted(self, speeds: Mapping[str, KindSpeed], hop_s: float) -> Iterator[PromptedStart]:
        """With what a warm endpoint would have taken for the prompt."""
        kinds = {model.name: model.kind for model in self.models}
        for start in self.record.starts:
            if start.num_prompt_tokens is not None and start.ttft_s is not None:
                kind = kinds[start.model]
                own_s = start.num_prompt_tokens * speeds[kind.name].prefill_s_per_token
                prompt_s = own_s + hop_s * (start.num_stages - 1)
                yield PromptedStart(start, prompt_s, 1 / kind.num_layers)

    def _speed(self, kind: Kind, message_s: float) -> KindSpeed:
        """What its requests show where the scheduler has measured little."""
        names = self._names(kind)
        asked = [r for r in self.record.requests if r.model in names and r.is_served]
        per_token_s = self._row(Quantity.PREFILL_S_PER_TOKEN, names) or middle(
            max(0.0, (r.ttft_s or 0.0) - 2 * message_s) / r.num_prompt_tokens
            for r in asked
            if is_warm(r)
        )
        steps = {batch: self._row(STEPS[batch], names) for batch in DECODE_BATCHES}
        known = {batch: step_s for batch, step_s in steps.items() if step_s}
        if 1 not in known:
            known[1] = middle(self._step_s(r) for r in asked) or UNMEASURED_STEP_S
        return KindSpeed(per_token_s or UNMEASURED_PREFILL_S, dict(sorted(known.items())))

    def _step_s(self, request: RequestRecord) -> float | None:
        if request.tpot_s is None or request.num_stages is None:
            return None
        return max(0.0, request.tpot_s - PRIORS[Quantity.HOP_S] * (request.num_stages - 1)) or None

    def _message_s(self) -> float:
        """What a warm request takes beside its prompt, there and back. Of those that were alone, if
        there are any: nobody else's work is in that."""
        warm = [r for r in self.record.requests if is_warm(r) and r.num_stages == 1]
        alone = [r for r in warm if self._is_alone(r)]
        return max(0.0, (middle(map(self._beside_prompt_s, alone or warm)) or 0.0) / 2)

    def _beside_prompt_s(self, request: RequestRecord) -> float | None:
        kind = next(model.kind for model in self.models if model.name == request.model)
        per_token_s = self._row(Quantity.PREFILL_S_PER_TOKEN, self._names(kind))
        if per_token_s is None or request.ttft_s is None:
            return None
        return request.ttft_s - request.num_prompt_tokens * per_token_s

    def _is_alone(self, request: RequestRecord) -> bool:
        """Nobody else was served, or waited, until it had its first token."""
        begun_s, done_s = request.arrived_at_s, request.arrived_at_s + (request.ttft_s or 0.0)
        others = (r for r in self.record.requests if r.index != request.index)
        return not any(r.arrived_at_s < done_s and r.ended_at_s > begun_s for r in others)

    def _names(self, kind: Kind) -> set[str]:
        return {model.name for model in self.models if model.kind == kind}

    def _process_launch_s(self, standby_s: float | None) -> float:
        """Of a process without a standby, where no start had one."""
        known = middle(self.record.launch_s.values())
        return UNMEASURED_LAUNCH_S if known is None else known + (standby_s or 0.0)

    def _row(self, quantity: Quantity, models: Iterable[str] = ()) -> float | None:
        """The median of what the scheduler keeps of it; None where that are a few values."""
        wanted = set(models)
        rows = (row for row in self.record.measured if row.quantity == quantity.value)
        values = [x for row in rows if row.model in wanted or not wanted for x in row.values]
        return middle(values) if len(values) >= MIN_VALUES else None


def is_warm(request: RequestRecord) -> bool:
    is_whole = request.ttft_s is not None and request.num_prompt_tokens > 0
    return request.is_served and not request.is_cold and is_whole
