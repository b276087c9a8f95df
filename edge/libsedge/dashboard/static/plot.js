// What the three charts share: uPlot with the page's colours, its size, and marks of several shapes.
import { css } from "/static/dom.js";

const plots = [];
const ink = (name) => () => css(name);

export const axis = (more = {}) => ({
  stroke: ink("--muted"), font: "12px system-ui, sans-serif", size: 26, gap: 3, grid: { stroke: ink("--line"), width: 1 }, ticks: { stroke: ink("--line"), size: 4 }, ...more,
});

/** A uPlot in `host` that follows its size; `data` begins empty. */
export function plot(host, options, data) {
  const size = () => ({ width: Math.max(120, host.clientWidth), height: Math.max(80, host.clientHeight) });
  const u = new uPlot({ ...size(), legend: { show: false }, padding: [8, 10, 0, 0], ...options }, data, host);
  new ResizeObserver(() => { const s = size(); if (s.width !== u.width || s.height !== u.height) u.setSize(s); }).observe(host);
  plots.push(u);
  return u;
}

export const redrawAll = () => plots.forEach((u) => u.redraw(false, true));

/** Okabe and Ito's colours, told apart with every kind of colour vision; never the only sign. */
const LIGHT = ["#0072b2", "#b8500a", "#00785a", "#a0457d", "#6b5b00", "#3f3f9f", "#8b1a1a", "#2b6e8f"];
const DARK = ["#6cb8f0", "#f0a05a", "#4fd0ab", "#e39ac8", "#e6d34a", "#b3b0ff", "#ff9a90", "#9bd7ee"];
const dark = () => matchMedia("(prefers-color-scheme: dark)").matches
  ? document.documentElement.dataset.theme !== "light" : document.documentElement.dataset.theme === "dark";
export const colour = (i) => (dark() ? DARK : LIGHT)[((i % 8) + 8) % 8];

const polygon = (n, turn) => (ctx, x, y, r) => {
  for (let k = 0; k < n; k++) {
    const a = turn + (2 * Math.PI * k) / n;
    ctx[k ? "lineTo" : "moveTo"](x + r * Math.cos(a), y + r * Math.sin(a));
  }
  ctx.closePath();
};
const SHAPES = [
  (ctx, x, y, r) => ctx.arc(x, y, 0.85 * r, 0, 2 * Math.PI), polygon(4, Math.PI / 4), polygon(3, -Math.PI / 2), polygon(4, 0),
  polygon(3, Math.PI / 2), polygon(5, -Math.PI / 2), polygon(6, 0),
];

/** The mark of class `i`: its shape and colour; filled for an accepted decision, hollow for another, a cross for none. */
export function mark(ctx, i, x, y, r, filled) {
  ctx.beginPath();
  ctx.lineWidth = Math.max(1, r / 3);
  if (i < 0) {
    ctx.strokeStyle = css("--muted");
    ctx.moveTo(x - r, y - r); ctx.lineTo(x + r, y + r); ctx.moveTo(x + r, y - r); ctx.lineTo(x - r, y + r);
    ctx.stroke();
    return;
  }
  ctx.strokeStyle = ctx.fillStyle = colour(i);
  SHAPES[i % SHAPES.length](ctx, x, y, r);
  if (filled) { ctx.globalAlpha = 0.75; ctx.fill(); ctx.globalAlpha = 1; } else ctx.stroke();
}
