"use strict";
// The table: a row per group of seeds, sorted by a heading, filtered by words, picked by a click.

const report = JSON.parse(document.getElementById("report-data").textContent);
const COLORS = [ // told apart with any eyes (Petroff: "Accessible color sequences for data visualization", 2021)
  "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"];
const MOST_LINES = 1000; // what a browser lays out at once without a pause
const view = { column: 0, descending: false, words: [], grouped: true, all: false };
const picked = new Map(); // the key of a row -> the number of its color
const expanded = new Set();
const lines = new Map(); // the key of a row -> its <tr>, made once

function find(id) {
  return document.getElementById(id);
}

/** A new element. Text given as a child stays text, whatever it holds: nothing in this page is ever parsed as HTML. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// Rows

const entryRows = report.entries.map((entry, index) => ({ ...entry, key: `entry${index}`, members: [index], alone: true }));
const groupRows = report.groups.map((group, index) =>
  group.members.length === 1 ? entryRows[group.members[0]] : { ...group, key: `group${index}`, alone: false });
const rowsByKey = new Map([...groupRows, ...entryRows].map((row) => [row.key, row]));

function membersOf(row) {
  return row.alone ? [] : row.members.map((index) => entryRows[index]);
}

for (const row of entryRows) row.text = searchable(row);
for (const row of groupRows) if (!row.alone) row.text = [searchable(row), ...membersOf(row).map((member) => member.text)].join("\n");

function searchable(row) {
  const cells = row.cells.map((cell, index) => {
    const column = report.columns[index];
    return column.kind === "param" ? `${column.title}=${shown(cell, column.kind)}` : shown(cell, column.kind);
  });
  return [...cells, row.reason, row.remark].join("\n").toLowerCase();
}

// Cells

function shown(cell, kind) {
  if (cell === null || cell === undefined) return "";
  if (kind === "state") return Object.entries(cell).map(([state, count]) => (count > 1 ? `${state} ${count}` : state)).join(" ");
  if (kind === "score") return (cell.count > 1 ? withSpread(cell) : score(cell.mean)) + (cell.count < cell.of ? ` (${cell.count} of ${cell.of})` : "");
  if (kind === "seconds") return duration(cell);
  if (kind === "count") return shortened(cell);
  return typeof cell === "number" && !Number.isInteger(cell) ? String(Number(cell.toPrecision(6))) : String(cell);
}

function score(value) {
  if (value === 0) return "0";
  if (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e6) return value.toExponential(2);
  return Math.abs(value) < 1e4 ? value.toPrecision(4) : value.toFixed(0);
}

/** Mean and standard deviation, to as many places as the deviation makes sense of. */
function withSpread({ mean, deviation }) {
  const places = 1 - Math.floor(Math.log10(deviation)); // infinite for 0
  const digits = (value) => (places > 8 || places < 0 ? score(value) : value.toFixed(places));
  return `${digits(mean)} ±\u00a0${digits(deviation)}`;
}

function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${Math.floor(seconds / 60)} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

function shortened(count) {
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (count >= size) return `${(count / (letter === "k" ? 1e3 : size)).toPrecision(3)}${letter}`;
  }
  return String(count < 10 ? Number(count.toPrecision(2)) : Math.round(count));
}

function sortValue(cell, kind) {
  if (cell === null || cell === undefined) return null;
  if (kind === "score") return cell.mean;
  if (kind === "state") return Object.keys(cell)[0];
  return typeof cell === "number" ? cell : String(cell);
}

function isNumber(column) {
  return ["score", "seconds", "count", "number"].includes(column.kind) || column.numeric;
}

function cellOf(row, index, member) {
  const column = report.columns[index];
  const cell = row.cells[index];
  const text = shown(cell, column.kind);
  if (column.kind === "name") return element("td", {}, nameOf(row, text));
  if (column.kind === "state") return stateCell(row, cell);
  const best = cell && !member && column.kind === "score" && cell.mean === (view.grouped ? column.best : column.best_alone);
  const classes = [isNumber(column) ? "number" : "text", best ? "best" : ""].join(" ").trim();
  return element("td", { class: classes, title: explained(cell, column, text) }, text);
}

function explained(cell, column, text) {
  if (column.kind === "score" && cell) {
    if (cell.count === 1) return `${cell.mean}, one seed`;
    return `mean of ${cell.count}: ${cell.mean}; standard deviation ${cell.deviation}; 95 % interval ${score(cell.low)} to ${score(cell.high)}`;
  }
  return text.length > 24 || text !== String(cell ?? "") ? String(cell) : null;
}

function nameOf(row, name) {
  const box = element("input", { type: "checkbox", "aria-label": `Draw the curves of ${name}`, change: () => toggle(row.key) });
  const expand = row.alone ? null : element("button", {
    type: "button", class: "expand", "aria-expanded": "false", "aria-label": `Show the ${row.members.length} experiments of ${name}`,
    click: () => unfold(row.key),
  });
  return element("div", { class: "named" }, box, expand, element("span", { class: "name", title: name }, name));
}

