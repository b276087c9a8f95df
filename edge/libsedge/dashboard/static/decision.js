// The decision in large type, the most likely classes, and a sentence for screen readers.
import { byId, calmly, make, percent, put, rows } from "/static/dom.js";

const TOP = 5, SPEAK_MS = 5000;
let model = null, spoken = "";

const REASONS = {
  wrong_length: "wrong number of channels",
  non_finite: "the spectrum holds values that are no numbers",
  all_masked: "no channel is valid",
  saturated: "the detector is saturated",
  too_dim: "too dim: no line stands above the noise",
  no_accepted_shot: "no shot was accepted",
  no_usable_shot: "no shot could be used",
  no_majority: "no class has more than half of the shots",
};

export function why(frame) {
  if (frame.role === "dark") return "dark frame: the new dark reference";
  if (frame.role === "passive") return "passive frame: not classified";
  if (frame.role === "averaged") return "a shot of a burst that is decided on the mean";
  if (frame.accepted) return "accepted";
  if (frame.reason === "safe_mode") return "safe mode: nothing is decided";
  if (frame.reason === "low_confidence") return `not accepted: confidence is below the limit${model ? ` of ${percent(model.min_confidence)}` : ""}`;
  return `not accepted: ${REASONS[frame.reason] ?? frame.reason ?? "no reason given"}`;
}

const speak = calmly((text) => { if (text !== spoken) { spoken = text; put("spoken", text); } }, SPEAK_MS);

function draw(frame) {
  const box = byId("verdict"), label = frame.label ?? (frame.role === "light" ? "no decision" : `${frame.role} frame`);
  box.dataset.state = frame.role !== "light" ? "none" : frame.accepted ? "accepted" : "refused";
  box.dataset.size = label.length > 20 ? "longer" : label.length > 10 ? "long" : "short";
  put("mark", frame.role !== "light" ? "■" : frame.accepted ? "✓" : "✗");
  put("label", label);
  put("confidence", frame.confidence === null ? "" : percent(frame.confidence));
  put("reason", why(frame));
  byId("gauge-fill").style.width = `${100 * (frame.confidence ?? 0)}%`;
  byId("gauge-limit").style.left = `${100 * (model?.min_confidence ?? 0)}%`;
  const distance = frame.distance_mm === null ? "distance unknown" : `${(frame.distance_mm / 1000).toFixed(2)} m`;
  put("frame", `${distance} · frame ${frame.sequence}, epoch ${frame.epoch}, stream ${Number(frame.stream).toString(16).padStart(8, "0")}`);
  byId("frame").dataset.sequence = frame.sequence;
  const pairs = (frame.probabilities ?? []).map((p, i) => [model?.labels[i] ?? "?", p]).sort((a, b) => b[1] - a[1]).slice(0, TOP);
  rows("top", pairs.map(([name, p]) => {
    const bar = make("div", "bar"), fill = make("i");
    fill.style.width = `${100 * p}%`;
    bar.append(fill);
    return [name, bar, percent(p)];
  }));
  if (!pairs.length) rows("top", [["–", "", ""]]);
  const sure = frame.confidence === null ? "" : ` ${percent(frame.confidence)},`;
  speak(frame.role === "light" ? `${label},${sure} ${why(frame)}` : why(frame));
}

function drawBurst(burst) {
  byId("burst").hidden = false;
  const how = burst.mode === "vote" ? `${burst.used} of ${burst.shots} shots accepted` : `mean of ${burst.used} of ${burst.shots} shots`;
  const verdict = burst.accepted ? "✓ " : "✗ ", sure = burst.confidence === null ? "" : ` ${percent(burst.confidence)}`;
  put("burst", `Last burst, frames ${burst.first} to ${burst.last}: ${verdict}${burst.label ?? "no decision"}${sure}, ${how}, ${why({ role: "light", ...burst })}`);
  byId("burst").dataset.state = burst.accepted ? "accepted" : "refused";
}

export const show = calmly((head) => {
  if (head.frame) draw(head.frame);
  if (head.burst) drawBurst(head.burst);
}, 300);

export function newModel(head) {
  model = head;
  put("model", `${head.name} ${head.version}`.trim());
  put("model-name", head.safe_mode ? "none" : `${head.name} ${head.version}, counter ${head.counter}`);
  put("digest", head.sha256 ? head.sha256.slice(0, 16) + "…" : "–");
  byId("digest").title = head.sha256;
  put("kernel", head.isa);
  const good = head.signer !== null, chip = byId("signature");
  chip.hidden = false;
  chip.className = `chip ${good ? "good" : "bad"}`;
  put(chip, good ? "✓ signature valid" : head.safe_mode ? "✗ safe mode" : "✗ not verified");
  put("signed", good ? `valid, “${head.signer}”` : "–");
  byId("signed").title = head.key ?? "";
  byId("simulated").hidden = !head.simulated;
}
