"""Decisions to an MQTT broker: at least once, through a broker that goes and comes back, and nobody is waited for."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from libsedge.errors import ConfigError
from libsedge.journal import Record
from libsedge.journal_rows import BurstRecord
from libsedge.ledger import Key
from libsedge.sinks import open_sink
from libsedge.sinks.jsonl import as_json, burst_as_json
from libsedge.sinks.mqtt import MqttSink
from mqtt_broker import OwnBroker, ProgramBroker, free_port

paho: Any = pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")


def record(sequence: int) -> Record:
    return Record(
        *(Key(9, 0, sequence), 10**18, 2300, "light", "basalt", 0.5, True, None, (0.5, 0.5), "ab", 7)
    )


class Subscriber:
    """A client of its own that keeps what comes: (topic, payload)."""

    def __init__(self, port: int) -> None:
        self.got: list[tuple[str, str]] = []
        self.there = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(0.1, 0.1)
        self._client.on_connect = lambda client, *_: client.subscribe("lab/#", qos=1)
        self._client.on_subscribe = lambda *_: self.there.set()
        self._client.on_message = lambda _, __, message: self.got.append(
            (message.topic, message.payload.decode())
        )
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()
        assert self.there.wait(20)

    def lines(self) -> list[str]:
        return [payload for topic, payload in self.got if topic == "lab/libs"]

    def state(self) -> list[str]:
        return [payload for topic, payload in self.got if topic == "lab/libs/state"]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def until(condition: Any, what: str) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


@pytest.fixture(params=["own", "mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param != "own" and ProgramBroker.program(request.param) is None:
        pytest.skip(f"{request.param} is not here (tests/edge/mqtt_broker.py)")
    own = request.param == "own"
    one = OwnBroker(free_port()) if own else ProgramBroker(request.param, free_port(), tmp_path)
    one.start()
    yield one
    one.stop()


def test_every_decision_arrives_as_its_json(broker: Any) -> None:
    subscriber = Subscriber(broker.port)
    sink = open_sink(f"mqtt:127.0.0.1:{broker.port}/lab/libs")
    assert isinstance(sink, MqttSink)
    rows = [record(i) for i in range(300)]
    burst = BurstRecord(
        *(9, 0, 5, 8, "vote", 4, 3, "basalt", 0.6, True, None, (0.6, 0.4), None, 10**18, "ab")
    )
    for at in range(0, 300, 50):  # from the first moment, connected or not
        sink.write(rows[at : at + 50])
    sink.write_bursts([burst])
    sink.close()
    sink.close()
    until(lambda: subscriber.state()[-1:] == ["offline"], "the state at the end")
    assert set(subscriber.lines()) == {*map(as_json, rows), burst_as_json(burst)}
    assert {json.loads(line)["sequence"] for line in subscriber.lines()} == set(range(300))
    assert subscriber.state() == ["online", "offline"]
    late = Subscriber(broker.port)
    until(lambda: late.state() == ["offline"], "the retained state")
    for one in (subscriber, late):
        one.close()


def test_broker_goes_and_comes_back(broker: Any) -> None:
    subscriber = Subscriber(broker.port)
    sink = MqttSink(f"127.0.0.1:{broker.port}/lab/libs")
    sink.write([record(i) for i in range(100)])
    until(lambda: len(subscriber.lines()) == 100, "the first hundred")
    broker.stop()
    until(lambda: not sink.connected, "the sink to notice")
    sink.write([record(i) for i in range(100, 200)])
    assert sink.waiting == 100
    before = list(subscriber.lines())
    subscriber.there.clear()
    broker.start()
    assert subscriber.there.wait(20)
    until(lambda: sink.waiting == 0, "the broker's word for the second hundred")
    sink.write([record(i) for i in range(200, 300)])
    until(lambda: as_json(record(299)) in subscriber.lines(), "the last one")
    assert len(before) == 100
    # What the sink said before the subscriber was back is the broker's to keep, which a clean session does not ask for.
    assert set(subscriber.lines()) <= {as_json(record(i)) for i in range(300)}
    assert set(subscriber.lines()) >= {as_json(record(i)) for i in range(200, 300)}
    sink.close()
    subscriber.close()


def test_nothing_is_lost_while_the_broker_is_away() -> None:
    """The broker itself counts: what was written while it was away reaches it, each at least once."""
    broker = OwnBroker(free_port())
    sink = MqttSink(f"127.0.0.1:{broker.port}/lab/libs")
    sink.write([record(i) for i in range(150)])
    assert sink.waiting == 150
    taken: list[str] = []
    publish = broker._publish
    broker._publish = lambda topic, payload, **k: (
        taken.append(payload.decode()),
        publish(topic, payload, **k),
    )  # type: ignore[assignment, func-returns-value, misc]
    broker.start()
    until(lambda: sink.waiting == 0, "the broker to take everything")
    assert set(taken) == {"online", *(as_json(record(i)) for i in range(150))}
    sink.close()
    broker.stop()


def test_no_broker_holds_nobody_up() -> None:
    sink = MqttSink(f"127.0.0.1:{free_port()}/lab/libs", buffer=500)
    refused = 0
    for at in range(0, 2000, 100):
        try:
            sink.write([record(at + i) for i in range(100)])
        except OSError as error:
            refused += int(str(error).split()[0])
    assert refused == sink.refused == 1500
    assert sink.waiting == 500
    sink.close()


def test_broker_that_says_nothing_holds_nobody_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = MqttSink(f"127.0.0.1:{silent.getsockname()[1]}/lab/libs", buffer=300)
        done = threading.Event()

        def write() -> None:
            sink.write([record(i) for i in range(300)])
            with pytest.raises(OSError, match="5 messages refused"):
                sink.write([record(i) for i in range(5)])
            sink.close()
            done.set()

        threading.Thread(target=write, daemon=True).start()
        assert done.wait(30)


def test_will_of_a_process_that_is_killed(broker: Any) -> None:
    subscriber = Subscriber(broker.port)
    program = (
        f"from libsedge.sinks import open_sink\nopen_sink('mqtt:127.0.0.1:{broker.port}/lab/libs')\ninput()"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    until(lambda: subscriber.state() == ["online"], "the child's state")
    child.kill()
    child.wait()
    until(lambda: subscriber.state() == ["online", "offline"], "the last will")
    subscriber.close()
    assert child.stdin is not None
    child.stdin.close()


@pytest.mark.parametrize(
    "argument",
    [
        *("8.8.8.8:1883/lab", "0.0.0.0:1883/lab", "127.0.0.1:0/lab", "127.0.0.1/lab", "127.0.0.1:1883"),
        *(
            "127.0.0.1:1883/",
            "127.0.0.1:1883/a/#",
            "127.0.0.1:1883/+",
            "127.0.0.1:1883/$SYS",
            "127.0.0.1:1883/a\0b",
        ),
    ],
)
def test_arguments(argument: str) -> None:
    with pytest.raises(ConfigError):
        open_sink(f"mqtt:{argument}")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(ConfigError, match=r"libsedge\[mqtt\]"):
        open_sink("mqtt:127.0.0.1:1883/lab")
