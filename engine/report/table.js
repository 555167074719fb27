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

const entryRows = report.entries.map((entry, index) => ({ ...entry, key: `entry${index}`, alone: true }));
const groupRows = report.groups.map((group, index) => // one of a single experiment is that, with what it is best in among rows
  group.members.length === 1 ? { ...entryRows[group.members[0]], ...group } : { ...group, key: `group${index}`, alone: false });
const rowsByKey = new Map([...groupRows, ...entryRows].map((row) => [row.key, row]));

function membersOf(row) {
  return row.alone ? [] : row.members.map((index) => entryRows[index]);
}

for (const row of entryRows) row.text = searchable(row);
for (const row of groupRows) row.text = [searchable(row), ...membersOf(row).map((member) => member.text)].join("\n");

function searchable(row) {
  const cells = row.cells.map((cell, index) => `${report.columns[index].title}=${textOf(cell)}`);
  return [...cells, row.reason, row.remark].join("\n").toLowerCase();
}

// Cells: a text, with the number to sort by before it where there is one

function textOf(cell) {
  return Array.isArray(cell) ? cell[1] : cell;
}

function valueOf(cell) {
  return Array.isArray(cell) ? cell[0] : cell || null;
}

function cellOf(row, index, member) {
  const column = report.columns[index];
  const text = textOf(row.cells[index]);
  if (column.kind === "experiment") return element("td", {}, nameOf(row, text));
  if (column.kind === "state") return stateCell(row, text);
  const classes = [column.numeric ? "number" : "text", row.best.includes(index) && !member ? "best" : ""].join(" ").trim();
  return element("td", { class: classes, title: text.length > 24 ? text : null }, text);
}

function nameOf(row, name) {
  const box = element("input", { type: "checkbox", "aria-label": `Draw the curves of ${name}`, change: () => toggle(row.key) });
  const expand = row.alone ? null : element("button", {
    type: "button", class: "expand", "aria-expanded": "false", "aria-label": `Show the ${row.members.length} experiments of ${name}`,
    click: () => unfold(row.key),
  });
  return element("div", { class: "named" }, box, expand, element("span", { class: "name", title: name }, name));
}

function stateCell(row, text) {
  const several = Object.keys(row.states).length > 1 || row.members.length > 1;
  const pills = Object.entries(row.states).map(([state, count]) =>
    element("span", { class: `state ${report.states.includes(state) ? state : ""}` }, several && count < row.members.length ? `${state} ${count}` : several ? state : text));
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

/** The rows in the order of a column; by a score, what is finished comes before what is not. */
function sorted(rows) {
  const isScore = report.columns[view.column].kind === "score";
  const sign = view.descending ? -1 : 1;
  const keyed = rows.map((row) => [isScore && !row.settled, valueOf(row.cells[view.column]), row]);
  return keyed.sort((one, other) => one[0] - other[0] || compare(one[1], other[1], sign)).map(([, , row]) => row);
}

/** Order two values; numbers before words, and what is missing last, whichever way it is sorted. */
function compare(one, other, sign) {
  if (one === null || other === null) return (one === null) - (other === null);
  if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
  return sign * (typeof one === "number" ? one - other : one.localeCompare(other, undefined, { numeric: true }) || (one > other) - (one < other)); // 0.01, 0.001
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
    return element("th", { scope: "col", class: column.numeric ? "number" : null, title: column.about }, sort);
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
