// The table: its rows sorted by a heading, filtered by words, unfolded to their experiments, picked by a click.

const MOST_LINES = 200; // what a browser lays out at once without a pause
const MOST_PICKED = 100; // by one click
const WORDS = new Intl.Collator(undefined, { numeric: true }); // made once: for thousands of names that is ten times as fast
const view = { column: 0, descending: false, conditions: [], rows: "seeds", most: MOST_LINES, hidden: new Set() };
const picked = new Map(); // the key of a row -> the number of its color
const expanded = new Set();
const lines = new Map(); // the key of a row -> its <tr>, made once

// Cells

function cellOf(row, index, member) {
  const column = current.columns[index];
  const text = textOf(row.cells[index]);
  if (column.kind === "experiment") return element("td", {}, nameCell(row, text));
  if (column.kind === "state") return stateCell(row, text);
  const classes = [column.numeric ? "number" : "text", row.best.includes(index) && !member ? "best" : ""].join(" ").trim();
  return element("td", { class: classes, title: text.length > 24 ? text : null }, text);
}

function nameCell(row, name) {
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

// Lines

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
  line.style.setProperty("--color", color === undefined ? "none" : colorOf(color));
  line.querySelector("input").checked = color !== undefined;
  line.querySelector(".expand")?.setAttribute("aria-expanded", String(expanded.has(line.dataset.row)));
}

/** The rows in the order of a column; by a score, what is finished comes before what is not. */
function sorted(rows) {
  const isScore = current.columns[view.column]?.kind === "score";
  const sign = view.descending ? -1 : 1;
  const keyed = rows.map((row) => [isScore && !row.settled, valueOf(row.cells[view.column]), row]);
  return keyed.sort((one, other) => one[0] - other[0] || compare(one[1], other[1], sign)).map(([, , row]) => row);
}

/** Order two values; numbers before words, and what is missing last, whichever way it is sorted. */
function compare(one, other, sign) {
  if (one === null || other === null) return (one === null) - (other === null);
  if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
  return sign * (typeof one === "number" ? one - other : WORDS.compare(one, other) || (one > other) - (one < other)); // 0.01, 0.001
}

function matchingRows() {
  return sorted(rowsBy(view.rows).filter((row) => view.conditions.every((holds) => holds(row))));
}

function renderTable() {
  const matching = matchingRows();
  const visible = matching.slice(0, view.most);
  find("table").tBodies[0].replaceChildren(...visible.flatMap((row) =>
    [lineOf(row), ...(expanded.has(row.key) ? membersOf(row).slice(0, MOST_LINES).map((member) => lineOf(member, true)) : [])]));
  const hidden = matching.length - visible.length;
  const next = Math.min(hidden, MOST_LINES);
  const more = element("button", { type: "button", click: () => { view.most += MOST_LINES; renderTable(); } }, `show ${next} more`);
  find("count").replaceChildren(`${matching.length} of ${rowsBy(view.rows).length} rows`, hidden ? ` (${visible.length} are shown) ` : "", ...(hidden ? [more] : []));
}

// Headings and columns

function columnsShown() {
  return [...current.columns.keys()].filter((index) => !view.hidden.has(index));
}

function renderHead() {
  const headings = columnsShown().map((index) => {
    const column = current.columns[index];
    const sort = element("button", { type: "button", click: () => sortBy(index) }, column.title);
    const direction = index === view.column ? (view.descending ? "descending" : "ascending") : null;
    return element("th", { scope: "col", class: column.numeric ? "number" : null, title: column.about, "aria-sort": direction, "data-column": index }, sort);
  });
  const focused = document.activeElement?.closest?.("th")?.dataset.column;
  find("table").tHead.replaceChildren(element("tr", {}, headings));
  if (focused) find("table").tHead.querySelector(`[data-column="${focused}"] button`)?.focus();
}

/** Sort by a column, the best first; by the same once more, the other way round. */
function sortBy(index, descending = view.column === index && view.started ? !view.descending : current.columns[index].better === "max") {
  Object.assign(view, { column: index, descending, started: true });
  redrawTable();
}

/** The table anew: other columns, rows or cells. */
function redrawTable() {
  renderHead();
  renderTable();
  announce("viewed");
}

function chooseColumns() {
  const boxes = current.columns.map((column, index) => {
    const change = (event) => {
      if (event.target.checked) view.hidden.delete(index);
      else view.hidden.add(index);
      lines.clear();
      redrawTable();
    };
    return element("label", {}, element("input", { type: "checkbox", checked: !view.hidden.has(index), change }), column.title);
  });
  find("columns").replaceChildren(...boxes.slice(1)); // without its name no row can be told
}

function chooseRows() {
  const hasSeeds = current.rows.length < current.entries.length;
  const ways = [["seeds", hasSeeds ? "seeds as one" : "each experiment"], ...(hasSeeds ? [["apart", "each experiment"]] : []),
    ...groupingKeys().map((key) => [`by ${key}`, `by ${key}`])];
  find("rows").replaceChildren(...ways.map(([value, text]) => element("option", { value }, text)));
  find("rows").value = view.rows;
}

function setRows(way) {
  view.rows = way;
  find("table").classList.toggle("groups", rowsBy(way).some((row) => !row.alone));
  lines.clear(); // other cells are the best now
  redrawTable();
}

// Picking and unfolding

function unfold(key) {
  if (!expanded.delete(key)) expanded.add(key);
  mark(lines.get(key));
  renderTable();
}

function toggle(key) {
  if (!picked.delete(key)) picked.set(key, freeColor());
  pickingChanged();
}

function pickAll() {
  for (const { key } of matchingRows().slice(0, MOST_PICKED)) if (!picked.has(key)) picked.set(key, freeColor());
  pickingChanged();
}

function unpickAll() {
  picked.clear();
  pickingChanged();
}

function pickingChanged() {
  for (const line of lines.values()) mark(line);
  announce("picked");
}

function freeColor() {
  const taken = new Set(picked.values());
  let color = 0;
  while (taken.has(color)) color += 1;
  return color;
}

function pickedRows() {
  return [...picked].map(([key, number]) => ({ row: rowsByKey.get(key), color: colorOf(number) }));
}

function filterBy(text) {
  const { conditions, unknown } = conditionsOf(text);
  Object.assign(view, { conditions, most: MOST_LINES });
  find("unknown").textContent = unknown.length ? `No column or hyperparameter is called ${unknown.join(", ")}: searched as text.` : "";
  redrawTable();
}

/** The arrows go from row to row, as in any list. */
function moveByArrows(event) {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const next = step && event.target.closest("tr")?.[step]?.querySelector("input");
  if (!next) return;
  event.preventDefault();
  next.focus();
}

function startTable() {
  const body = find("table").tBodies[0];
  body.addEventListener("click", (event) => {
    if (event.target.closest("input, button") || String(getSelection())) return;
    toggle(event.target.closest("tr").dataset.row);
  });
  body.addEventListener("keydown", moveByArrows);
  find("filter").addEventListener("input", (event) => filterBy(event.target.value));
  find("rows").addEventListener("change", (event) => setRows(event.target.value));
  find("pick").addEventListener("click", pickAll);
  find("clear").addEventListener("click", unpickAll);
}
