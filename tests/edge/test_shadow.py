"""A new version in the shadow of the old one, and back where it fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from libsedge.classifier import Decision
from libsedge.errors import ConfigError, SpectrumError
from libsedge.journal import Journal
from libsedge.model_store import ModelStore
from libsedge.pipeline import Pipeline
from libsedge.store_run import StoreRun
from mean_classifier import CHANNELS
from test_hot_swap import Named, Steady, journal, store, until

__all__ = ["journal", "store"]  # fixtures


class Failing(Named):
    """Raises for every spectrum from the `after`-th on."""

    def __init__(self, digest: str, after: int = 0) -> None:
        super().__init__(digest)
        self.after, self.calls = after, 0

    def decide(self, *arguments: Any) -> Decision:
        self.calls += 1
        if self.calls > self.after:
            raise SpectrumError("on purpose")
        return super().decide(*arguments)


class Trial:
    """A pipeline on 1.0.0, in a thread, whose store activates 1.1.0."""

    def __init__(self, store: ModelStore, journal_path: Path, new: Named, shadow_frames: int) -> None:
        self.store, self.new = store, new
        self.said: list[str] = []
        self.source = Steady(100_000, 0.001)
        bundle, _ = store.open_current()
        self.old = bundle.digest
        self._journal_path = journal_path
        self._ready = threading.Event()
        self.run = StoreRun(store, bundle, self.said.append, shadow_frames)
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        assert self._ready.wait(20)
        until(lambda: store.state().versions["1.0.0"].state == "good")
        store.activate("1.1.0")
        self.run.requested = True

    def _make(self, bundle: Any) -> Any:
        if bundle.digest == self.old:
            return Named(self.old)
        self.new.digest = bundle.digest
        return self.new

    def _work(self) -> None:
        journal = Journal(self._journal_path, stream=5)
        self.pipeline = Pipeline(self.source, Named(self.old), journal)
        self.run.watch(self.pipeline, self._make, lambda bundle, classifier: None)
        self._ready.set()
        self.report = self.pipeline.run()
        self.run.end(self.pipeline.ledger)
        self.rows = list(journal)
        journal.close()

    def stop(self) -> None:
        self.source.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def state(self, version: str) -> str:
        return self.store.state().versions[version].state


@pytest.fixture
def trials() -> Iterator[list[Trial]]:
    running: list[Trial] = []
    yield running
    for trial in running:
        trial.stop()


def test_the_shadow_is_not_heard_and_then_takes_over(
    store: ModelStore, tmp_path: Path, trials: list[Trial]
) -> None:
    trial = Trial(store, tmp_path / "t.db", Named("new"), 2000)
    trials.append(trial)
    until(lambda: trial.state("1.1.0") == "shadow")
    heard = trial.pipeline.ledger.journaled
    until(lambda: trial.pipeline.ledger.journaled > heard + 50)
    assert trial.state("1.1.0") == "shadow"
    assert not any("decides from now on" in line for line in trial.said)
    until(lambda: trial.state("1.1.0") == "good", 60)
    trial.stop()
    digests = [row.model for row in trial.rows]
    first = digests.index(trial.new.digest)
    assert digests == [trial.old] * first + [trial.new.digest] * (len(digests) - first)
    assert first >= 2000
    assert all(row.label == row.model for row in trial.rows)
    assert "1.1.0: 0 of 2000 decisions as the old one's, 0 errors" in trial.said


def test_a_shadow_that_fails_never_decides(store: ModelStore, tmp_path: Path, trials: list[Trial]) -> None:
    trial = Trial(store, tmp_path / "t.db", Failing("new", after=20), 50)
    trials.append(trial)
    until(lambda: trial.state("1.1.0") == "bad")
    trial.stop()
    assert store.state().current == "1.0.0"
    assert {row.model for row in trial.rows} == {trial.old}
    assert not any(str(row.reason).startswith("error") for row in trial.rows)
    assert "1.1.0: 0 of 50 decisions as the old one's, 30 errors" in trial.said


def test_a_version_that_fails_while_it_decides_is_left(
    store: ModelStore, tmp_path: Path, trials: list[Trial]
) -> None:
    """Without a shadow: it takes over, fails three times in a row, and the old one is back within the run."""
    trial = Trial(store, tmp_path / "t.db", Failing("new"), 0)
    trials.append(trial)
    until(lambda: trial.state("1.1.0") == "bad")
    until(lambda: any("back to 1.0.0" in line for line in trial.said))
    back = trial.pipeline.ledger.journaled
    until(lambda: trial.pipeline.ledger.journaled > back + 100)
    trial.stop()
    assert store.state().current == "1.0.0"
    failed = [row for row in trial.rows if str(row.reason).startswith("error")]
    assert len(failed) >= StoreRun.FAILURES
    assert {row.model for row in failed} == {trial.new.digest}
    assert trial.rows[-1].model == trial.old
    assert trial.rows[-1].label == trial.old


def test_errors_now_and_then_are_no_failure(store: ModelStore, tmp_path: Path, trials: list[Trial]) -> None:
    """Negative control: two in a row, again and again, are not three."""

    class Stumbling(Failing):
        def decide(self, *arguments: Any) -> Decision:
            self.after = self.calls + (self.calls % 3 == 0)  # the call after every third works
            return super().decide(*arguments)

    trial = Trial(store, tmp_path / "t.db", Stumbling("new"), 0)
    trials.append(trial)
    until(lambda: trial.state("1.1.0") == "good")
    trial.stop()
    assert store.state().current == "1.1.0"


def test_bad_arguments(store: ModelStore, journal: Journal) -> None:
    bundle, _ = store.open_current()
    with pytest.raises(ConfigError, match="shadow"):
        StoreRun(store, bundle, print, -1)
    other = Named("new")
    other.channels = CHANNELS + 1
    with pytest.raises(ConfigError, match="channels"):
        Pipeline(Steady(1, 0.0), Named("old"), journal).shadow(other, 5)


def test_the_end_of_the_run_ends_the_shadow(store: ModelStore, tmp_path: Path, trials: list[Trial]) -> None:
    trial = Trial(store, tmp_path / "t.db", Named("new"), 10**9)
    until(lambda: trial.state("1.1.0") == "shadow")
    begin = time.monotonic()
    trial.stop()
    assert time.monotonic() - begin < 20
    assert ModelStore(store.folder).open_current()[0].manifest["version"] == "1.1.0"  # still on trial
