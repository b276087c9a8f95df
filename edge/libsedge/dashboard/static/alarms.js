// The alarms and their acknowledgement.
import { byId, make, put } from "/static/dom.js";

let send = () => {}, before = "", known = new Set();
const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);

function item(alarm) {
  const li = make("li", alarm.active ? (alarm.acknowledged ? "known" : "") : "over");
  li.dataset.alarm = alarm.id;
  const sign = alarm.active ? (alarm.acknowledged ? "△" : "▲") : "▽";
  li.append(make("strong", "", `${sign} ${alarm.text}${alarm.count ? `: ${alarm.count}` : ""}`));
  const state = alarm.active ? "active" : "over";
  li.append(make("p", "", `${state} since ${clock(alarm.active ? alarm.since : alarm.last)} UTC${alarm.acknowledged ? ", acknowledged" : ""}. ${alarm.advice}`));
  if (!alarm.acknowledged) {
    const button = make("button", "", "Acknowledge");
    button.type = "button";
    button.setAttribute("aria-label", `Acknowledge: ${alarm.text}`);
    button.addEventListener("click", () => send({ acknowledge: alarm.id }));
    li.append(button);
  }
  return li;
}

export function show(alarms) {
  const now = JSON.stringify(alarms.map((a) => [a.id, a.count, a.active, a.acknowledged]));
  if (now === before) return;
  before = now;
  const list = byId("alarms"), focused = document.activeElement?.closest?.("#alarms li")?.dataset.alarm;
  list.replaceChildren(...alarms.map(item));
  if (focused) (list.querySelector(`li[data-alarm="${focused}"] button`) ?? list.querySelector("button") ?? byId("history-form").querySelector("select"))?.focus({ preventScroll: true });
  const waiting = alarms.filter((a) => !a.acknowledged);
  byId("no-alarms").hidden = alarms.length > 0;
  list.closest(".card").classList.toggle("some", waiting.length > 0);
  put("alarm-count", waiting.length || "");
  const fresh = waiting.filter((a) => a.active && !known.has(a.id));
  if (fresh.length) put("alert", `Alarm: ${fresh.map((a) => a.text).join("; ")}`);
  known = new Set(alarms.filter((a) => a.active).map((a) => a.id));
  document.title = waiting.length ? `(${waiting.length}) libsedge: alarm` : "libsedge: live";
}

export function start(sender) { send = sender; }
