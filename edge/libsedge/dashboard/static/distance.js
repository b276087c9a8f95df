// Decisions and their confidence against the distance: marks, and a table of bins.
import { byId, css, make, open, percent, put, rows } from "/static/dom.js";
import { axis, colour, mark, plot } from "/static/plot.js";

let u = null, points = new Float32Array(0), labels = [], limit = 0;
const count = () => points.length / 4;

function span() {
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < points.length; i += 4) { low = Math.min(low, points[i]); high = Math.max(high, points[i]); }
  if (low > high) return [0, 5];
  const pad = Math.max(0.1, 0.05 * (high - low));
  return [Math.max(0, low - pad), high + pad];
}

function drawPoints(chart) {
  legend();
  const { ctx, bbox } = chart, ratio = devicePixelRatio || 1, r = (count() > 250 ? 3 : 4) * ratio;
  ctx.save();
  const y = chart.valToPos(limit, "y", true);
  ctx.strokeStyle = ctx.fillStyle = css("--muted");
  ctx.setLineDash([5 * ratio, 4 * ratio]);
  ctx.lineWidth = ratio;
  ctx.beginPath(); ctx.moveTo(bbox.left, y); ctx.lineTo(bbox.left + bbox.width, y); ctx.stroke();
  ctx.setLineDash([]);
  for (let i = 0; i < points.length; i += 4) {
    const confidence = points[i + 1], none = Number.isNaN(confidence);
    mark(ctx, none ? -1 : points[i + 2], chart.valToPos(points[i], "x", true), chart.valToPos(none ? 0.02 : confidence, "y", true), r, points[i + 3] > 0);
  }
  ctx.font = `600 ${11 * ratio}px system-ui, sans-serif`;
  ctx.textAlign = "right";
  ctx.strokeStyle = css("--card"); ctx.fillStyle = css("--ink"); ctx.lineWidth = 4 * ratio;
  const end = bbox.left + bbox.width - 4 * ratio;
  ctx.strokeText(`limit ${percent(limit)}`, end, y - 5 * ratio);
  ctx.fillText(`limit ${percent(limit)}`, end, y - 5 * ratio);
  ctx.restore();
}

function legend() {
  const there = new Set();
  for (let i = 0; i < points.length; i += 4) there.add(Number.isNaN(points[i + 1]) ? -1 : points[i + 2]);
  const key = [...there].sort((a, b) => a - b).join() + colour(0);
  if (byId("legend").dataset.key === key) return;
  byId("legend").dataset.key = key;
  const items = [...there].sort((a, b) => a - b).map((i) => {
    const item = make("li"), canvas = make("canvas");
    canvas.width = canvas.height = 24;
    canvas.setAttribute("aria-hidden", "true");
    mark(canvas.getContext("2d"), i, 12, 12, 9, true);
    item.append(canvas, i < 0 ? "not decided" : labels[i] ?? "?");
    return item;
  });
  if (items.length) items.push(make("li", "meta", "filled: accepted, hollow: not"));
  byId("legend").replaceChildren(...items);
}

function table() {
  if (!open("distances")) return;
  const [low, high] = span(), bins = Array.from({ length: 6 }, () => ({ n: 0, ok: 0, sum: 0, sure: 0, labels: {} }));
  for (let i = 0; i < points.length; i += 4) {
    const bin = bins[Math.min(5, Math.floor((6 * (points[i] - low)) / (high - low || 1)))];
    bin.n++; bin.ok += points[i + 3];
    if (!Number.isNaN(points[i + 1])) { bin.sum += points[i + 1]; bin.sure++; bin.labels[labels[points[i + 2]]] = (bin.labels[labels[points[i + 2]]] ?? 0) + 1; }
  }
  const edge = (k) => (low + ((high - low) * k) / 6).toFixed(2);
  rows("distances", bins.map((bin, k) => [k, bin]).filter(([, bin]) => bin.n).map(([k, bin]) => [
    `${edge(k)} – ${edge(k + 1)}`, bin.n, percent(bin.ok / bin.n), bin.sure ? percent(bin.sum / bin.sure) : "–",
    Object.entries(bin.labels).sort((a, b) => b[1] - a[1])[0]?.[0] ?? "–",
  ]));
}

export function newModel(head) {
  labels = head.labels;
  limit = head.min_confidence;
  u ??= plot(byId("distance"), {
    cursor: { show: false },
    scales: { x: { time: false, range: span }, y: { range: () => [0, 1.04] } },
    axes: [axis(), axis({ size: 48, values: (c, all) => all.map((v) => (v <= 1 ? `${Math.round(100 * v)} %` : "")) })],
    series: [{}, { paths: () => null, points: { show: false } }],
    hooks: { draw: [drawPoints] },
  }, [[0, 1], [0, 1]]);
}

let calm = 0;
export function show(newPoints) {
  points = newPoints;
  const now = performance.now();
  if (now - calm < 450) return;
  calm = now;
  put("distance-note", count() ? `metres, last ${count()} decisions` : "no distances yet");
  table();
  u?.setData([span(), [0, 1]]);
}

export function start() { byId("distances").closest("details").addEventListener("toggle", table); }
