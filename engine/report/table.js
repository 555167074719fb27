"use strict";
// The table: a row per group of seeds, sorted by a heading, filtered by words, picked by a click.

const COLORS = [ // told apart with any eyes (Petroff: "Accessible color sequences for data visualization", 2021)
  "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"];
const MOST_LINES = 1000; // what a browser lays out at once without a pause
const view = { column: 0, descending: false, conditions: [], grouped: true, all: false, hidden: new Set() };
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

let report, entryRows, groupRows, rowsByKey;

function readReport(text) {
  report = JSON.parse(text);
  entryRows = report.entries.map((entry, index) => ({ ...entry, key: `entry${index}`, alone: true }));
  groupRows = report.groups.map((group, index) => // one of a single experiment is that, with what it is best in among rows
    group.members.length === 1 ? { ...entryRows[group.members[0]], ...group } : { ...group, key: `group${index}`, alone: false });
  rowsByKey = new Map([...groupRows, ...entryRows].map((row) => [row.key, row]));
  for (const row of entryRows) row.text = searchable(row);
  for (const row of groupRows) row.text = [searchable(row), ...membersOf(row).map((member) => member.text)].join("\n");
}

function membersOf(row) {
  return row.alone ? [] : row.members.map((index) => entryRows[index]);
}

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
  return element("div", { class: "named" }, box, expand, element("span", { class: "name", title: name }, row.name));
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
    const line = element("tr", { "data-row": row.key, class: member ? "member" : null }, columnsShown().map((index) => cellOf(row, index, member)));
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
  const matching = rows.filter((row) => view.conditions.every((holds) => holds(row)));
  const visible = view.all ? matching : matching.slice(0, MOST_LINES);
  const shownLines = visible.flatMap((row) =>
    [lineOf(row), ...(expanded.has(row.key) ? membersOf(row).map((member) => lineOf(member, true)) : [])]);
  find("table").tBodies[0].replaceChildren(...shownLines);
  const hidden = matching.length - visible.length;
  const more = element("button", { type: "button", click: () => { view.all = true; renderTable(); } }, `show ${hidden} more`);
  find("count").replaceChildren(`${matching.length} of ${rows.length} rows`, hidden ? " " : "", ...(hidden ? [more] : []));
}

function columnsShown() {
  return [...report.columns.keys()].filter((index) => !view.hidden.has(index));
}

function renderHead() {
  const headings = columnsShown().map((index) => {
    const column = report.columns[index];
    const sort = element("button", { type: "button", click: () => sortBy(index) }, column.title);
    const direction = index === view.column ? (view.descending ? "descending" : "ascending") : null;
    return element("th", { scope: "col", class: column.numeric ? "number" : null, title: column.about, "aria-sort": direction, "data-column": index }, sort);
  });
  const focused = document.activeElement?.closest?.("th")?.dataset.column;
  find("table").tHead.replaceChildren(element("tr", {}, headings));
  if (focused) find("table").tHead.querySelector(`[data-column="${focused}"] button`)?.focus();
}

/** Sort by a column, the best first; by the same once more, the other way round. */
function sortBy(index, descending = view.column === index && view.started ? !view.descending : report.columns[index].better === "max") {
  Object.assign(view, { column: index, descending, started: true });
  redrawTable();
}

/** The table anew: other columns, rows or cells. */
function redrawTable() {
  renderHead();
  renderTable();
  document.dispatchEvent(new Event("viewed"));
}

function setColumns(hidden) {
  view.hidden = hidden;
  lines.clear();
  redrawTable();
}

function chooseColumns() {
  const boxes = report.columns.map((column, index) => {
    const change = (event) => {
      const hidden = new Set(view.hidden);
      if (event.target.checked) hidden.delete(index);
      else hidden.add(index);
      setColumns(hidden);
    };
    return element("label", {}, element("input", { type: "checkbox", checked: view.hidden.has(index) ? null : "", change }), column.title);
  });
  find("columns").replaceChildren(...boxes.slice(1)); // without its name no row can be told
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
  find("table").tBodies[0].addEventListener("click", (event) => {
    if (event.target.closest("input, button") || String(getSelection())) return;
    toggle(event.target.closest("tr").dataset.row);
  });
  find("filter").addEventListener("input", (event) => filterBy(event.target.value));
  const hasGroups = report.groups.length < report.entries.length;
  find("table").classList.toggle("groups", hasGroups);
  find("grouped").parentElement.hidden = !hasGroups;
  find("grouped").addEventListener("change", (event) => {
    view.grouped = event.target.checked;
    lines.clear(); // other cells are the best now
    redrawTable();
  });
  find("clear").addEventListener("click", clearPicks);
}

