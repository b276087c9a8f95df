"""Is the runtime alive, is it ready, what has it counted? Told to systemd, and over HTTP on a loopback address.

    GET /v2/health/live     200 while both of the pipeline's threads turn, else 503
    GET /v2/health/ready    200 while it also takes frames
    GET /metrics            Prometheus text format 0.0.4

The heartbeat comes out of the pipeline's own loops and never from a timer: the reader has asked its source once
more, and the worker has finished a frame or has looked at an empty queue (progress, or proof of idleness). When
either stops, the heartbeat stops, `live` turns 503, and systemd's watchdog is not fed any more.

Only GET, no parameters, nothing a client sends changes anything. The Host header must name a loopback address, so
that a web page cannot reach it through its visitor's browser (DNS rebinding). A request has 2 s and 8 KiB, and four
are served at a time, in threads of their own.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from libsedge import __version__
from libsedge.errors import ConfigError, SourceError
from libsedge.latency import Latency
from libsedge.pipeline import Pipeline
from libsedge.sources.net import is_loopback_host

MAX_REQUEST = 8192
MAX_CLIENTS = 4
DEADLINE_S = 2.0
#: without a heartbeat for so long it is not live
LIVE_S = 10.0
#: upper edges of the latency histogram, seconds
EDGES = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}


class Turning(Protocol):
    """What the heartbeat looks at; `libsedge.pipeline.Pipeline` has it."""

    reader_turns: int
    worker_turns: int
    reader_done: bool


class Heartbeat:
    """`beat()` is True when both threads have turned since it was True last."""

    def __init__(self, pipeline: Turning, clock: Callable[[], float] = time.monotonic) -> None:
        self._pipeline, self._clock = pipeline, clock
        self._seen = (0, 0)
        self._at = clock()

    def beat(self) -> bool:
        reader, worker = self._pipeline.reader_turns, self._pipeline.worker_turns
        reads = reader != self._seen[0] or self._pipeline.reader_done
        if not reads or worker == self._seen[1]:
            return False
        self._seen, self._at = (reader, worker), self._clock()
        return True

    @property
    def age_s(self) -> float:
        """Seconds since the last beat that was seen, or since the start."""
        return self._clock() - self._at


class Notifier:
    """systemd's notification socket (sd_notify(3)); silent where there is none."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        env = os.environ if environment is None else environment
        self.address = env.get("NOTIFY_SOCKET", "")
        mine = env.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = env.get("WATCHDOG_USEC", "")
        #: the watchdog's limit, seconds; None = it does not watch
        self.watchdog_s = (
            int(usec) / 1e6 if mine and usec.isascii() and usec.isdigit() and int(usec) else None
        )

    def send(self, state: str) -> bool:
        """Send one state such as "READY=1"; False where nobody was told."""
        if not self.address.startswith(("/", "@")):
            return False
        address = "\0" + self.address[1:] if self.address[0] == "@" else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(0.2)
                sock.connect(address)
                sock.sendall(state.encode())
        except OSError:
            return False
        return True


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _sample(name: str, value: float, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    number = repr(float(value)) if isinstance(value, float) else str(value)
    return f"{name}{{{inside}}} {number}" if inside else f"{name} {number}"


def _metric(
    name: str, kind: str, text: str, samples: Iterable[tuple[Mapping[str, str], float]]
) -> Iterator[str]:
    rows = list(samples)
    if rows:
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {kind}"
        yield from (_sample(name, value, labels) for labels, value in rows)


def resident_bytes() -> int:
    """This process' resident memory; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def temperatures(root: Path = Path("/sys/class/thermal")) -> dict[str, float]:
    """Degrees Celsius of every thermal zone that tells, by its name and type."""
    found = {}
    for zone in sorted(root.glob("thermal_zone*")):
        with contextlib.suppress(OSError, ValueError):
            name = f"{zone.name} {(zone / 'type').read_text().strip()}"
            found[name] = int((zone / "temp").read_text()) / 1000
    return found


def metrics(
    pipeline: Pipeline, heartbeat: Heartbeat, model: Mapping[str, str], *, safe_mode: bool = False
) -> str:
    """The page of /metrics; `model` becomes the labels of libsedge_model_info."""
    ledger = pipeline.ledger
    with ledger.lock:  # one moment: the counts add up on every page
        counts, queued = ledger.summary(), len(pipeline.queue)
    report = pipeline.report()
    ends = [({"end": name}, counts[name]) for name in ("journaled", "unjournaled", "duplicate")]
    ends += [({"end": name}, sum(counts[name].values())) for name in ("rejected", "shed")]
    streams = counts["streams"]
    lines = [
        *_metric(
            "libsedge_model_info", "gauge", "The model in use.", [({**model, "runtime": __version__}, 1)]
        ),
        *_metric("libsedge_safe_mode", "gauge", "1: nothing is decided.", [({}, int(safe_mode))]),
        *_metric(
            "libsedge_frames_received_total", "counter", "Frames that came.", [({}, counts["received"])]
        ),
        *_metric("libsedge_frames_total", "counter", "Frames by their one end.", ends),
        *_metric(
            *("libsedge_frames_rejected_total", "counter", "Refused before the journal."),
            (({"reason": reason}, n) for reason, n in counts["rejected"].items()),
        ),
        *_metric(
            *("libsedge_frames_shed_total", "counter", "Dropped by the queue's policy."),
            (({"policy": policy}, n) for policy, n in counts["shed"].items()),
        ),
        *_metric("libsedge_frames_in_flight", "gauge", "Held right now.", [({}, counts["in_flight"])]),
        *_metric("libsedge_frames_unaccounted", "gauge", "0, or a fault.", [({}, counts["unaccounted"])]),
        *_metric(
            *("libsedge_sequence_gaps", "gauge", "Numbers missing between first and last, epochs in memory."),
            [({}, sum(row["gaps"] for row in streams))],
        ),
        *_metric(
            *("libsedge_decisions_total", "counter", "Accepted decisions by label."),
            (({"label": label}, n) for label, n in report.labels.items()),
        ),
        *_metric(
            *("libsedge_not_accepted_total", "counter", "Journaled without an accepted decision, by reason."),
            (({"reason": reason}, n) for reason, n in report.not_accepted.items()),
        ),
        *_metric(
            "libsedge_sink_errors_total", "counter", "Rows a sink did not take.", [({}, report.sink_errors)]
        ),
        *_metric("libsedge_queue_frames", "gauge", "In the queue right now.", [({}, queued)]),
        *_metric("libsedge_queue_capacity", "gauge", "Its bound.", [({}, pipeline.queue.capacity)]),
        *_histogram(
            *("libsedge_decision_latency_seconds", "From a frame's arrival to its decision"),
            [({}, pipeline.latency)],
        ),
        *_histogram(
            *("libsedge_stage_seconds", "Parts of a frame's way; commit: of a batch"),
            [({"stage": stage}, latency) for stage, latency in pipeline.stages.items()],
        ),
        *_metric(
            *("libsedge_deadline_misses_total", "counter", "Decisions later than --deadline."),
            [] if pipeline.deadline_s is None else [({}, pipeline.deadline_missed)],
        ),
        *_metric(
            "libsedge_heartbeat_age_seconds", "gauge", "Since the last heartbeat.", [({}, heartbeat.age_s)]
        ),
        *_metric(
            *("process_resident_memory_bytes", "gauge", "Resident memory."),
            [({}, rss)] if (rss := resident_bytes()) else [],
        ),
        *_metric(
            *("libsedge_temperature_celsius", "gauge", "Thermal zones of the board."),
            (({"zone": zone}, value) for zone, value in temperatures().items()),
        ),
    ]
    return "\n".join(lines) + "\n"


def _histogram(name: str, text: str, rows: Iterable[tuple[Mapping[str, str], Latency]]) -> Iterator[str]:
    yield f"# HELP {name} {text}; edges are within 2.2 %."
    yield f"# TYPE {name} histogram"
    for labels, latency in rows:
        count, total, below = latency.cumulative(EDGES)
        for edge, number in zip(EDGES, below, strict=True):
            yield _sample(f"{name}_bucket", number, {**labels, "le": repr(edge)})
        yield _sample(f"{name}_bucket", count, {**labels, "le": "+Inf"})
        yield _sample(f"{name}_sum", total, labels)
        yield _sample(f"{name}_count", count, labels)


class Health:
    """Feeds the watchdog, and serves HTTP where an address is given; both in daemon threads.

    Parameters
    ----------
    pipeline : to be watched. model : labels of libsedge_model_info.
    address : "127.0.0.1:PORT" or None; port 0 takes a free one, `self.address` tells which.
    notifier : for tests. safe_mode : live, and never ready.

    Raises ConfigError for an address that is not loopback, SourceError for a port in use.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        model: Mapping[str, str],
        address: str | None = None,
        notifier: Notifier | None = None,
        *,
        safe_mode: bool = False,
    ) -> None:
        self.heartbeat = Heartbeat(pipeline)
        self.address: str | None = None
        self._pipeline, self._model, self._safe_mode = pipeline, model, safe_mode
        self._notifier = notifier or Notifier()
        self._closed = threading.Event()
        self._ready = False
        self._places = threading.BoundedSemaphore(MAX_CLIENTS)
        self._listener = None if address is None else _listen(address)
        if self._listener is not None:
            host, port = self._listener.getsockname()[:2]
            self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            threading.Thread(target=self._serve, name="libsedge-health", daemon=True).start()
        self._watch = threading.Thread(target=self._watch_over, name="libsedge-watchdog", daemon=True)
        self._watch.start()

    @property
    def live(self) -> bool:
        return self.heartbeat.age_s <= LIVE_S

    @property
    def ready(self) -> bool:
        return self._ready and self.live and not self._pipeline.stopping and not self._safe_mode

    def _watch_over(self) -> None:
        limit = self._notifier.watchdog_s
        period = 0.5 if limit is None else min(0.5, limit / 4)
        while not self._closed.wait(period):
            if not self.heartbeat.beat():
                continue
            if not self._ready:
                self._ready = True
                self._notifier.send("READY=1")
            if limit is not None:
                self._notifier.send("WATCHDOG=1")

    def _serve(self) -> None:
        assert self._listener is not None
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if not self._places.acquire(blocking=False):
                client.close()
                continue
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        try:
            with client, contextlib.suppress(OSError):
                status, text = self.respond(_request(client))
                kind = "text/plain; version=0.0.4; charset=utf-8"
                reason = _REASONS.get(status, "Service Unavailable")
                body = text.encode()
                head = (
                    f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                )
                head += "Allow: GET\r\n" if status == 405 else ""
                client.settimeout(DEADLINE_S)
                client.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
        finally:
            self._places.release()

    def respond(self, request: bytes | None) -> tuple[int, str]:
        """Status and text for the head of a request; None = it was too long, too slow, or cut off."""
        lines = [] if request is None else request.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ") if lines else []
        if len(parts) != 3 or parts[2] not in ("HTTP/1.0", "HTTP/1.1"):
            return 400, "a request of at most 8 KiB within 2 s is expected\n"
        hosts = [
            value.strip()
            for name, _, value in (x.partition(":") for x in lines[1:])
            if name.lower() == "host"
        ]
        if len(hosts) != 1 or not is_loopback_host(hosts[0]):
            return 403, "the Host header must name a loopback address\n"
        if parts[0] != "GET":
            return 405, "only GET\n"
        if parts[1] == "/v2/health/live":
            return (200, "live\n") if self.live else (503, "not live\n")
        if parts[1] == "/v2/health/ready":
            return (200, "ready\n") if self.ready else (503, "not ready\n")
        if parts[1] == "/metrics":
            return 200, metrics(self._pipeline, self.heartbeat, self._model, safe_mode=self._safe_mode)
        return 404, "/v2/health/live, /v2/health/ready, /metrics\n"

    def tell_model(self, model: Mapping[str, str]) -> None:
        """Another model decides from now on."""
        self._model = model

    def stopping(self) -> None:
        """Tell systemd that the end has begun."""
        self._notifier.send("STOPPING=1")

    def close(self) -> None:
        """Stop watching and serving; safe to call twice."""
        self._closed.set()
        if self._listener is not None:
            self._listener.close()
        self._watch.join(2.0)


