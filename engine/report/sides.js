// Picked rows beside one another: scores, hyperparameters, code.

const MOST_SIDES = 6;

function showSides() {
  const rows = pickedRows().slice(0, MOST_SIDES);
  if (!rows.length) {
    find("sides-content").replaceChildren(note("Pick rows in the table to see their hyperparameters and scores side by side; of the first two, the code as well."));
    return;
  }
  const more = picked.size - rows.length;
  find("sides-content").replaceChildren(...tablesOf(rows), ...(rows.length > 1 ? codeOf(rows[0].row, rows[1].row) : []),
    ...(more > 0 ? [note(`${more} more rows are picked.`)] : []));
}

/** What differs: scores, then hyperparameters, those that are not as in the base of the search first; the rest is folded. */
function tablesOf(rows) {
  const base = commonBase(rows);
  const names = paramsOf(rows.flatMap(({ row }) => entriesOf(row)));
  const params = names.map((name) => [name, rows.map(({ row }) => valuesOf(row, name)), base && baseOf(base, name)]);
  const scores = current.columns.flatMap(({ title, kind }, index) => (kind === "score" ? [[title, rows.map(({ row }) => textOf(row.cells[index])), ""]] : []));
  const differs = ([, texts, given]) => texts.some((text) => text !== texts[0] || (base && text !== given));
  const heads = rows.map(({ row, color }) => [swatch(color), nameOfRow(row)]);
  const bases = base ? [[current.bases[base.base].name]] : [];
  const lineOf = ([name, texts, given]) => [name, ...texts, ...(base ? [given ?? ""] : [])];
  const shared = params.filter((one) => !differs(one)).map(([name, texts]) => [name, texts[0]]);
  return [
    sideTable("Scores and hyperparameters that differ", [...heads, ...bases], [...scores, ...params.filter(differs)].map(lineOf)),
    element("details", {}, element("summary", {}, `What is the same in all of them: ${shared.length} hyperparameters`), sideTable("The same in all of them", [["all"]], shared)),
  ];
}

/** Any experiment of the rows if all have been made from the same base. */
function commonBase(rows) {
  const entries = rows.flatMap(({ row }) => entriesOf(row));
  return entries[0].base !== null && entries.every((entry) => entry.base === entries[0].base) ? entries[0] : null;
}

function valuesOf(row, name) {
  const values = [...new Set(entriesOf(row).map((entry) => paramOf(entry, name) ?? ""))];
  return values.length > 6 ? `${values.slice(0, 5).join(", ")} and ${values.length - 5} more` : values.join(", ");
}

function sideTable(label, heads, lines) {
  const names = heads.map((head) => element("th", { scope: "col" }, head));
  const body = lines.map(([name, ...texts]) => element("tr", {}, element("th", { scope: "row" }, name), texts.map((text) => element("td", {}, text))));
  const table = element("table", { class: "sides" }, element("thead", {}, element("tr", {}, element("td"), names)), element("tbody", {}, body));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
}

// Code

/** The diff between the code of two rows, as `git diff` has it. */
function codeOf(one, other) {
  const [before, after] = [one, other].map((row) => entriesOf(row).find((entry) => entry.revision !== null));
  const [from, to] = [before, after].map((entry) => entry && nameOfRow(entry));
  const heading = element("h3", {}, "Code");
  if (!before || !after) return [heading, note("The code of one of the first two rows is not on record.")];
  if (before.revision === after.revision) return [heading, note(`${from} and ${to} ran with the same code.`)];
  const [first, last] = [before, after].sort((one, other) => one.revision - other.revision);
  const text = current.differences[`${first.revision}-${last.revision}`];
  if (text === undefined) return [heading, note("So many versions of the code are here that these two are not compared: synthesize_results.py --diff does.")];
  if (!text) return [heading, note(`${from} and ${to} ran with commits of their own, in which no Python file differs.`)];
  const said = note(`From ${nameOfRow(first)} (-) to ${nameOfRow(last)} (+):`);
  return [heading, said, element("pre", { class: "diff", tabindex: "0", "aria-label": "Difference in the code" }, text.split("\n").map(lineOfDiff))];
}

function lineOfDiff(line) {
  const kind = /^(diff |index |---|\+\+\+|@@|commit )/.test(line) ? "place" : line.startsWith("+") ? "added" : line.startsWith("-") ? "gone" : null;
  return element("span", { class: kind }, `${line}\n`);
}
