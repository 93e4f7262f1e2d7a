from pathlib import Path

import pytest

from services.scheduler.simulation.errors import TraceError
from services.scheduler.simulation.scenario import scenario as scenarios
from services.scheduler.simulation.scenario.overrides import Override
from services.scheduler.simulation.scenario.traffic import TraceFormat
from services.scheduler.simulation.workload.traces import TraceRow, read_trace
from services.scheduler.simulation.workload.workload import draw_workload
from tests.unit.scheduler.simulation.scenarios import SMALL

OWN = "arrived_at,model,prompt_tokens,output_tokens\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def test_rows_are_read_in_order_of_arrival_from_the_first_on(tmp_path: Path) -> None:
    path = written(tmp_path, OWN + "12.5,b,20,3\n10,a,10,2\n")
    assert read_trace(path, TraceFormat.CSV) == [
        TraceRow(0.0, "a", 10, 2),
        TraceRow(2.5, "b", 20, 3),
    ]


def test_the_azure_format_has_times_with_seven_digits_and_no_models(tmp_path: Path) -> None:
    rows = "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n"
    first, second = read_trace(written(tmp_path, AZURE + rows), TraceFormat.AZURE)
    assert first == TraceRow(0.0, None, 4808, 10)
    assert second.arrived_at_s == pytest.approx(0.052)


def test_times_may_have_a_zone_as_in_the_azure_traces_of_2024(tmp_path: Path) -> None:
    rows = "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10T02:00:01.5+02:00,2399,6\n"
    rows += "2024-05-10T00:00:02Z,76,15\n"
    found = read_trace(written(tmp_path, AZURE + rows), TraceFormat.AZURE)
    times = [0.0, 1.49007, 1.99007]  # from 0.00993 on
    assert [row.arrived_at_s for row in found] == pytest.approx(times)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("model,arrived_at\n", 1, "expected arrived_at,model,prompt_tokens,output_tokens"),
        (OWN, 2, "there are no requests"),
        (OWN + "1,a,10,2\nsoon,a,10,2\n", 3, "'soon': expected seconds, or a time"),
        (OWN + "nan,a,10,2\n", 2, "arrived_at = 'nan'"),
        (OWN + "1,a,ten,2\n", 2, "prompt_tokens = 'ten': expected a whole number"),
        (OWN + "1,a,10,-2\n", 2, "output_tokens = '-2': expected a whole number"),
        (OWN + "1,,10,2\n", 2, "model is empty"),
        (OWN + "1,a,10\n", 2, "more or fewer fields"),
        (OWN + "1,a,10,2,3\n", 2, "more or fewer fields"),
    ],
)
def test_a_bad_row_is_named_with_its_line(
    tmp_path: Path, text: str, line: int, problem: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        read_trace(path, TraceFormat.CSV)
    assert caught.value.line == line
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "none.csv", TraceFormat.CSV)


def with_trace(path: Path, format_: str) -> Override:
    return Override("traffic.trace", {"path": str(path), "format": format_}, is_new=True)


def test_a_trace_names_the_scenarios_models(tmp_path: Path) -> None:
    path = written(tmp_path, OWN + "0,model,10,2\n1.5,model,20,0\n500,model,1,1\n")
    workload = draw_workload(scenarios.parse("s", SMALL, [with_trace(path, "csv")]), 1)
    assert workload.arrived_at_s.tolist() == [0.0, 1.5]  # the last one is after the duration
    assert workload.output_tokens.tolist() == [2, 1]  # an answer has at least one token
    assert [request.model_id for request in workload.requests()] == ["model", "model"]


def test_a_prompt_that_leaves_no_room_for_its_answer_is_cut(tmp_path: Path) -> None:
    path = written(tmp_path, OWN + "0,model,5000,96\n1,model,4000,96\n")
    workload = draw_workload(scenarios.parse("s", SMALL, [with_trace(path, "csv")]), 1)
    assert workload.prompt_tokens.tolist() == [4000, 4000]  # of a context of 4,096


def test_a_model_that_the_scenario_does_not_have_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, OWN + "0,other,10,2\n")
    scenario = scenarios.parse("s", SMALL, [with_trace(path, "csv")])
    with pytest.raises(TraceError, match="no model 'other'; it has model"):
        draw_workload(scenario, 1)


def test_requests_without_a_model_get_one_by_popularity(tmp_path: Path) -> None:
    rows = "".join(f"2023-11-16 18:17:{second:02}.0,100,5\n" for second in range(50))
    path = written(tmp_path, AZURE + rows)
    overrides = [with_trace(path, "azure"), Override.of("models.model.count=3")]
    scenario = scenarios.parse("s", SMALL, overrides)
    first, again = draw_workload(scenario, 1), draw_workload(scenario, 1)
    assert len(first) == 50
    assert first.num_distinct_models == 3
    assert first.models.tolist() == again.models.tolist()
