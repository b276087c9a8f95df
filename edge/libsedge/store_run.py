"""A run with a model store's current version: its trial, and the change to another version while frames come.

The new version is opened, verified and self-tested in a thread of its own while the old one goes on deciding; then
the pipeline's worker takes the ready classifier between two frames. So no frame waits for the disk, none is lost, and
none is decided by a model that is half there. Where anything fails the old one goes on.

With `shadow_frames` the new version first decides that many light frames unheard, beside the old one; an error there
sends it back. A version on trial that gives `FAILURES` errors instead of decisions in a row is left for the one before
it at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from libsedge.bundle import Bundle
from libsedge.classifier import Classifier
from libsedge.errors import ConfigError, SedgeError
from libsedge.ledger import Ledger
from libsedge.model_state import ModelStoreError
from libsedge.model_store import ModelStore
from libsedge.pipeline import Pipeline


class StoreRun:
    """The current version `bundle` of `store`; `say` takes a line for people.

    It is good once `FRAMES` frames that came under it are in the journal.
    """

    FRAMES = 100
    FAILURES = 3

    def __init__(
        self, store: ModelStore, bundle: Bundle, say: Callable[[str], None], shadow_frames: int = 0
    ) -> None:
        if shadow_frames < 0:
            raise ConfigError("must be 0 or more frames", field="shadow", value=shadow_frames)
        self.bundle = bundle
        self._shadow_frames = shadow_frames
        #: set from a signal handler: look at the store
        self.requested = False
        self._store, self._say = store, say
        self._from = 0  # frames that were journaled, or on their way there, when it began
        self._settled = False
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def version(self) -> str:
        return str(self.bundle.manifest["version"])

    def look(self, ledger: Ledger) -> None:
        """Mark the version good when it is time."""
        with self._lock:
            if not self._settled and ledger.journaled >= self._from + self.FRAMES:
                self._note(self._store.mark_good)

    def _failed(self, pipeline: Pipeline) -> bool:
        """True when the version on trial has to be left."""
        return not self._settled and pipeline.failures >= self.FAILURES

    def end(self, ledger: Ledger) -> None:
        """The run came to a clean end; stops watching first."""
        self.close()
        self.look(ledger)
        with self._lock:
            if not self._settled:
                self._note(self._store.ended_well)

    def _note(self, what: Callable[[str], None]) -> None:
        try:
            what(self.version)
        except ModelStoreError as error:  # the stream goes on; the version stays on trial
            self._say(f"warning: {error}")
        self._settled = True

    def watch(
        self,
        pipeline: Pipeline,
        make: Callable[[Bundle], Classifier],
        swapped: Callable[[Bundle, Classifier], None],
        isa: str | None = None,
    ) -> None:
        """Begin: mark the version good in time, and look at the store whenever `requested` is set.

        make : gives a bundle's classifier, bound to the axis. swapped : is told of a change. Both are called in a
        thread of this object's own, which alone waits for the store's disk.
        """

        def work() -> None:
            while not self._closed.wait(0.1):
                if self._failed(pipeline):
                    try:
                        self._leave(pipeline, make, swapped)
                    except SedgeError as error:
                        self._say(f"warning: {self.version} fails, and there is no way back: {error}")
                        self._settled = True
                    continue
                self.look(pipeline.ledger)
                if self.requested:
                    self.requested = False
                    try:
                        self._change(pipeline, make, swapped, isa)
                    except SedgeError as error:
                        self._say(f"warning: {self.version} goes on: {error}")

        self._thread = threading.Thread(target=work, name="libsedge-swap", daemon=True)
        self._thread.start()

    def _change(
        self,
        pipeline: Pipeline,
        make: Callable[[Bundle], Classifier],
        swapped: Callable[[Bundle, Classifier], None],
        isa: str | None,
    ) -> None:
        state = self._store.state()
        if state.current is not None and state.versions[state.current].digest == self.bundle.digest:
            self._say(f"{self.version} is still the current version")
            return
        bundle, failed = self._store.open_current(isa)
        if failed is not None:
            self._say(f"warning: rolled back to {bundle.manifest['version']}: {failed}")
        if bundle.digest == self.bundle.digest:
            return
        classifier = make(bundle)
        if self._shadow_frames and not self._passes(pipeline, bundle, classifier):
            return
        self._exchange(pipeline, bundle, classifier, swapped)

    def _passes(self, pipeline: Pipeline, bundle: Bundle, classifier: Classifier) -> bool:
        """Let the new version decide in the shadow; False where it failed there, or the run ends meanwhile."""
        version = bundle.manifest["version"]
        self._store.note_shadow(version, begins=True)
        self._say(f"{version} decides {self._shadow_frames} frames in the shadow of {self.version}")
        shadow = pipeline.shadow(classifier, self._shadow_frames)
        while not shadow.ended.wait(0.1):
            if self._closed.is_set():
                return False
        self._say(f"{version}: {shadow.text()}")
        if shadow.failed:
            self._store.rollback()
            self._say(f"warning: {version} is bad; {self.version} goes on")
            return False
        self._store.note_shadow(version, begins=False)
        return True

    def _leave(
        self,
        pipeline: Pipeline,
        make: Callable[[Bundle], Classifier],
        swapped: Callable[[Bundle, Classifier], None],
    ) -> None:
        """Back to the version before, which is proven again first."""
        failed = self.version
        state = self._store.rollback()
        assert state.current is not None
        bundle = self._store.open_current()[0]
        self._say(f"warning: {failed} failed {self.FAILURES} times in a row: back to {state.current}")
        self._exchange(pipeline, bundle, make(bundle), swapped)

    def _exchange(
        self,
        pipeline: Pipeline,
        bundle: Bundle,
        classifier: Classifier,
        swapped: Callable[[Bundle, Classifier], None],
    ) -> None:
        with self._lock, pipeline.ledger.lock:
            pipeline.swap(classifier)
            self.bundle, self._settled = bundle, False
            self._from = pipeline.ledger.journaled + pipeline.ledger.in_flight
        swapped(bundle, classifier)
        self._say(f"{self.version} decides from now on")

    def close(self) -> None:
        """Safe to call twice, and without `watch`."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
