"""The pipeline's side of the page: takes pictures from the `Tap` and hands them to the page's process.

Everything here runs in a thread of its own, at most ten times a second, right after a decision, when the worker is
likely to wait for the next frame. The socket never blocks: where the page is busy the picture is left out.
"""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from libsedge import extras
from libsedge.bundle import Bundle
from libsedge.classifier import Classifier
from libsedge.dashboard import message
from libsedge.dashboard.picture import NO_MODEL, about_model, picture
from libsedge.dashboard.tap import Tap
from libsedge.errors import ConfigError, SourceError
from libsedge.pipeline import Pipeline
from libsedge.sources import Axis
from libsedge.sources.net import is_loopback, parse_address, show_address

if TYPE_CHECKING:
    from libsedge.sources.tls import TlsFiles

PERIOD_S = 0.1
#: without a new frame the counts are told so often
IDLE_S = 1.0
STATIC = Path(__file__).parent / "static"


def check_installed() -> None:
    """ConfigError saying how to get what is missing: the extra, or the library of the page's charts."""
    for package in ("starlette", "uvicorn", "websockets"):
        extras.check(package, "dashboard")
    if not (STATIC / "vendor" / "uPlot.iife.min.js").is_file():
        raise ConfigError(
            "was not packed when libsedge was built, because npm was missing; take a released wheel, or install npm "
            "(Debian: apt install npm) and install libsedge again with pip's --force-reinstall --no-deps",
            field="dashboard",
            value="uPlot",
        )


def listen(address: str, *, authenticated: bool = False) -> socket.socket:
    """A listening socket. ConfigError for an address that is not loopback unless the browsers are `authenticated`,
    SourceError for a port in use."""
    host, port = parse_address(address, authenticated=authenticated)
    plain = "127.0.0.1" if host == "localhost" else host
    listener = socket.socket(socket.AF_INET6 if ":" in plain else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((plain, port))
        listener.listen(16)
    except OSError as error:
        listener.close()
        raise SourceError(f"cannot listen: {error.strerror}", field="dashboard", value=address) from error
    return listener


class Dashboard:
    """The page of one run; `address` and `url` are where it listens.

    Parameters
    ----------
    address : HOST:PORT; port 0 takes a free one. journal : the file of the history. say : takes a line for people.
    tls : with it the page may leave this machine, to browsers that show a certificate; on loopback it is not used.

    Raises ConfigError for an address that is not loopback without `tls`, for its files, or for a package that is
    missing; SourceError for a port in use.
    """

    def __init__(
        self,
        address: str,
        journal: str | os.PathLike[str],
        say: Callable[[str], None],
        tls: TlsFiles | None = None,
    ) -> None:
        check_installed()
        self.tap = Tap()
        if tls is not None:
            tls.server()  # files that cannot be used are said here, not in the page's process
        listener = listen(address, authenticated=tls is not None)
        host, port = listener.getsockname()[:2]
        if is_loopback(host):
            tls = None
        self.address = show_address(host, port)
        self.url = f"{'http' if tls is None else 'https'}://{self.address}/"
        #: pictures that the page took, and that were left out because it was busy
        self.published = self.skipped = 0
        self._say = say
        self._model: bytes | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._feed, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._feed.setblocking(False)
        numbers = [str(sock.fileno()) for sock in (listener, theirs)]
        files = [] if tls is None else [os.path.abspath(path) for path in (tls.certificate, tls.key, tls.ca)]
        with listener, theirs:
            self._page = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "libsedge.dashboard.server",
                    *numbers,
                    os.path.abspath(journal),
                    *files,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(listener.fileno(), theirs.fileno()),
                env={**os.environ, "PYTHONSAFEPATH": "1"},
                start_new_session=True,  # Ctrl-C ends the run first; the page goes when its socket closes
            )

    def tell_model(self, bundle: Bundle, classifier: Classifier, axis: Axis | None, simulated: bool) -> None:
        """This model decides from now on, on this axis; safe from any thread."""
        wavelength = bundle.preprocess.grid_nm if axis is None else axis.wavelength_nm
        self._tell(about_model(bundle, classifier), wavelength, simulated)

    def tell_safe_mode(self, axis: Axis | None, simulated: bool) -> None:
        """No model decides; without an axis of the source the spectrum has none."""
        self._tell(NO_MODEL, np.zeros(0) if axis is None else axis.wavelength_nm, simulated)

    def _tell(self, about: dict[str, Any], wavelength: np.ndarray, simulated: bool) -> None:
        head = {"kind": "model", "simulated": simulated, "safe_mode": about is NO_MODEL, **about}
        self._model = message.pack(head, message.thin_axis(wavelength))

    def start(self, pipeline: Pipeline) -> None:
        """Begin to take pictures of `pipeline`."""
        self._thread = threading.Thread(
            target=self._publish, args=(pipeline,), name="libsedge-dashboard", daemon=True
        )
        self._thread.start()

    def _publish(self, pipeline: Pipeline) -> None:
        idle_from = -math.inf
        while not self._closed.wait(PERIOD_S):
            if not self.tap.wait(PERIOD_S) and time.monotonic() - idle_from < IDLE_S:
                continue
            idle_from = time.monotonic()
            if not self._send(picture(pipeline, self.tap)):
                if not self._closed.is_set() and not pipeline.stopping:
                    self._say("warning: the dashboard has ended; the run goes on")
                return

    def _send(self, data: bytes) -> bool:
        """False when the page has ended."""
        try:
            if self._model is not None:
                self._feed.send(self._model)
                self._model = None
            self._feed.send(data)
            self.published += 1
        except BlockingIOError:
            self.skipped += 1
        except OSError:
            return False
        return True

    def close(self) -> None:
        """End the page's process; safe to call twice."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(2.0)
        self._feed.close()
        try:
            self._page.wait(3.0)
        except subprocess.TimeoutExpired:
            self._page.kill()
            self._page.wait()
