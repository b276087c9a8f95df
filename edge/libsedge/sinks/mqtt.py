"""`mqtt:HOST:PORT/TOPIC`: decisions to an MQTT broker (3.1.1, QoS 1), one message a frame (and a burst): the JSON of
the JSON-lines sink.

At most `BUFFER` messages wait for the broker's word; while it is away they wait here, and the connection is tried
again twice a second. A message more is refused, counted by the pipeline, and waits for nobody. QoS 1 is at least once:
after a broken connection a message may come again, with the same stream, epoch and sequence. `TOPIC/state` is
retained: `online`, and `offline` after the end or when the connection is lost (last will).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

from libsedge import extras
from libsedge.errors import ConfigError
from libsedge.journal import Record
from libsedge.journal_rows import BurstRecord
from libsedge.sinks.base import Sink
from libsedge.sinks.jsonl import as_json, burst_as_json
from libsedge.sources.net import parse_address

#: messages that may wait for the broker, and of those on the way to it
BUFFER, IN_FLIGHT = 4096, 64
KEEP_ALIVE_S, CONNECT_S, RETRY_S = 10, 1.0, 0.5
#: what `close` may wait for the broker to take what is left
DRAIN_S = 2.0


def parse_mqtt(argument: str) -> tuple[str, int, str]:
    """(host, port, topic) of `HOST:PORT/TOPIC`; ConfigError for a host that is not loopback, and for a bad topic."""
    address, _, topic = argument.partition("/")
    host, port = parse_address(address, free=False)
    bad = not topic or topic.startswith("$") or len(topic.encode()) > 1024
    if bad or any(letter in "+#" or not letter.isprintable() for letter in topic):
        raise ConfigError(
            "must be mqtt:HOST:PORT/TOPIC, the topic without + and #", field="mqtt topic", value=topic
        )
    return host, port, topic


class MqttSink(Sink):
    """Connects in a thread of its own: a broker that is not there yet is no error. ConfigError as `parse_mqtt`."""

    def __init__(self, argument: str, *, buffer: int = BUFFER) -> None:
        mqtt: Any = extras.load("paho.mqtt.client", "mqtt")
        host, port, self._topic = parse_mqtt(argument)
        self._full: int = mqtt.MQTT_ERR_QUEUE_SIZE
        self._open, self._away = True, False
        self._client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, f"libsedge-{os.getpid()}-{time.monotonic_ns():x}"
        )
        self._client.max_queued_messages_set(buffer)
        self._client.max_inflight_messages_set(IN_FLIGHT)
        self._client.reconnect_delay_set(RETRY_S, RETRY_S)
        self._client.connect_timeout = CONNECT_S
        self._state = f"{self._topic}/state"
        self._client.will_set(self._state, "offline", qos=1, retain=True)
        self._client.on_connect = self._online
        self._client.on_connect_fail = self._client.on_disconnect = self._offline
        self._client.connect_async(host, port, KEEP_ALIVE_S)
        self._client.loop_start()
        #: messages refused because the buffer was full
        self.refused = 0

    def _online(self, client: Any, *_: object) -> None:
        self._away = False
        client.publish(self._state, "online", qos=0, retain=True)

    def _offline(self, *_: object) -> None:
        self._away = True

    @property
    def connected(self) -> bool:
        return bool(self._client.is_connected())

    @property
    def waiting(self) -> int:
        """Messages that the broker has not acknowledged."""
        return len(self._client._out_messages)  # paho has no public name for it

    def write(self, records: Sequence[Record]) -> None:
        self._send(as_json(record) for record in records)

    def write_bursts(self, bursts: Sequence[BurstRecord]) -> None:
        self._send(burst_as_json(burst) for burst in bursts)

    def _send(self, lines: Iterable[str]) -> None:
        before = self.refused
        for line in lines:
            self.refused += self._client.publish(self._topic, line, qos=1).rc == self._full
        if refused := self.refused - before:
            raise OSError(f"{refused} messages refused: {self.waiting} wait for the broker")

    def close(self) -> None:
        """Give the broker `DRAIN_S` to take what is left, if it is there; the journal has it in any case."""
        if not self._open:
            return
        self._open = False
        end = time.monotonic() + DRAIN_S
        while self.waiting and not self._away and time.monotonic() < end:
            time.sleep(0.01)
        if self.connected:
            told = self._client.publish(self._state, "offline", qos=1, retain=True)
            while self.connected and not told.is_published() and time.monotonic() < end:
                time.sleep(0.01)
        self._client.disconnect()
        self._client.loop_stop()
