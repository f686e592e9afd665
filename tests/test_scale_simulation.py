"""The simulation of large clusters: nothing gets lost in it, and its arithmetic is right."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import simulate_scale
from benchmarks.cluster import FIGURES, SLOTS, Cluster, Population, nodes_of_room, owners, plan, slot_of
from benchmarks.storms import NO_JITTER, OPEN, Result, Scenario, Simulation, delay, scenarios
from streamws import Backoff
from streamws.codes import Cause, Close, CloseOutcome, Side
from streamws.connecting.reconnecting import Retries, is_transient

PAGE = Path(__file__).parents[1] / "docs" / "topics" / "scaling.md"
VALUES = {name: figure.value for name, figure in FIGURES.items()}
SMALL = Cluster(connections=200_000, machines=2, processes=2, sample=100)
"""Four nodes with 500 simulated connections each."""


def simulate(scenario: Scenario, cluster: Cluster = SMALL, seed: int = 1) -> tuple[Simulation, Result]:
    simulation = Simulation(cluster, scenario, VALUES, seed)
    return simulation, simulation.run()


@pytest.mark.parametrize("name", ["process", "all-at-once", "all", "drain"])
def test_every_connection_is_in_one_state_at_each_step(name: str) -> None:
    scenario = scenarios(SMALL)[name]
    if scenario.drain:
        scenario = replace(scenario, drain=10.0)
    simulation = Simulation(replace(SMALL, sample=500), scenario, VALUES)
    away = []

    def check() -> None:
        states = Counter(simulation.state)
        assert [states[state] for state in range(4)] == simulation.counts
        homes = Counter(home for home, state in zip(simulation.home, simulation.state, strict=True) if state == OPEN)
        assert [homes[node] for node in range(len(simulation.nodes))] == simulation.live
        away.append(simulation.away)

    simulation.run(check)
    assert max(away) > 0
    assert away[-1] == 0


@pytest.mark.parametrize("name", scenarios(SMALL))
@pytest.mark.parametrize("size", [100, 1])
def test_every_publication_is_delivered_or_told_as_a_gap(name: str, size: int) -> None:
    busy = replace(SMALL, connections=20_000, sample=20, history_size=size, personal_rate=0.5, room_rate=2.0)
    simulation, result = simulate(scenarios(busy)[name], busy)
    assert simulation.owed() > 2 * busy.simulated
    assert simulation.accounted() == simulation.owed()
    assert result.recovered > 0
    assert (simulation.missed > 0) == (size == 1)
    if simulation.scenario.keeps_data:
        assert (result.gaps > 0) == (simulation.missed > 0)
    else:
        followers = sum(not broker for broker in simulation.people.broker)
        followers += sum(not simulation.people.room_broker[room] for room in simulation.people.room)
        assert result.gaps == followers * busy.sample


def test_history_that_is_too_short_or_too_old_leaves_a_gap() -> None:
    slow = Scenario("", "", Backoff(first=60.0, jitter=0.0), lost=1)
    for cluster, gaps in ((SMALL, False), (replace(SMALL, history_seconds=10.0), True)):
        simulation, result = simulate(slow, cluster)
        assert (result.gaps > 0) == gaps
        assert simulation.accounted() == simulation.owed()


@pytest.mark.parametrize("name", scenarios(SMALL))
def test_all_work_has_its_cost(name: str) -> None:
    simulation, result = simulate(scenarios(SMALL)[name])
    spent, cost = simulation.work()
    assert spent == pytest.approx(cost)
    assert result.reads == simulation.reads * SMALL.sample
    assert result.back[0.5] <= result.back[0.99] <= result.back[1.0] < 900
    assert simulation.returned == simulation.lost > 0
    if simulation.scenario.lost:
        assert simulation.attempts == simulation.lost + simulation.failed


def test_jitter_lowers_the_peak() -> None:
    peaks = {}
    for jitter in (0.0, 0.5, 1.0):
        backoff = Backoff(first=20.0, jitter=jitter)
        peaks[jitter] = simulate(Scenario("", "", backoff, SMALL.nodes, replaced=True))[1].peak
    assert peaks[0.0] == SMALL.connections
    assert peaks[0.5] < peaks[0.0] / 5
    assert peaks[1.0] < 0.7 * peaks[0.5]


def test_draining_lowers_the_peak_and_nothing_fails() -> None:
    known = scenarios(SMALL)
    _, crash = simulate(known["all-at-once"])
    _, drain = simulate(known["drain"])
    assert crash.failed > 0
    assert drain.failed == 0
    assert drain.peak < crash.peak / 50


def test_nodes_read_some_histories_at_a_time_so_that_none_fails() -> None:
    large = Cluster(sample=200)
    _, two = simulate(scenarios(large)["broker-of-two"], large)
    _, four = simulate(scenarios(large)["broker"], large)
    assert two.failed == four.failed == 0
    assert two.broker_wait < large.broker_timeout
    assert (two.reads, four.reads) == (two.lost, four.lost)


def test_connections_over_the_backlog_fail() -> None:
    known = scenarios(SMALL)
    assert simulate(known["process"])[1].failed == 0
    simulation, result = simulate(known["all"], replace(SMALL, backlog=1000))
    assert result.failed > 0
    assert all(not core.jobs for core in simulation.nodes)


def test_waits_are_those_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    for backoff in (Backoff(), NO_JITTER, Backoff(first=0.0), Backoff(first=0.0, most=0.0), Backoff(most=3.0)):
        retries = Retries(backoff, is_transient)
        monkeypatch.setattr(random, "random", random.Random(7).random)
        expected = [retries.delay_after_failure(OSError()) for _ in range(12)]
        same = random.Random(7).random
        assert [delay(backoff, failures, same) for failures in range(12)] == pytest.approx(expected)


def test_wait_after_a_drain_is_that_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    retries = Retries(Backoff(), is_transient)
    monkeypatch.setattr(random, "random", random.Random(7).random)
    monkeypatch.setattr(random, "uniform", lambda shortest, longest: longest)
    close = Close(1012)
    outcome = CloseOutcome(Cause.CLOSED_WITH_ERROR, Side.REMOTE, received=close, sent=close)
    expected = retries.delay_after_end(outcome, 60.0)
    assert delay(Backoff(), 0, random.Random(7).random, 30.0) == pytest.approx(expected)


def test_slots_of_lost_nodes_are_shared_and_others_stay() -> None:
    before, after = owners(20), owners(20, [3, 4])
    assert all(then == now for then, now in zip(before, after, strict=True) if then not in (3, 4))
    shares = Counter(after)
    assert sum(shares.values()) == SLOTS
    assert set(shares) == set(range(20)) - {3, 4}
    assert max(shares.values()) - min(shares.values()) <= 2


def test_users_and_rooms_are_spread_as_the_arithmetic_says() -> None:
    cluster = Cluster(sample=20)
    people = Population(cluster)
    table = owners(cluster.nodes)
    homes = [table[slot] for slot in people.slot]
    mean = cluster.simulated / cluster.nodes
    assert all(abs(number - mean) < 0.1 * mean for number in Counter(homes).values())
    pairs = len(set(zip(homes, people.room, strict=True)))
    assert pairs / cluster.rooms == pytest.approx(nodes_of_room(cluster), rel=0.02)
    assert people.slot[7] == slot_of("user:7")


def test_same_seed_gives_the_same_result() -> None:
    scenario = scenarios(SMALL)["all"]
    _, first = simulate(scenario)
    _, again = simulate(scenario)
    _, other = simulate(scenario, seed=2)
    assert first == again
    assert first != other


def test_plan_is_that_of_a_small_cluster() -> None:
    cluster = Cluster(
        connections=1000, machines=2, processes=1, brokers=1, room=1, personal_rate=1.0, room_rate=1.0, payload=100
    )
    values = dict.fromkeys(FIGURES, 100.0) | {"memory": 6.0, "kernel": 2.0, "followed": 2.0, "keepalive": 400.0}
    values |= {"delivery": 50.0, "opening": 300.0}
    found = plan(cluster, values)
    assert found["connections of a node"] == "500"
    assert found["memory of a node for them"] == "5 MiB"
    assert found["pings a second of a node"] == "25"
    assert found["messages a second of a node"] == "1,000"
    # 25 pings of 400 µs, 1,000 deliveries of 50 µs and 1,000 publications of 100 µs
    assert found["core of a node in use"] == "16%"
    assert found["the same, one machine down"] == "32%"
    assert found["handshakes a second of a node"] == "2,000, with 2 joins each"
    assert found["publications a second"] == "2,000"
    assert found["core of a broker in use"] == "40%"


def test_command_prints_all_tables(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- simulation: plan -->\nold\n<!-- end of simulation -->\n")
    simulate_scale.main(["--sample", "100", "--scenario", "process", "--set", "opening=80", "--docs", str(page)])
    printed = capsys.readouterr().out
    assert "`opening`      80 µs" in printed
    assert "handshakes a second of a node          5,556, with 2 joins each" in printed
    assert printed.splitlines()[-1].startswith("a process dies  `Backoff()`")
    assert "| connections of a node | 50,000 |\n" in page.read_text()
    assert "old" not in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(["--set", "speed=1"], "no figure 'speed'"), (["--connections", "10"], "100 simulated connections for each node")],
)
def test_command_refuses_bad_options(arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        simulate_scale.main(arguments)
    assert error in capsys.readouterr().err


def test_command_refuses_a_scenario_in_which_no_node_is_left() -> None:
    with pytest.raises(SystemExit, match="too small for machine: no node would be left"):
        simulate_scale.main(["--machines", "1", "--scenario", "machine", "--sample", "100"])


def test_overloaded_cluster_never_recovers() -> None:
    busy = replace(SMALL, personal_rate=1.0)
    result = Simulation(busy, scenarios(busy)["broker-of-two"], VALUES).run(horizon=30.0)
    *_, row = simulate_scale.brokers_table([result])
    assert row[-4:-1] == ("never", "never", "never")


def test_tables_of_the_page_are_those_of_the_program() -> None:
    page = PAGE.read_text()
    tables = {
        "figures": simulate_scale.figures_table(VALUES),
        "plan": simulate_scale.plan_table(Cluster(), VALUES),
    }
    assert simulate_scale.fill(page, tables) == page
    _, result = simulate(scenarios(Cluster())["process"], Cluster())
    *_, row = simulate_scale.markdown(simulate_scale.storms_table([result])).splitlines()
    assert row in page.splitlines()
