"""`libsedge monitor` shows what the health port says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from libsedge.cli import main
from libsedge.commands.monitor import rows
from libsedge.errors import SourceError
from libsedge.health import Health, metrics
from libsedge.journal import Journal
from libsedge.pipeline import Pipeline
from libsedge.scrape import parse
from list_source import ListSource, frame
from mean_classifier import MeanClassifier


def finished(path: Path) -> Pipeline:
    journal = Journal(path)
    frames = [frame(i, 50 + 100 * (i % 2)) for i in range(9)] + [frame(20, channels=7)]
    pipeline = Pipeline(ListSource(frames), MeanClassifier(), journal, deadline_s=60.0)
    pipeline.run()
    journal.close()
    return pipeline


def test_what_is_shown_is_what_was_counted(tmp_path: Path) -> None:
    pipeline = finished(tmp_path / "j")
    health = Health(pipeline, {"name": 'a "net"\\x', "version": "1.0.0", "isa": "avx2"}, "127.0.0.1:0")
    try:
        result = CliRunner().invoke(main, ["monitor", str(health.address), "--json"])
        shown = json.loads(result.stdout)
        text = CliRunner().invoke(main, ["monitor", str(health.address), "--once"]).stdout
    finally:
        health.close()
    assert shown["frames"]["received"] == "10"
    assert shown["frames"]["journaled"] == "9"
    assert shown["frames"]["  rejected: wrong_length"] == "1"
    assert shown["frames"]["gaps"] == str(pipeline.report().ledger["streams"][0]["gaps"])
    assert shown["decisions"] == {"high": "4", "low": "5"}
    assert shown["system"]["model"] == 'a "net"\\x 1.0.0 avx2'
    assert shown["system"]["state"] == "running"
    assert shown["time"]["deadline missed"] == "0"
    assert "wrong_length" in text
    assert "high" in text


def test_faults_are_in_words(tmp_path: Path) -> None:
    pipeline = finished(tmp_path / "j")
    health = Health(pipeline, {})
    page = metrics(pipeline, health.heartbeat, {}, safe_mode=True)
    health.close()
    page = page.replace("libsedge_frames_unaccounted 0", "libsedge_frames_unaccounted 3")
    page = page.replace("libsedge_heartbeat_age_seconds ", "libsedge_heartbeat_age_seconds 9")
    shown = {name: dict(lines) for name, lines in rows(parse(page), None, 0.0)}
    assert shown["frames"]["unaccounted"] == "3  FAULT"
    assert shown["system"]["state"].startswith("SAFE MODE")


def test_rates_and_percentiles() -> None:
    before = parse("libsedge_frames_received_total 100\n")
    page = "libsedge_frames_received_total 150\n" + "".join(
        f'libsedge_decision_latency_seconds_bucket{{le="{edge}"}} {n}\n'
        for edge, n in (("0.001", 0), ("0.01", 50), ("0.1", 98), ("+Inf", 100))
    )
    now = parse(page)
    shown = {name: dict(lines) for name, lines in rows(now, before, 2.0)}
    assert shown["frames"]["rate"] == "25.0 /s"
    assert (shown["time"]["decision p50"], shown["time"]["decision p99"]) == ("≤ 10 ms", "≤ inf ms")
    assert now.percentile("libsedge_stage_seconds", 99, stage="queue") is None


@pytest.mark.parametrize("page", ["<html>", "a{b=c} 1", "libsedge_x one", 'a{b="1} 2'])
def test_other_pages_are_refused(page: str) -> None:
    with pytest.raises(SourceError, match=r"line 1"):
        parse(page)


def test_nobody_there() -> None:
    result = CliRunner().invoke(main, ["monitor", "127.0.0.1:1", "--once"])
    assert result.exit_code == 2
    assert "nobody answers" in result.output
    away = CliRunner().invoke(main, ["monitor", "192.0.2.1:80", "--once"])
    assert away.exit_code == 2
    assert "loopback" in away.output
