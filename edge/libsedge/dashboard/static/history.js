// The newest rows of the journal, and the way to all of them.
import { byId, percent, put, rows } from "/static/dom.js";
import { why } from "/static/decision.js";

let visible = false, busy = false, asked = 0;

export async function refresh() {
  if (busy) return;
  busy = true;
  asked = performance.now();
  try {
    const answer = await fetch(`/history.json?limit=100&show=${byId("show").value}`);
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const list = await answer.json();
    rows("history", list.map((r) => [
      `${r.epoch}/${r.sequence}`, r.time ? r.time.replace("T", " ").slice(0, 23) : "unknown",
      r.distance_m === null ? "unknown" : `${r.distance_m.toFixed(2)} m`, r.label ?? "–", percent(r.confidence),
      `${r.role !== "light" ? "■" : r.accepted ? "✓" : "✗"} ${why(r)}`,
    ]));
    put("history-note", list.length ? `${list.length} rows` : "no rows yet");
  } catch (error) {
    put("history-note", `not read: ${error.message}`);
  } finally {
    busy = false;
  }
}

/** With every picture: the table is read again now and then while somebody can see it. */
export function show() { if (visible && performance.now() - asked > 2000) refresh(); }

export function start() {
  byId("history-form").addEventListener("submit", (event) => { event.preventDefault(); refresh(); });
  byId("show").addEventListener("change", () => {
    byId("csv").href = `/history.csv?show=${byId("show").value}`;
    refresh();
  });
  refresh();
  new IntersectionObserver((entries) => { visible = entries[entries.length - 1].isIntersecting; }).observe(byId("history").closest("section"));
}
