// The spectrum with the lines of the elements: drawn, as buttons, and as a table.
import { byId, css, make, open, put, rows } from "/static/dom.js";
import { axis, colour, plot } from "/static/plot.js";

const MOST = 8; // elements marked by themselves
let wavelengths = new Float32Array(0), elements = [], range = null, auto = true, last = null, u = null;
const chosen = new Set();
const often = new Map(); // element -> how much of the last second it was seen

// A square-root scale: noise of counted photons has the same height everywhere, and weak lines stay visible.
const root = (v) => Math.sign(v) * Math.sqrt(Math.abs(v)), square = (v) => Math.sign(v) * v * v;

/** Round numbers for the axis, about evenly spaced under the root. */
function roots(chart, i, low, high) {
  const splits = [];
  for (let k = 0; k <= 5; k++) {
    const v = square(root(high) * (k / 5)), unit = 10 ** Math.max(0, Math.floor(Math.log10(v || 1)));
    splits.push(Math.floor(v / unit + 1e-9) * unit);
  }
  return [...new Set(splits)];
}

function whole() { return wavelengths.length ? [wavelengths[0], wavelengths[wavelengths.length - 1]] : [0, 1]; }

function drawLines(chart) {
  const { ctx, bbox } = chart, ratio = devicePixelRatio || 1, shown = marked();
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, 0, bbox.width, bbox.top + bbox.height);
  ctx.clip();
  ctx.font = `600 ${11 * ratio}px system-ui, sans-serif`;
  ctx.textAlign = "center";
  const taken = [[], [], []];
  shown.forEach((item) => {
    const place = elements.indexOf(item), there = new Set(last?.seen[item.element]?.lines ?? []);
    ctx.strokeStyle = ctx.fillStyle = colour(place);
    item.lines.forEach(([nm], i) => {
      const [from, to] = chart.scales.x.min === undefined ? whole() : [chart.scales.x.min, chart.scales.x.max];
      if (nm < from || nm > to) return;
      const x = chart.valToPos(nm, "x", true), width = ctx.measureText(item.element).width + 4 * ratio;
      const row = taken.findIndex((spans) => spans.every(([a, b]) => x + width / 2 < a || x - width / 2 > b));
      const y = bbox.top + (row < 0 ? 3 : row + 1) * 13 * ratio, bottom = bbox.top + bbox.height;
      ctx.lineWidth = ratio;
      if (!there.has(i)) { // not seen: a short broken mark at the foot
        ctx.globalAlpha = 0.6; ctx.setLineDash([3 * ratio, 3 * ratio]);
        ctx.beginPath(); ctx.moveTo(x, bottom); ctx.lineTo(x, bottom - 16 * ratio); ctx.stroke();
        return;
      }
      ctx.setLineDash([]);
      ctx.globalAlpha = 0.4;
      ctx.beginPath(); ctx.moveTo(x, y); ctx.lineTo(x, bottom); ctx.stroke();
      if (row < 0) return;
      taken[row].push([x - width / 2, x + width / 2]);
      ctx.globalAlpha = 1;
      ctx.fillText(item.element, Math.max(x, bbox.left + width / 2), y - 3 * ratio);
    });
  });
  ctx.restore();
}

function zoom(scale, shift) {
  const [a, b] = range ?? whole(), [low, high] = whole(), middle = (a + b) / 2 + shift * (b - a);
  const width = Math.min(high - low, Math.max(2, (b - a) * scale));
  const start = Math.min(high - width, Math.max(low, middle - width / 2));
  range = width >= high - low ? null : [start, start + width];
  draw();
}

function marked() {
  return elements.filter((item) => chosen.has(item.element) || (auto && item.now));
}

