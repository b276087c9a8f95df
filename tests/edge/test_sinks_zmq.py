"""Decisions on a PUB socket: what a subscriber gets is what the journal has; nobody is waited for."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from libsedge.errors import ConfigError
from libsedge.journal import Record
from libsedge.ledger import Key
from libsedge.sinks import open_sink
from libsedge.sinks.jsonl import as_json
from libsedge.sinks.zmq import ZmqPub

zmq: Any = pytest.importorskip("zmq", reason="pyzmq is not installed")


def record(sequence: int) -> Record:
    return Record(
        *(Key(9, 0, sequence), 10**18, 2300, "light", "basalt", 0.5, True, None, (0.5, 0.5), "ab", 7)
    )


class Subscriber:
    def __init__(self, endpoint: str) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.SUBSCRIBE, b"")
        self.socket.setsockopt(zmq.RCVTIMEO, 3000)
        self.socket.connect(endpoint)
        time.sleep(0.3)  # until the subscription is there

    def close(self) -> None:
        self.socket.close(0)
        self.context.term()


def test_every_decision_arrives_as_its_json(tmp_path: Path) -> None:
    sink = ZmqPub("tcp://127.0.0.1:0")
    subscriber = Subscriber(sink.address)
    sent = [record(i) for i in range(500)]
    for at in range(0, 500, 50):
        sink.write(sent[at : at + 50])
        time.sleep(0.002)
    got = [subscriber.socket.recv() for _ in sent]
    assert [message.decode() for message in got] == [as_json(row) for row in sent]
    assert json.loads(got[7])["sequence"] == 7
    sink.close()
    sink.close()
    subscriber.close()


def test_subscriber_that_never_reads_holds_nobody_up(tmp_path: Path) -> None:
    sink = open_sink(f"zmq:ipc://{tmp_path}/s")
    assert isinstance(sink, ZmqPub)
    subscriber = Subscriber(sink.address)
    rows = [record(i) for i in range(1000)]
    done = threading.Event()

    def write() -> None:
        for _ in range(20):
            sink.write(rows)
        done.set()

    threading.Thread(target=write, daemon=True).start()
    assert done.wait(20)
    subscriber.close()
    sink.close()


def test_endpoints(tmp_path: Path) -> None:
    for endpoint in ("tcp://0.0.0.0:1", "tcp://8.8.8.8:1", "inproc://x", f"ipc://{tmp_path}/none/s"):
        with pytest.raises(ConfigError):
            open_sink(f"zmq:{endpoint}")