function stateCell(row, states) {
  const pills = Object.entries(states).map(([state, count]) =>
    element("span", { class: `state ${report.states.includes(state) ? state : ""}` }, count < row.members.length ? `${state} ${count}` : state));
  const why = row.reason ? element("div", { class: "reason", title: row.reason }, row.reason) : null;
  const remark = row.remark ? element("div", { class: "reason remark", title: row.remark }, row.remark) : null;
  return element("td", {}, pills, why, remark);
}

// The table

function lineOf(row, member) {
  const key = member ? `${row.key}-member` : row.key;
  if (!lines.has(key)) {
    const line = element("tr", { "data-row": row.key, class: member ? "member" : null }, row.cells.map((_, index) => cellOf(row, index, member)));
    lines.set(key, line);
    mark(line);
  }
  return lines.get(key);
}

function mark(line) {
  const color = picked.get(line.dataset.row);
  line.classList.toggle("picked", color !== undefined);
  line.style.setProperty("--color", color === undefined ? "none" : COLORS[color % COLORS.length]);
  line.querySelector("input").checked = color !== undefined;
  line.querySelector(".expand")?.setAttribute("aria-expanded", String(expanded.has(line.dataset.row)));
}

function sorted(rows) {
  const kind = report.columns[view.column].kind;
  const sign = view.descending ? -1 : 1;
  const keyed = rows.map((row) => [sortValue(row.cells[view.column], kind), row]);
  return keyed.sort(([one], [other]) => compare(one, other, sign)).map(([, row]) => row);
}

/** Order two values; numbers before words, and what is missing last, whichever way it is sorted. */
function compare(one, other, sign) {
  if (one === null || other === null) return (one === null) - (other === null);
  if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
  return sign * (typeof one === "number" ? one - other : one.localeCompare(other, undefined, { numeric: true }));
}

function renderTable() {
  const rows = sorted(view.grouped ? groupRows : entryRows);
  const matching = rows.filter((row) => view.words.every((word) => row.text.includes(word)));
  const visible = view.all ? matching : matching.slice(0, MOST_LINES);
  const shownLines = visible.flatMap((row) =>
    [lineOf(row), ...(expanded.has(row.key) ? membersOf(row).map((member) => lineOf(member, true)) : [])]);
  find("table").tBodies[0].replaceChildren(...shownLines);
  const hidden = matching.length - visible.length;
  const more = element("button", { type: "button", click: () => { view.all = true; renderTable(); } }, `show ${hidden} more`);
  find("count").replaceChildren(`${matching.length} of ${rows.length} rows`, hidden ? " " : "", ...(hidden ? [more] : []));
}

function renderHead() {
  const headings = report.columns.map((column, index) => {
    const sort = element("button", { type: "button", click: () => sortBy(index) }, column.title);
    return element("th", { scope: "col", class: isNumber(column) ? "number" : null, title: column.about }, sort);
  });
  find("table").tHead.replaceChildren(element("tr", {}, headings));
}

/** Sort by a column, the best first; by the same once more, the other way round. */
function sortBy(index, descending = report.columns[index].better === "max") {
  view.descending = view.column === index && view.started ? !view.descending : descending;
  view.column = index;
  view.started = true;
  for (const [place, heading] of [...find("table").tHead.rows[0].cells].entries()) {
    if (place === index) heading.setAttribute("aria-sort", view.descending ? "descending" : "ascending");
    else heading.removeAttribute("aria-sort");
  }
  renderTable();
}

function unfold(key) {
  if (!expanded.delete(key)) expanded.add(key);
  mark(lines.get(key));
  renderTable();
}

function toggle(key) {
  if (!picked.delete(key)) picked.set(key, freeColor());
  for (const line of [lines.get(key), lines.get(`${key}-member`)]) if (line) mark(line);
  document.dispatchEvent(new Event("picked"));
}

function freeColor() {
  const taken = new Set(picked.values());
  let color = 0;
  while (taken.has(color)) color += 1;
  return color;
}

function clearPicks() {
  picked.clear();
  for (const line of lines.values()) mark(line);
  document.dispatchEvent(new Event("picked"));
}

function startTable() {
  renderHead();
  sortBy(report.sort_by);
  find("table").tBodies[0].addEventListener("click", (event) => {
    if (event.target.closest("input, button") || String(getSelection())) return;
    toggle(event.target.closest("tr").dataset.row);
  });
  find("filter").addEventListener("input", (event) => {
    view.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    renderTable();
  });
  const hasGroups = report.groups.length < report.entries.length;
  find("table").classList.toggle("groups", hasGroups);
  find("grouped").parentElement.hidden = !hasGroups;
  find("grouped").addEventListener("change", (event) => {
    view.grouped = event.target.checked;
    lines.clear(); // other cells are the best now
    renderTable();
  });
  find("clear").addEventListener("click", clearPicks);
}
