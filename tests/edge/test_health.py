"""Health: what is said over HTTP and to systemd is what the pipeline does, and a stuck thread is not hidden."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from libsedge import health
from libsedge.errors import ConfigError, SourceError
from libsedge.frame import Frame
from libsedge.health import Health, Heartbeat, Notifier, temperatures
from libsedge.journal import Journal
from libsedge.latency import Latency
from libsedge.pipeline import Pipeline
from libsedge.sources.base import Source
from mean_classifier import CHANNELS, MeanClassifier
from watched import System, get, samples, until

MODEL = {"name": 'a "quoted"\\name\n', "version": "1.0.0"}


def frame(sequence: int) -> Frame:
    return Frame(5, 0, sequence, 0, 0, 0, 0, np.full(CHANNELS, 200, np.float32))


class Feed(Source):
    """Yields what the test puts in, and None while it puts nothing; hangs for ever where it says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Frame] = []
        self.ended, self.hang = threading.Event(), threading.Event()
        self.noise = False  # refuses one frame a turn

    def __iter__(self) -> Iterator[Frame | None]:
        while not self.ended.is_set():
            while self.hang.is_set() and not self.ended.is_set():
                time.sleep(0.01)
            self.refused["crc"] += self.noise
            time.sleep(0.005)
            yield self.waiting.pop(0) if self.waiting else None

    def stop(self) -> None:
        self.ended.set()

    def close(self) -> None:
        pass


class Stuck(MeanClassifier):
    """Hangs in `decide` while it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.hang = threading.Event()

    def decide(self, *arguments: Any) -> Any:
        while self.hang.is_set():
            time.sleep(0.01)
        return super().decide(*arguments)


class Running:
    """A pipeline in a thread of its own, watched."""

    def __init__(self, folder: Path, system: System, policy: str) -> None:
        self.source, self.classifier = Feed(), Stuck()
        self.pipeline: Pipeline
        made, self.report = threading.Event(), None

        def work() -> None:
            journal = Journal(folder / "run.db")
            self.pipeline = Pipeline(
                self.source, self.classifier, journal, interval_s=0.02, capacity=4, policy=policy
            )
            made.set()
            self.report = self.pipeline.run()
            journal.close()

        self.thread = threading.Thread(target=work)
        self.thread.start()
        made.wait()
        self.health = Health(self.pipeline, MODEL, "127.0.0.1:0", Notifier(system.environment))

    def close(self) -> None:
        self.classifier.hang.clear()
        self.source.hang.clear()
        self.pipeline.stop()
        self.thread.join()
        self.health.close()


@pytest.fixture
def running(
    tmp_path: Path, system: System, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Running]:
    """Its parameter is the queue's policy: with `block`, the default, the reader decides."""
    monkeypatch.setattr(health, "LIVE_S", 1.0)
    it = Running(tmp_path, system, getattr(request, "param", "block"))
    yield it
    it.close()


def test_heartbeat_needs_both_threads() -> None:
    now = [0.0]
    turning = SimpleNamespace(reader_turns=0, worker_turns=0, reader_done=False)
    heart = Heartbeat(turning, lambda: now[0])
    now[0] = 3.0
    assert not heart.beat()
    turning.reader_turns = 5
    assert not heart.beat()  # the reader alone
    turning.worker_turns = 1
    assert heart.beat()
    assert not heart.beat()  # nothing turned since
    turning.worker_turns = 9
    assert not heart.beat()  # the worker alone
    now[0] = 7.5
    assert heart.age_s == 4.5
    turning.reader_done = True  # the stream has ended, the worker finishes
    assert heart.beat()
    assert heart.age_s == 0.0


def test_idle_is_alive(running: Running, system: System) -> None:
    """No frame at all for longer than the watchdog's limit: proof of idleness feeds it."""
    until(lambda: get(running.health.address, "/v2/health/ready") == (200, "ready\n"))
    system.messages()
    time.sleep(1.3)
    assert get(running.health.address, "/v2/health/live") == (200, "live\n")
    assert len(system.messages()) >= 2  # the worker looks at its queue four times a second