function filterBy(text) {
  view.conditions = conditionsOf(text);
  redrawTable();
}

// Filters

/** The conditions in a text, such as `adam not failed learning_rate>=0.01 val_accuracy>0.9`; all of them have to hold. */
function conditionsOf(text) {
  const conditions = [];
  let negated = false;
  for (const term of text.match(/"[^"]*"|\S+/g) ?? []) {
    if (term.toLowerCase() === "not") {
      negated = true;
      continue;
    }
    const holds = conditionOf(term);
    conditions.push(negated ? (row) => !holds(row) : holds);
    negated = false;
  }
  return conditions;
}

function conditionOf(term) {
  const [, key, operator, value] = term.match(/^([^=!<>"]+)(!=|<=|>=|=|<|>)(.+)$/) ?? [];
  const values = key && valuesCalled(key);
  if (!values) {
    const word = term.replaceAll('"', "").toLowerCase();
    return (row) => row.text.includes(word);
  }
  if (operator === "!=") return (row) => !values(row).some((one) => compares(one, "=", value));
  return (row) => values(row).some((one) => compares(one, operator, value));
}

/** What gives the values of a row in the column, or of the hyperparameter, of this name; nothing if there is none. */
function valuesCalled(key) {
  const plainly = (name) => name.toLowerCase().replaceAll(" ", "_");
  const titles = report.columns.map(({ title }) => plainly(title));
  const index = ["", "val_", "test_"].map((start) => titles.indexOf(start + plainly(key))).find((place) => place >= 0);
  if (index !== undefined) return (row) => [valueOf(row.cells[index])];
  const param = [...Object.keys(report.shared_params), ...report.entries.flatMap(({ params }) => Object.keys(params))].find((name) => plainly(name) === plainly(key));
  return param && ((row) => row.members.map((member) => paramOf(report.entries[member], param)));
}

/** Whole values are compared: 0.1 is not 0.15; numbers as numbers, words without regard to capitals. */
function compares(one, operator, other) {
  const isMissing = one === null || one === undefined;
  const pair = isMissing || Number.isNaN(Number(one)) || Number.isNaN(Number(other))
    ? [String(isMissing ? "" : one).toLowerCase(), other.replaceAll('"', "").toLowerCase()] : [Number(one), Number(other)];
  if (operator === "=") return pair[0] === pair[1];
  if (isMissing || typeof pair[0] !== "number") return false;
  return { "<": pair[0] < pair[1], ">": pair[0] > pair[1], "<=": pair[0] <= pair[1], ">=": pair[0] >= pair[1] }[operator];
}

/** A hyperparameter of an experiment, as JSON has it, text without its quotes. */
function paramOf(entry, name) {
  const text = entry.params[name] ?? report.shared_params[name];
  return text?.startsWith('"') ? JSON.parse(text) : text;
}

// The address: whoever opens it sees what was seen

function keepView() {
  const told = new URLSearchParams();
  if (find("filter").value) told.set("filter", find("filter").value);
  told.set("sort", `${view.descending ? "-" : ""}${report.columns[view.column]?.title}`);
  if (view.hidden.size) told.set("hide", [...view.hidden].map((index) => report.columns[index].title).join("|"));
  if (!view.grouped) told.set("seeds", "apart");
  for (const { row } of pickedRows()) told.append("picked", nameOfRow(row));
  history.replaceState(null, "", `#${told}`);
}

/** What the address asks for, as far as it is there. */
function recallView() {
  const told = new URLSearchParams(location.hash.slice(1));
  const places = new Map(report.columns.map(({ title }, index) => [title, index]));
  const sort = told.get("sort") ?? "";
  const index = places.get(sort) ?? places.get(sort.replace(/^-/, "")) ?? report.sort_by;
  const asked = (told.get("hide") ?? "").split("|").map((title) => places.get(title)).filter((place) => place !== undefined);
  view.hidden = new Set(asked);
  view.grouped = find("grouped").checked = told.get("seeds") !== "apart";
  find("filter").value = told.get("filter") ?? "";
  view.conditions = conditionsOf(find("filter").value);
  chooseColumns();
  const names = told.getAll("picked");
  const rows = view.grouped ? groupRows : entryRows;
  const keys = names.length || told.has("sort") ? rows.filter((row) => names.includes(nameOfRow(row))) : report.picked_first.map((place) => groupRows[place]);
  for (const row of keys) picked.set(row.key, freeColor());
  if (report.columns.length) sortBy(index, told.has("sort") ? sort.startsWith("-") : report.columns[index].better === "max");
}
