// How long a decision took, in the last minute, with the deadline.
import { byId, css, open, put, rows } from "/static/dom.js";
import { axis, plot } from "/static/plot.js";

let u = null, edges = [], bars = [], deadline = null, shownEdge = [0, 1];
const log = Math.log2;
const short = (ms) => (ms >= 10 ? `${Math.round(ms)}` : `${+ms.toPrecision(2)}`);

function span() {
  const used = bars.map((n, i) => (n ? i : -1)).filter((i) => i >= 0);
  let [low, high] = used.length ? [log(edges[used[0]]) - 1.5, log(edges[used[used.length - 1]]) + 1] : [-1, 4];
  if (deadline) high = Math.max(high, log(deadline) + 0.7);
  return [Math.floor(low), Math.max(Math.ceil(high), Math.floor(low) + 4)];
}

function drawBars(chart) {
  const { ctx, bbox } = chart, ratio = devicePixelRatio || 1, floor = chart.valToPos(0, "y", true);
  ctx.save();
  ctx.beginPath(); ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height); ctx.clip();
  bars.forEach((n, i) => {
    if (!n) return;
    const right = chart.valToPos(log(edges[i]), "x", true) - ratio, left = chart.valToPos(log(edges[i]) - 0.5, "x", true) + ratio;
    const top = chart.valToPos(n, "y", true), late = deadline !== null && edges[i] > deadline * 1.0001;
    ctx.fillStyle = css(late ? "--bad" : "--accent");
    ctx.fillRect(left, Math.min(top, floor - 2 * ratio), right - left, floor - Math.min(top, floor - 2 * ratio));
    if (!late) return;
    ctx.save(); // late ones are hatched too: colour is never the only sign
    ctx.beginPath(); ctx.rect(left, top, right - left, floor - top); ctx.clip();
    ctx.strokeStyle = css("--card"); ctx.lineWidth = 2 * ratio;
    for (let x = left - (floor - top); x < right; x += 7 * ratio) { ctx.beginPath(); ctx.moveTo(x, floor); ctx.lineTo(x + (floor - top), top); ctx.stroke(); }
    ctx.restore();
  });
  if (deadline) {
    const x = chart.valToPos(log(deadline), "x", true);
    ctx.strokeStyle = ctx.fillStyle = css("--ink");
    ctx.lineWidth = 2 * ratio; ctx.setLineDash([6 * ratio, 4 * ratio]);
    ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, floor); ctx.stroke();
    ctx.font = `600 ${11 * ratio}px system-ui, sans-serif`;
    const room = bbox.left + bbox.width - x > 64 * ratio;
    ctx.textAlign = room ? "left" : "right";
    ctx.fillText("deadline", x + (room ? 5 : -5) * ratio, bbox.top + 11 * ratio);
  }
  ctx.restore();
}

export function newModel(head) {
  edges = head.edges_ms;
  u ??= plot(byId("latency"), {
    cursor: { show: false },
    scales: { x: { time: false, range: span }, y: { range: () => [0, Math.max(1, ...bars) * 1.2] } },
    axes: [
      axis({ splits: () => { const [a, b] = span(); const step = Math.ceil((b - a) / 9); return Array.from({ length: Math.floor((b - a) / step) + 1 }, (_, k) => a + k * step); }, values: (c, all) => all.map((v) => short(2 ** v)) }),
      axis({ size: 48 }),
    ],
    series: [{}, { paths: () => null, points: { show: false } }],
    hooks: { draw: [drawBars] },
  }, [[0, 1], [0, 1]]);
}

let calm = 0;
export function show(head) {
  const now = performance.now();
  if (now - calm < 450) return;
  calm = now;
  bars = head.latency.bars;
  deadline = head.deadline_s === null ? null : head.deadline_s * 1000;
  const { p50_ms: p50, p99_ms: p99, max_ms: max, count } = head.latency;
  const late = deadline === null ? "no deadline set" : `${head.deadline_missed} missed the deadline of ${short(deadline)} ms`;
  put("latency-text", `${count} frames since the start: half within ${p50.toFixed(2)}, 99 % within ${p99.toFixed(2)}, longest ${max.toFixed(2)} ms; ${late}`);
  u?.setData([span(), [0, 1]]);
  if (open("latencies")) rows("latencies", bars.map((n, i) => [short(edges[i]), n]).filter(([, n]) => n));
}

export function start() {}
