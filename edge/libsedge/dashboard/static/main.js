// The connection, and who gets what of a message. The server sends the next picture when this page says it has shown one.
import { byId, put } from "/static/dom.js";
import * as alarms from "/static/alarms.js";
import * as decision from "/static/decision.js";
import * as distance from "/static/distance.js";
import * as history from "/static/history.js";
import * as latency from "/static/latency.js";
import * as spectrum from "/static/spectrum.js";
import { redrawAll } from "/static/plot.js";

const calmMotion = matchMedia("(prefers-reduced-motion: reduce)");
const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
const detail = (counts) => [sum(counts), ...Object.entries(counts).map(([name, n]) => `${name.replaceAll("_", " ")} ${n}`)].join(" · ");
let socket = null, paused = false, heard = 0, wait = 500;

function flow(head) {
  const { counts, queue } = head;
  put("rate", head.rate_hz >= 100 ? head.rate_hz.toFixed(0) : head.rate_hz.toFixed(1));
  put("queue", `${queue[0]} of ${queue[1]}`);
  Object.assign(byId("queue-meter"), { max: queue[1], high: 0.75 * queue[1], optimum: 0, value: queue[0] });
  for (const name of ["received", "journaled", "gaps", "unaccounted"]) put(name, counts[name]);
  put("shed", detail(counts.shed));
  put("rejected", detail(counts.rejected));
}

function link(sign, text, kind) {
  const chip = byId("link");
  chip.className = `chip ${kind}`;
  if (chip.textContent === `${sign} ${text}`) return;
  chip.textContent = `${sign} ${text}`;
}

function onMessage(event) {
  const length = new DataView(event.data).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(event.data, 4, length)));
  const numbers = new Float32Array(event.data.slice(4 + length));
  heard = performance.now();
  wait = 500;
  if (head.kind === "model") {
    for (const part of [decision, spectrum, distance, latency]) part.newModel(head, numbers);
  } else {
    alarms.show(head.alarms);
    const silent = head.alarms.some((a) => a.id === "silent" && a.active);
    link(silent ? "✗" : paused ? "Ⅱ" : "●", silent ? "no data" : paused ? "paused" : "live", silent ? "bad" : paused ? "warn" : "good");
    if (!paused) {
      flow(head);
      decision.show(head);
      spectrum.show(head, numbers.subarray(0, head.spectrum));
      distance.show(numbers.subarray(head.spectrum));
      latency.show(head);
      history.show();
    }
  }
  setTimeout(() => send({ shown: true }), calmMotion.matches || paused ? 1000 : 0);
}

function send(what) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(what));
}

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/feed`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = onMessage;
  socket.onclose = () => {
    link("✗", "no connection", "bad");
    setTimeout(connect, wait);
    wait = Math.min(8000, 2 * wait);
  };
}

const THEMES = ["system", "light", "dark"];
function theme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  put("theme", `Theme: ${name}`);
  try { localStorage.setItem("theme", name); } catch { /* private windows may refuse */ }
  redrawAll();
}

byId("theme").addEventListener("click", () => theme(THEMES[(THEMES.indexOf(byId("theme").textContent.slice(7)) + 1) % 3]));
byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  put("pause", paused ? "Resume" : "Pause");
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
setInterval(() => { if (socket?.readyState === WebSocket.OPEN && heard && performance.now() - heard > 5000) link("✗", "no data", "bad"); }, 1000);

for (const part of [spectrum, distance, latency, history]) part.start();
alarms.start(send);
let stored = null;
try { stored = localStorage.getItem("theme"); } catch { /* as above */ }
theme(THEMES.includes(stored) ? stored : "system");
connect();
