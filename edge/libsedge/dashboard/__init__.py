"""The live page of `libsedge run --dashboard`; docs/dashboard.md.

    pipeline process                                       page process (`python -m libsedge.dashboard.server`)
    worker -> Tap -> publisher thread ==socket pair==> Board -> Feed -> one WebSocket a browser, latest wins
                                                       journal (read only) -> history, CSV

The page has a process of its own, so that neither its interpreter lock nor its memory is the pipeline's. What
crosses over is at most ten pictures a second, and where the page is busy a picture is left out, never waited for.

* `tap.py`, `picture.py`, `publisher.py`: in the pipeline's process. `message.py`: the form of what crosses over, and of
  what goes to the browser.
* `server.py`, `guard.py`, `feed.py`: the page's process: start and routes, who may ask, latest-wins.
* `board.py`, `alarms.py`, `lines.py`, `history.py`: what the page shows.
* `static/`: the page itself.
"""
