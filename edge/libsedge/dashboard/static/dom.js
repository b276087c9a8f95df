// Small helpers: elements by id, text that is only written when it changed, rows of a table.

export const byId = (id) => document.getElementById(id);

export function put(target, text) {
  const element = typeof target === "string" ? byId(target) : target;
  if (element.textContent !== String(text)) element.textContent = text;
}

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Rows of cells into a tbody; the first cell of each row is its header where `header` is true. */
export function rows(id, table, header = true) {
  const body = document.createDocumentFragment();
  for (const cells of table) {
    const row = make("tr");
    cells.forEach((cell, i) => {
      const element = i === 0 && header ? make("th") : make("td");
      if (element.tagName === "TH") element.scope = "row";
      if (cell instanceof Node) element.append(cell);
      else element.textContent = cell;
      row.append(element);
    });
    body.append(row);
  }
  byId(id).replaceChildren(body);
}

export const percent = (p) => (p === null || p === undefined ? "–" : `${(100 * p).toFixed(p > 0.995 && p < 1 ? 1 : 0)} %`);
export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const open = (id) => byId(id).closest("details").open;

/** Calls `work` with the newest argument, at most once in `ms` milliseconds, and never forgets the last one. */
export function calmly(work, ms) {
  let newest, due = 0, timer = 0;
  const go = () => { timer = 0; due = performance.now() + ms; work(newest); };
  return (argument) => {
    newest = argument;
    if (!timer) timer = setTimeout(go, Math.max(0, due - performance.now()));
  };
}
