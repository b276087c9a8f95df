"""Decisions in space packets: space-packet-parser reads every field by our XTCE file, spacepackets builds the same
header and time code."""

from __future__ import annotations

import datetime
import json
import socket
import struct
from dataclasses import fields as record_fields
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from libsedge.cli import main
from libsedge.errors import ConfigError
from libsedge.journal import Record
from libsedge.journal_rows import BurstRecord
from libsedge.ledger import Key
from libsedge.sinks import open_sink
from libsedge.sinks.ccsds import CcsdsSink
from libsedge.sinks.telemetry import DEFAULT_APID, PACKET_BYTES, Telemetry
from libsedge.sinks.xtce import document

spp: Any = pytest.importorskip("space_packet_parser", reason="space-packet-parser is not installed")
LABELS = ["andesite", "basalt", "gypsum"]
DIGEST = "0123456789abcdef" * 4
U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
CDS_EPOCH = datetime.datetime(1958, 1, 1, tzinfo=datetime.timezone.utc)


@st.composite
def records(draw: st.DrawFn) -> Record:
    probabilities = None
    if draw(st.booleans()):
        weights = draw(st.lists(st.floats(0.001, 1), min_size=3, max_size=3))
        probabilities = tuple(weight / sum(weights) for weight in weights)
    index = None if probabilities is None else probabilities.index(max(probabilities))
    accepted = None if probabilities is None else draw(st.booleans())
    reasons = st.sampled_from(
        ["low_confidence", "saturated", "too_dim", "error: ModelError", "of another kind"]
    )
    return Record(
        key=Key(draw(U32), draw(U32), draw(U64)),
        time_ns=draw(st.integers(0, 5_000_000_000_000_000_000)),
        distance_mm=draw(st.none() | st.integers(1, 2**32 - 1)),
        role=draw(st.sampled_from(["light", "dark", "passive", "averaged"])),
        label=None if index is None else LABELS[index],
        confidence=None if index is None or probabilities is None else probabilities[index],
        accepted=accepted,
        reason=draw(reasons) if accepted is False else None,
        probabilities=probabilities,
        model=draw(st.sampled_from([None, DIGEST])),
        frame_crc=draw(U32),
    )


def read(
    tmp: Path, packets: list[bytes], labels: list[str] = LABELS, apid: int = DEFAULT_APID
) -> list[dict[str, Any]]:
    """What space-packet-parser says of the packets, by our XTCE file."""
    file = tmp / "decisions.xml"
    file.write_text(document(apid, labels), encoding="utf-8")
    definition = spp.load_xtce(file)
    return [dict(definition.parse_bytes(binary)) for binary in spp.ccsds_generator(b"".join(packets))]


