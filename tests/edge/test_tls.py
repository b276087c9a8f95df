"""Mutual TLS: who has no certificate of the named authority says nothing; a stream under it is still exact."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from authority import Authority
from libsedge.errors import ConfigError, SourceError
from libsedge.journal import Journal
from libsedge.pipeline import Pipeline
from libsedge.senders import open_sender
from libsedge.sources import SourceOptions, open_source
from libsedge.sources.tcp import TcpSource
from libsedge.sources.tls import TlsClient, TlsFiles
from mean_classifier import MeanClassifier
from served import frames


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "stranger")


class Server:
    def __init__(self, path: Path, tls: TlsFiles, idle_s: float = 10.0) -> None:
        self.source = TcpSource(0, tls=tls, idle_s=idle_s)
        self._path = path
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        journal = Journal(self._path)
        self.pipeline = Pipeline(self.source, MeanClassifier(), journal)
        self.report = self.pipeline.run()
        self.rows = len(journal)
        journal.close()

    def stop(self) -> None:
        self.pipeline.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def server(tmp_path: Path, authority: Authority) -> Iterator[Server]:
    server = Server(tmp_path / "run.db", authority.files("board", authority), idle_s=1.0)
    yield server
    server.stop()


def send(server: Server, tls: TlsFiles | None, n: int = 50, damage: float = 0.0):
    sender = open_sender(f"tcp:127.0.0.1:{server.source.port}", tls)
    return sender.send(frames(n), damage=damage, seed=1, rate_hz=None, wait_s=10.0)


@pytest.mark.parametrize("damage", [0.0, 0.2])
def test_an_authenticated_stream_is_exact(server: Server, authority: Authority, damage: float) -> None:
    sent = send(server, authority.files("instrument", authority), 500, damage)
    server.stop()
    assert sent.acknowledged == sent.truth.intact == server.rows
    assert server.report.ledger["unaccounted"] == 0
    assert server.report.source["not_authenticated"] == 0


def test_large_frames_are_not_left_in_the_cipher(tmp_path: Path, authority: Authority) -> None:
    """A record of TLS is 16 KiB and a frame here 128 KiB: what OpenSSL holds is seen by no selector."""
    server = Server(tmp_path / "run.db", authority.files("board", authority))
    sender = open_sender(f"tcp:127.0.0.1:{server.source.port}", authority.files("instrument", authority))
    sent = sender.send(frames(20, channels=65536), damage=0.0, seed=0, rate_hz=None, wait_s=10.0)
    server.stop()
    # of another length than the classifier's: refused, each of them, so each of them came
    assert server.report.ledger["rejected"] == {"wrong_length": 20}
    assert sent.acknowledged == 0


def acknowledged(server: Server, tls: TlsFiles | None) -> int | None:
    """Frames that came through; 0 also where the server hung up."""
    try:
        return send(server, tls).acknowledged
    except SourceError:
        return 0


def test_a_certificate_of_another_authority_is_refused(
    server: Server, authority: Authority, stranger: Authority
) -> None:
    assert acknowledged(server, stranger.files("instrument", authority)) == 0
    server.stop()
    assert server.report.ledger["received"] == 0
    assert server.report.source["not_authenticated"] == 1


def test_a_peer_without_tls_says_nothing(server: Server) -> None:
    assert acknowledged(server, None) == 0
    server.stop()
    assert server.report.ledger["received"] == 0
    assert server.report.source["not_authenticated"] == 1


def test_a_peer_without_a_certificate_is_refused(server: Server, authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.path)
    answer = b""
    with socket.create_connection(("127.0.0.1", server.source.port), timeout=5) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
                answer = sock.recv(1)  # TLS 1.3: the refusal comes with the first read
        except OSError:
            pass
    assert answer == b""
    server.stop()
    assert server.report.source["not_authenticated"] == 1


def test_a_server_of_another_authority_is_not_trusted(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    server = Server(tmp_path / "run.db", stranger.files("board", authority))
    with pytest.raises(SourceError, match="cannot connect"):
        send(server, authority.files("instrument", authority))
    server.stop()


def test_half_a_handshake_is_cut_off(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.source.port), timeout=10) as sock:
        sock.sendall(b"\x16\x03\x01")
        begin = time.monotonic()
        assert sock.recv(1) == b""
        assert time.monotonic() - begin > 0.5
    server.stop()
    assert server.report.source["cut_off"] == 1


def test_only_tls_leaves_the_machine(authority: Authority) -> None:
    tls = authority.files("board", authority)
    with pytest.raises(ConfigError, match="loopback"):
        open_source("tcp:0.0.0.0:0")
    source = open_source("tcp:0.0.0.0:0", SourceOptions(tls=tls))
    source.close()
    with pytest.raises(ConfigError, match="IP address"):
        open_source("tcp:example.org:0", SourceOptions(tls=tls))
    with pytest.raises(ConfigError, match="TLS is for tcp"):
        open_source("udp:0", SourceOptions(tls=tls))
    with pytest.raises(ConfigError, match="TLS is for tcp"):
        open_sender("udp:127.0.0.1:5600", tls)


def test_bad_files_are_named(tmp_path: Path, authority: Authority) -> None:
    good = authority.files("board", authority)
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("no certificate")
    for field, files in (
        ("tls-cert", TlsFiles(str(tmp_path / "none"), good.key, good.ca)),
        ("tls-cert", TlsFiles(str(rubbish), good.key, good.ca)),
        ("tls-cert", TlsFiles(good.certificate, authority.files("x", authority).key, good.ca)),
        ("tls-ca", TlsFiles(good.certificate, good.key, str(rubbish))),
    ):
        with pytest.raises(ConfigError) as error:
            files.server()
        assert error.value.field == field
    with pytest.raises(ConfigError, match="together"):
        TlsFiles.of(good.certificate, None, good.ca)
    assert TlsFiles.of(None, None, None) is None


def test_an_answer_that_has_come_is_read_after_the_closing_word(authority: Authority) -> None:
    """OpenSSL looks for the server's closing word when ours is said, and must not find the answer there instead."""
    context = authority.files("board", authority).server()

    def answer(listener: socket.socket) -> None:
        with context.wrap_socket(listener.accept()[0], server_side=True) as peer:
            peer.sendall(peer.recv(100))
            assert peer.recv(100) == b""  # the closing word came

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        plain = socket.create_connection(listener.getsockname(), timeout=5.0)
        with TlsClient(plain, authority.files("instrument", authority), "127.0.0.1") as client:
            client.send(memoryview(b"frame"))
            # the server's session tickets come first; its answer is there when nothing more has come for a while
            time.sleep(0.3)
            client.shutdown(socket.SHUT_WR)
            answered = client.recv(100)
        thread.join(5)
    assert answered == b"frame"
    assert not thread.is_alive()