def test_ready_is_said_once_and_first(running: Running, system: System) -> None:
    told: list[str] = []
    until(lambda: told.extend(system.messages()) or len(told) > 3)
    assert told[0] == "READY=1"
    assert set(told[1:]) == {"WATCHDOG=1"}
    running.pipeline.stop()
    until(lambda: get(running.health.address, "/v2/health/ready")[0] == 503)


@pytest.mark.parametrize(
    ("running", "who"),
    [
        ("block", "source"),
        ("block", "reader that decides"),
        ("drop-newest", "worker"),
        ("drop-newest", "worker under noise"),
    ],
    indirect=["running"],
)
def test_a_stuck_thread_starves_the_watchdog(running: Running, system: System, who: str) -> None:
    """Negative control of the rule: a timer would feed it, and so would counting what is refused meanwhile."""
    until(lambda: get(running.health.address, "/v2/health/live")[0] == 200)
    running.source.waiting += [frame(i) for i in range(4)]
    until(lambda: running.pipeline.ledger.journaled == 4)
    running.source.noise = who == "worker under noise"
    if who == "source":
        running.source.hang.set()
    else:
        running.classifier.hang.set()
        running.source.waiting.append(frame(99))
    time.sleep(0.6)  # what turned before it hung has been seen
    system.messages()
    before = running.pipeline.ledger.received
    until(lambda: get(running.health.address, "/v2/health/live")[0] == 503)
    assert system.messages() == []
    assert get(running.health.address, "/v2/health/ready")[0] == 503
    assert get(running.health.address, "/metrics")[0] == 200  # still says what it can
    assert (running.pipeline.ledger.received > before) == (who == "worker under noise")
    running.source.hang.clear()
    running.classifier.hang.clear()
    until(lambda: get(running.health.address, "/v2/health/live")[0] == 200)
    until(lambda: "WATCHDOG=1" in system.messages())


def test_metrics_add_up_at_every_moment(running: Running) -> None:
    names = [f'libsedge_frames_total{{end="{end}"}}' for end in ("journaled", "unjournaled", "duplicate")]
    names += [f'libsedge_frames_total{{end="{end}"}}' for end in ("rejected", "shed")]
    numbers = [i for i in range(150) if i % 10] + [1, 2, 3]
    running.source.waiting += [frame(i) for i in numbers]
    pages = 0
    while running.pipeline.ledger.ended < len(numbers):
        page = samples(get(running.health.address, "/metrics")[1])
        total = sum(page[name] for name in names) + page["libsedge_frames_in_flight"]
        assert page["libsedge_frames_received_total"] == total
        assert page["libsedge_frames_unaccounted"] == 0
        pages += 1
    assert pages > 0
    page = samples(get(running.health.address, "/metrics")[1])
    assert [page[name] for name in names] == [135, 0, 3, 0, 0]
    assert page["libsedge_sequence_gaps"] == 14  # 10, 20, ... 140
    assert page['libsedge_decisions_total{label="high"}'] == 135
    buckets = [value for name, value in page.items() if "latency_seconds_bucket" in name]
    assert buckets == sorted(buckets)
    assert buckets[-1] == page["libsedge_decision_latency_seconds_count"] == 135
    assert page["libsedge_queue_capacity"] == 4
    assert 10e6 < page["process_resident_memory_bytes"] < 4e9
    info = next(name for name in page if name.startswith("libsedge_model_info"))
    assert r'name="a \"quoted\"\\name\n"' in info
    assert not running.health.live or page["libsedge_heartbeat_age_seconds"] < 1.0


def test_prometheus_own_parser_reads_the_page(running: Running) -> None:
    """Prometheus' reader of its own format gives the samples that ours gives, label values unescaped."""
    parser: Any = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")
    running.source.waiting += [frame(i) for i in range(20)]
    until(lambda: running.pipeline.ledger.ended == 20)
    page = get(running.health.address, "/metrics")[1]
    families = {family.name: family for family in parser.text_string_to_metric_families(page)}
    read = [sample for family in families.values() for sample in family.samples]
    assert sorted(sample.value for sample in read) == sorted(samples(page).values())
    assert len({(sample.name, *sorted(sample.labels.items())) for sample in read}) == len(read)
    assert {family.type for family in families.values()} == {"counter", "gauge", "histogram"}
    assert all(family.documentation for family in families.values())
    received = families["libsedge_frames_received"]  # the parser takes a counter's _total away
    assert (received.type, [sample.value for sample in received.samples]) == ("counter", [20])
    (info,) = families["libsedge_model_info"].samples
    assert info.labels["name"] == MODEL["name"]
    stages = {sample.labels["stage"] for sample in families["libsedge_stage_seconds"].samples}
    assert stages == {"queue", "preprocess", "inference", "commit"}


