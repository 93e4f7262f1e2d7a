"""Which gateways count as lost, and which as alive."""

from libs.common.bus.messages import GatewayHeartbeat
from services.scheduler.observation.heartbeat_log import GATEWAY_MEMORY_S, HeartbeatLog
from services.scheduler.observation.liveness import LivenessLog
from services.scheduler.policy.gateway_liveness import GatewayLiveness
from services.scheduler.policy.limits import Limits

LIMITS = Limits()  # lost after 10 s of silence, replaced after 3


class Listening:
    """Somebody always speaks each second, so that silence means something."""

    def __init__(self) -> None:
        self.log = HeartbeatLog(LivenessLog(0.0, LIMITS.longest_gap_s))
        self.now_s = 0.0

    @property
    def gateways(self) -> GatewayLiveness:
        return GatewayLiveness(self.log.snapshot(), LIMITS)

    def pass_s(self, seconds: int, *speaking: str) -> None:
        for _ in range(seconds):
            self.now_s += 1
            for gateway_id in (*speaking, "bystander-1"):
                beat = GatewayHeartbeat(gateway_id=gateway_id, request_ids=())
                self.log.accept_gateway(beat, self.now_s)


def test_a_silent_gateway_is_lost_after_the_whole_time() -> None:
    at = Listening()
    at.pass_s(1, "west-a")

    at.pass_s(10)
    assert not at.gateways.is_lost("west-a") and at.gateways.is_heard("west-a")
    at.pass_s(1)
    assert at.gateways.is_lost("west-a") and not at.gateways.is_heard("west-a")


def test_one_that_was_started_again_is_lost_sooner() -> None:
    at = Listening()
    at.pass_s(1, "west-a")

    at.pass_s(4, "west-b")

    assert at.gateways.is_lost("west-a")
    assert at.gateways.is_heard("west-b")


def test_two_that_share_a_name_and_both_speak_both_live() -> None:
    at = Listening()

    at.pass_s(20, "west-a", "west-b")

    assert at.gateways.is_heard("west-a") and at.gateways.is_heard("west-b")


def test_one_of_before_this_leader_is_lost_once_its_successor_speaks() -> None:
    at = Listening()
    at.pass_s(3, "west-b")
    assert not at.gateways.is_lost("west-a") and not at.gateways.is_heard("west-a")

    at.pass_s(1, "west-b")

    assert at.gateways.is_lost("west-a")


def test_gateways_of_long_ago_are_forgotten() -> None:
    at = Listening()
    for number in range(5):
        at.pass_s(1, f"west-{number}")
    assert len(at.log.gateways) == 6

    at.pass_s(int(GATEWAY_MEMORY_S) + 5)

    assert list(at.log.gateways) == ["bystander-1"]
    assert at.gateways.is_lost("west-0")