def _request(client: socket.socket) -> bytes | None:
    """The head of a request without its end; None where it does not come whole in time."""
    deadline, data = time.monotonic() + DEADLINE_S, b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        left = deadline - time.monotonic()
        if left <= 0 or len(data) >= MAX_REQUEST:
            return None
        client.settimeout(left)
        try:
            more = client.recv(MAX_REQUEST - len(data))
        except TimeoutError:
            return None
        if not more:
            return None
        data += more
    return data[:end]


def parse_health(address: str) -> tuple[str, int]:
    """(host, port) of `127.0.0.1:PORT`; ConfigError for what is no loopback address and port."""
    host, _, port = address.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535 or not is_loopback_host(host):
        raise ConfigError(
            "must be a loopback address and a port, such as 127.0.0.1:9400", field="health", value=address
        )
    return "127.0.0.1" if host.lower() == "localhost" else host.strip("[]"), int(port)


def _listen(address: str) -> socket.socket:
    plain, port = parse_health(address)
    listener = socket.socket(socket.AF_INET6 if ":" in plain else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((plain, port))
        listener.listen(MAX_CLIENTS)
    except OSError as error:
        listener.close()
        raise SourceError(f"cannot listen: {error.strerror}", field="health", value=address) from error
    listener.settimeout(0.5)
    return listener
