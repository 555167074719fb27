// The address of the page: whoever opens it sees what was seen.

function keepView() {
  const told = new URLSearchParams();
  if (report.tables.length > 1) told.set("task", current.task);
  if (find("filter").value) told.set("filter", find("filter").value);
  told.set("sort", `${view.descending ? "-" : ""}${current.columns[view.column]?.title}`);
  if (view.hidden.size) told.set("hide", [...view.hidden].map((index) => current.columns[index].title).join("|"));
  if (view.rows !== "seeds") told.set("rows", view.rows);
  for (const { row } of pickedRows()) told.append("picked", nameOfRow(row));
  for (const id of CHOICES) if (find(id).value !== usual[id]) told.set(id, find(id).value);
  for (const id of CHECKS) if (find(id).checked !== usual[id]) told.set(id, find(id).checked ? "yes" : "no");
  history.replaceState(null, "", `#${told}`);
}

const usual = {}; // what the controls of the curves say when nobody has touched them

function noteUsual() {
  for (const id of CHOICES) usual[id] = find(id).value;
  for (const id of CHECKS) usual[id] = find(id).checked;
}

/** The table of the task that the address asks for, sorted, filtered and picked as it says, as far as that is there. */
function recallView(told) {
  const places = new Map(current.columns.map(({ title }, index) => [title, index]));
  const sort = told.get("sort") ?? "";
  const index = places.get(sort) ?? places.get(sort.replace(/^-/, "")) ?? current.sort_by;
  view.hidden = new Set((told.get("hide") ?? "").split("|").map((title) => places.get(title)).filter((place) => place !== undefined));
  const way = told.get("rows") ?? "seeds";
  view.rows = way === "apart" || groupingKeys().some((key) => way === `by ${key}`) ? way : "seeds";
  find("filter").value = told.get("filter") ?? "";
  Object.assign(view, { column: index, descending: told.has("sort") ? sort.startsWith("-") : current.columns[index]?.better === "max", started: true });
  recallPicks(told);
  chooseColumns();
  chooseRows();
  setRows(view.rows);
  filterBy(find("filter").value);
}

function recallPicks(told) {
  const names = new Map(told.getAll("picked").map((name, place) => [name, place]));
  const rows = names.size || told.has("sort") ? [...rowsBy(view.rows), ...current.entries].filter((row) => names.has(nameOfRow(row))) : current.picked_first.map((place) => current.rows[place]);
  rows.sort((one, other) => names.get(nameOfRow(one)) - names.get(nameOfRow(other)));
  picked.clear();
  const seen = new Set(); // a row of one experiment is that experiment, too
  for (const row of rows) {
    if (!seen.has(nameOfRow(row))) picked.set(row.key, freeColor());
    seen.add(nameOfRow(row));
  }
}

function recallCurves(told) {
  for (const id of CHOICES) if (told.has(id) && id !== "metric") find(id).value = told.get(id);
  for (const id of CHECKS) if (told.has(id)) find(id).checked = told.get(id) === "yes";
}