def time_of(packet: dict[str, Any]) -> int | None:
    """Microseconds since 1970 of the secondary header."""
    assert packet["TIME_PREAMBLE"] == 0x41
    if packet["TIME_DAYS"] == 0:
        return None
    at = CDS_EPOCH + datetime.timedelta(
        days=packet["TIME_DAYS"], milliseconds=packet["TIME_MS"], microseconds=packet["TIME_US"]
    )
    return round(
        (at - datetime.datetime.fromtimestamp(0, datetime.timezone.utc)) / datetime.timedelta(microseconds=1)
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(records(), min_size=1, max_size=4), st.integers(0, 2046), st.booleans())
def test_the_other_reader_gets_every_field(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Record], apid: int, simulated: bool
) -> None:
    telemetry = Telemetry(apid)
    telemetry.simulated = simulated
    packets = [telemetry.frame(row) for row in rows]
    assert {len(packet) for packet in packets} == {PACKET_BYTES}
    got = read(tmp_path_factory.mktemp("xtce"), packets, apid=apid)
    assert len(got) == len(rows)
    for count, (row, packet) in enumerate(zip(rows, got, strict=True)):
        assert packet["CCSDS_APID"] == apid
        assert packet["CCSDS_SEQUENCE_COUNT"] == count
        assert time_of(packet) == (row.time_ns // 1000 if row.time_ns else None)
        assert (packet["VERSION"], packet["KIND"], packet["SIMULATED"]) == (1, "frame", simulated)
        assert packet["ROLE"] == row.role
        assert packet["OUTCOME"] == outcome(row)
        assert Key(packet["STREAM"], packet["EPOCH"], packet["SEQUENCE"]) == row.key
        assert (packet["LAST_SEQUENCE"], packet["SHOTS"]) == (row.key.sequence, 1)
        assert packet["USED"] == (row.label is not None)
        assert packet["DISTANCE_MM"] == (row.distance_mm or 0)
        assert packet["CLASS_INDEX"] == (row.label or "(none)")
        assert packet["CONFIDENCE"] == pytest.approx(row.confidence or 0.0, abs=0.51e-4)
        assert packet["MODEL"] == (bytes(8) if row.model is None else bytes.fromhex(DIGEST[:16]))
        assert packet["FRAME_CRC"] == row.frame_crc
        crc = crc_bit_by_bit(packets[count][:-2])
        assert packet["PACKET_ERROR_CONTROL"] == crc
    named = {"key", "time_ns", "distance_mm", "role", "label", "confidence", "accepted", "reason", "model"}
    assert {field.name for field in record_fields(Record)} == named | {"frame_crc", "probabilities"}


def outcome(row: Record) -> str:
    if row.accepted is None:
        return "no_decision"
    if row.accepted:
        return "accepted"
    return {"error: ModelError": "error", "of another kind": "other"}.get(str(row.reason), str(row.reason))


def crc_bit_by_bit(data: bytes) -> int:
    """CRC-16-CCITT from its definition."""
    register = 0xFFFF
    for byte in data:
        register ^= byte << 8
        for _ in range(8):
            register = (register << 1 ^ (0x1021 if register & 0x8000 else 0)) & 0xFFFF
    return register


def a_record(sequence: int = 7) -> Record:
    key = Key(9, 1, sequence)
    return Record(key, 10**18, 2300, "light", "basalt", 0.5, True, None, (0.3, 0.5, 0.2), DIGEST, 77)


def a_burst() -> BurstRecord:
    return BurstRecord(
        *(
            9,
            1,
            5,
            8,
            "vote",
            4,
            3,
            "gypsum",
            0.3,
            False,
            "no_majority",
            (0.4, 0.3, 0.3),
            None,
            10**18,
            DIGEST,
        )
    )


def test_burst(tmp_path: Path) -> None:
    burst = a_burst()
    telemetry = Telemetry()
    shot = replace(a_record(), label="gypsum", confidence=0.5, probabilities=(0.3, 0.2, 0.5))
    first, second = read(tmp_path, [telemetry.frame(shot), telemetry.burst(burst)])
    assert (first["KIND"], second["KIND"]) == ("frame", "burst")
    assert first["CLASS_INDEX"] == second["CLASS_INDEX"] == "gypsum"  # voted; the mean's largest is andesite
    names = ("STREAM", "EPOCH", "SEQUENCE", "LAST_SEQUENCE", "SHOTS", "USED")
    assert [second[name] for name in names] == [9, 1, 5, 8, 4, 3]
    assert second["OUTCOME"] == "no_majority"
    assert second["CONFIDENCE"] == pytest.approx(0.3)


def test_header_and_time_are_those_of_spacepackets() -> None:
    sp: Any = pytest.importorskip("spacepackets")
    from spacepackets.ccsds.time import CdsShortTimestamp

    telemetry = Telemetry(77)
    telemetry.count = 16383
    packets = [telemetry.frame(a_record()), telemetry.frame(a_record())]
    for count, packet in zip((16383, 0), packets, strict=True):
        header = sp.SpacePacketHeader(
            packet_type=sp.PacketType.TM,
            apid=77,
            seq_count=count,
            data_len=PACKET_BYTES - 7,
            sec_header_flag=True,
            seq_flags=sp.SequenceFlags.UNSEGMENTED,
        )
        assert packet[:6] == bytes(header.pack())
    stamp = CdsShortTimestamp.from_datetime(datetime.datetime.fromtimestamp(10**9, datetime.timezone.utc))
    assert struct.unpack(">HI", packets[0][7:13]) == (stamp.ccsds_days, stamp.ms_of_day)


def test_document_is_valid_xtce(tmp_path: Path) -> None:
    from space_packet_parser.xtce import validation

    def valid(file: Path) -> bool:
        xsd = Path(validation.__file__).parent / "schemas" / "SpaceSystem.xsd"
        quiet = {"print_results": False, "raise_on_error": False, "allow_schema_download": False}
        return bool(validation.validate_xtce(file, level="all", local_xsd=xsd, **quiet))

    file = tmp_path / "decisions.xml"
    assert CliRunner().invoke(main, ["xtce", "-o", str(file)]).exit_code == 0
    assert valid(file)
    file.write_text(file.read_text().replace('encoding="unsigned"', 'encoding="backwards"'))
    assert not valid(file)


def test_a_wrong_document_is_noticed(tmp_path: Path) -> None:
    """The oracle reads by the document, not by luck: with two fields exchanged it reads something else."""
    packet = Telemetry().frame(a_record())
    text = document(DEFAULT_APID, LABELS)
    first, second = (f'<ParameterRefEntry parameterRef="{name}" />' for name in ("STREAM", "EPOCH"))
    assert first in text
    assert second in text
    wrong = text.replace(first, "@").replace(second, first).replace("@", second)
    (tmp_path / "wrong.xml").write_text(wrong)
    got = spp.load_xtce(tmp_path / "wrong.xml").parse_bytes(packet)
    assert (got["STREAM"], got["EPOCH"]) == (1, 9)


def test_over_udp_from_a_run(tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`libsedge run --sink ccsds:` sends what the journal holds; the class names come from the bundle."""
    import numpy as np
    from libsedge.journal import Journal
    from libsedge.store import write_store

    monkeypatch.setenv("LIBSEDGE_HOME", str(tiny_model.home))
    axis = np.linspace(235.0, 860.0, 900)
    rng = np.random.default_rng(0)
    counts = rng.normal(500.0, 10.0, (12, axis.size))
    for row in counts[2:]:
        for centre in rng.uniform(250, 840, 40):
            row += rng.uniform(500, 20000) * np.exp(-(((axis - centre) / 0.8) ** 2))
    write_store(tmp_path / "set.h5", counts=counts.astype(np.uint16), wavelength=axis, specimen=["one"] * 12)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ground:
        ground.bind(("127.0.0.1", 0))
        ground.settimeout(20)
        port = ground.getsockname()[1]
        ran = CliRunner().invoke(
            main,
            [
                *("run", str(tiny_model.path), "--source", f"replay:{tmp_path}/set.h5", "--json"),
                *("--journal", f"{tmp_path}/run.db", "--sink", f"ccsds:udp:127.0.0.1:{port},apid=77"),
            ],
        )
        assert ran.exit_code == 0, ran.output
        packets = [ground.recv(2000) for _ in range(12)]
    assert json.loads(ran.stdout)["sink_errors"] == 0
    written = CliRunner().invoke(
        main, ["xtce", str(tiny_model.path), "--apid", "77", "-o", f"{tmp_path}/decisions.xml"]
    )
    assert written.exit_code == 0, written.output
    definition = spp.load_xtce(tmp_path / "decisions.xml")
    got = [definition.parse_bytes(packet) for packet in packets]
    journal = Journal(tmp_path / "run.db")
    rows = list(journal)
    journal.close()
    assert len(rows) == 12
    assert [packet["SEQUENCE"] for packet in got] == [row.key.sequence for row in rows]
    assert [packet["CLASS_INDEX"] for packet in got] == [row.label or "(none)" for row in rows]
    assert {row.label for row in rows} > {None}
    assert got[-1]["OUTCOME"] == (rows[-1].reason or "accepted")


def test_nobody_listens_is_no_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
    sink = CcsdsSink(f"udp:127.0.0.1:{port}")
    for _ in range(5):
        sink.write([a_record(i) for i in range(10)])
        sink.write_bursts([a_burst()])
    sink.close()
    sink.close()


def test_a_closed_socket_is_an_oserror() -> None:
    sink = CcsdsSink("udp:127.0.0.1:9")
    sink.close()
    with pytest.raises(OSError, match=r"."):
        sink.write([a_record()])


@pytest.mark.parametrize(
    "argument",
    [
        *(
            "udp:8.8.8.8:5000",
            "udp:0.0.0.0:5000",
            "tcp:127.0.0.1:5000",
            "udp:127.0.0.1:0",
            "udp:127.0.0.1:70000",
        ),
        *("udp:127.0.0.1:5000,apid=2047", "udp:127.0.0.1:5000,bytes=3", "5000", "udp:127.0.0.1"),
    ],
)
def test_arguments(argument: str) -> None:
    with pytest.raises(ConfigError):
        open_sink(f"ccsds:{argument}")


def test_xtce_mistakes(tmp_path: Path) -> None:
    for arguments in (["--apid", "2047", "-o", f"{tmp_path}/x.xml"], ["-o", f"{tmp_path}/none/x.xml"]):
        ran = CliRunner().invoke(main, ["xtce", *arguments])
        assert ran.exit_code == 2
        assert ran.output.startswith("error: ")
    assert list(tmp_path.iterdir()) == []