def test_requests_that_are_refused(running: Running) -> None:
    address = running.health.address
    until(lambda: get(address, "/v2/health/live")[0] == 200)
    assert get(address, "/") == (404, "/v2/health/live, /v2/health/ready, /metrics\n")
    assert get(address, "/metrics?x=1")[0] == 404
    for method in ("POST", "PUT", "DELETE", "HEAD"):
        assert get(address, "/metrics", method)[0] == 405
    for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.1:80", "", "localhost:99999999"):
        assert get(address, "/metrics", Host=host)[0] == 403, host
    for host in ("localhost", "127.0.0.1:80", "[::1]:9400", "LOCALHOST:1"):
        assert get(address, "/metrics", Host=host)[0] == 200, host
    twice = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert raw(address, twice).startswith(b"HTTP/1.1 403 ")
    assert raw(address, b"GET /metrics HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 403 ")
    for rubbish in (b"\r\n\r\n", b"\xff" * 20 + b"\r\n\r\n", b"GET /metrics\r\n\r\n", b"GET  HTTP/9\r\n\r\n"):
        assert raw(address, rubbish).startswith(b"HTTP/1.1 400 "), rubbish
    assert raw(address, b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 9000).startswith(b"HTTP/1.1 400 ")
    assert get(address, "/v2/health/live")[0] == 200


def raw(address: str | None, request: bytes) -> bytes:
    assert address is not None
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(request)
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # what was not read resets the connection
            while more := sock.recv(4096):
                answer += more
        return answer


def test_slow_clients_are_cut_off_and_bounded(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "DEADLINE_S", 0.4)
    assert running.health.address is not None
    host, _, port = running.health.address.rpartition(":")
    slow = [socket.create_connection((host, int(port)), timeout=5) for _ in range(health.MAX_CLIENTS)]
    for sock in slow:
        sock.sendall(b"GET /metrics HTTP/1.1\r\n")
    time.sleep(0.1)
    assert raw(running.health.address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""  # the fifth
    for sock in slow:
        assert sock.recv(100).startswith(b"HTTP/1.1 400 ")
        sock.close()
    until(lambda: raw(running.health.address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") != b"")
    running.source.waiting += [frame(i) for i in range(10)]
    until(lambda: running.pipeline.ledger.journaled == 10)


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0:0", "192.168.1.1:1", "[::]:0", "9400", "127.0.0.1:", "127.0.0.1:70000", "example.org:1"],
)
def test_only_loopback_is_bound(running: Running, address: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        Health(running.pipeline, MODEL, address)


def test_port_in_use(running: Running) -> None:
    with pytest.raises(SourceError, match="cannot listen"):
        Health(running.pipeline, MODEL, running.health.address)


def test_temperatures(tmp_path: Path) -> None:
    for number, (kind, text) in enumerate((("cpu", "45123\n"), ("gpu", "rubbish"), ("pmic", "-5000"))):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "type").write_text(kind + "\n")
        (zone / "temp").write_text(text)
    assert temperatures(tmp_path) == {"thermal_zone0 cpu": 45.123, "thermal_zone2 pmic": -5.0}


def test_cumulative_latency() -> None:
    latency = Latency()
    for seconds in (0.00011, 0.0009, 0.0015, 0.3, 7.0):
        latency.add(seconds)
    count, total, below = latency.cumulative((0.0002, 0.001, 0.002, 1.0, 5.0))
    assert (count, below) == (5, [1, 2, 3, 4, 4])
    assert total == pytest.approx(7.30251)