function refreshSeen() {
  if (!last) return;
  for (const item of elements) {
    const seen = last.seen[item.element];
    const value = 0.75 * (often.get(item.element) ?? 0) + 0.25 * (seen?.shown ? 1 : 0);
    often.set(item.element, value);
    item.share = seen?.share ?? 0;
    item.often = value;
  }
  const best = elements.filter((item) => item.often > 0.5).sort((a, b) => b.often * b.share - a.often * a.share).slice(0, MOST);
  for (const item of elements) {
    item.now = best.includes(item);
    const shown = chosen.has(item.element), text = `${item.element}${item.often > 0.5 ? " ●" : ""}`;
    put(item.button, text);
    item.button.classList.toggle("seen", item.often > 0.5);
    item.button.setAttribute("aria-pressed", String(shown));
    item.button.setAttribute("aria-label", `${item.element}, ${item.often > 0.5 ? "seen" : "not seen"}`);
  }
}

function refreshTable() {
  if (!last) return;
  const list = marked(), names = list.map((item) => item.element).join(", ");
  put("spectrum-text", `Counts against wavelength. Marked elements: ${names || "none"}.`);
  if (!open("lines")) return;
  rows("lines", list.flatMap((item) => {
    const there = new Set(last.seen[item.element]?.lines ?? []);
    return item.lines.map(([nm, stage, strength], i) => [`${item.element} ${stage}`, nm.toFixed(2), strength.toFixed(2), there.has(i) ? "● yes" : "no"]);
  }));
}

function draw() { if (u && last) u.setData([wavelengths, last.values]); }

export function newModel(head, numbers) {
  wavelengths = numbers;
  range = null;
  often.clear();
  last = null;
  elements = head.elements;
  byId("elements").replaceChildren(...elements.map((item) => {
    item.button = make("button", "", item.element);
    item.button.type = "button";
    item.button.setAttribute("aria-pressed", "false");
    item.button.addEventListener("click", () => {
      chosen.has(item.element) ? chosen.delete(item.element) : chosen.add(item.element);
      refreshSeen(); refreshTable(); draw();
    });
    return item.button;
  }));
  u ??= plot(byId("spectrum"), {
    cursor: { points: { show: false }, drag: { x: true, y: false, setScale: false } },
    scales: { x: { time: false, range: () => range ?? whole() }, y: { distr: 100, fwd: root, bwd: square, range: (c, low, high) => [Math.min(0, low), high > 0 ? high * 1.4 : 1] } },
    axes: [axis({ space: 70 }), axis({ size: 52, splits: roots, filter: (c, splits) => splits, values: (c, all) => all.map((v) => (Math.abs(v) >= 10000 ? `${v / 1000}k` : `${v}`)) })],
    series: [{}, { stroke: () => css("--ink"), width: 1, points: { show: false }, label: "counts" }],
    hooks: {
      draw: [drawLines],
      setSelect: [(c) => {
        if (c.select.width > 6) { range = [c.posToVal(c.select.left, "x"), c.posToVal(c.select.left + c.select.width, "x")]; }
        c.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        draw();
      }],
    },
  }, [[], []]);
}

let calm = 0;
export function show(head, values) {
  if (values.length !== wavelengths.length) { put("spectrum-note", "no spectrum"); return; }
  last = { seen: head.seen, values };
  const now = performance.now();
  if (now - calm > 250) { calm = now; refreshSeen(); refreshTable(); }
  let high = -Infinity;
  for (const value of values) if (value > high) high = value;
  put("spectrum-note", `highest ${high.toFixed(0)}${head.frame && head.frame.role !== "light" ? `, ${head.frame.role} frame` : ""}`);
  draw();
}

export function start() {
  byId("auto").addEventListener("click", () => {
    auto = !auto;
    byId("auto").setAttribute("aria-pressed", String(auto));
    refreshTable(); draw();
  });
  byId("lines").closest("details").addEventListener("toggle", refreshTable);
  const moves = { "zoom-in": [0.5, 0], "zoom-out": [2, 0], "zoom-left": [1, -0.25], "zoom-right": [1, 0.25], "zoom-all": [1e9, 0] };
  for (const [id, [scale, shift]] of Object.entries(moves)) byId(id).addEventListener("click", () => zoom(scale, shift));
  const keys = { "+": "zoom-in", "=": "zoom-in", "-": "zoom-out", ArrowLeft: "zoom-left", ArrowRight: "zoom-right", Home: "zoom-all" };
  byId("spectrum").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    byId(keys[event.key]).click();
  });
}
