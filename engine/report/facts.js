// What stands around the table: the summary, warnings, pictures, where each result comes from, looks at the test split.

const SECTIONS = [["experiments", "Table"], ["curves", "Curves"], ["sides", "Side by side"], ["hyperparameters", "Hyperparameters"], ["time", "Time"],
  ["pictures", "Pictures"], ["provenance", "Provenance"], ["looks", "Test split"]];
const MOST_TOLD = 50; // picked experiments of which pictures and origins are shown

function showHeader() {
  document.querySelector("h1").textContent = report.title;
  find("summary").textContent = report.summary;
  find("sections").append(...SECTIONS.map(([id, name]) => element("a", {
    href: `#${id}`,
    click: (event) => { // the address is kept for what is seen
      event.preventDefault();
      find(id).scrollIntoView();
    },
  }, name)));
}

function showBest() {
  find("best").textContent = current.best;
}

/** What to know before rows are compared: it folds to one line, and each warning opens to which experiments it is about. */
function showWarnings() {
  const warnings = current.warnings.map(({ title, text, items }) => element("details", { class: "warning" },
    element("summary", {}, element("strong", {}, title), ` ${text}`), element("ul", {}, items.map((item) => element("li", {}, item)))));
  const count = warnings.length === 1 ? "1 warning" : `${warnings.length} warnings`;
  find("warnings").replaceChildren(...(warnings.length ? [element("details", { open: true }, element("summary", {}, count), warnings)] : []));
}

function pickedEntries() {
  const indexes = new Set(pickedRows().flatMap(({ row }) => row.members));
  return [...indexes].slice(0, MOST_TOLD).map((index) => report.entries[index]);
}

// Pictures

function showPictures() {
  const told = pickedEntries();
  const shots = told.filter((entry) => entry.pictures.length);
  const others = current.entries.filter((entry) => entry.pictures.length && !told.includes(entry));
  const content = shots.map((entry) => element("div", { class: "shots" }, entry.pictures.map((picture) => element("figure", {},
    element("figcaption", {}, `${nameOfRow(entry)}: ${picture.name}`),
    element("img", {
      src: `data:image/png;base64,${picture.data}`, alt: `${picture.name} of ${nameOfRow(entry)}`,
      error: (event) => event.target.replaceWith(note("This file is damaged.")),
    })))));
  find("pictures-content").replaceChildren(...content, ...notesOnPictures(shots.length, others));
}

function notesOnPictures(count, others) {
  const notes = report.pictures_left_out ? [note(report.pictures_left_out)] : [];
  if (!count && !others.length) notes.unshift(note("None yet: evaluate.py leaves them in the folder of an experiment."));
  if (!others.length) return notes;
  const buttons = others.slice(0, 12).map((row) => element("button", { type: "button", click: () => toggle(row.key) }, nameOfRow(row)));
  const more = others.length > 12 ? ` (and ${others.length - 12} more: pick them in the table)` : "";
  return [...notes, element("div", { class: "picks note hint" }, count ? "Also of: " : "None of the picked rows has any. There are some of: ", buttons, more)];
}

// Where the results come from

function showProvenance() {
  const open = new Set([...document.querySelectorAll("#provenance-content details[open]")].map((node) => node.dataset.name));
  const colors = new Map(pickedRows().flatMap(({ row, color }) => row.members.map((index) => [index, color])));
  const blocks = pickedEntries().map((entry) => provenanceOf(entry, colors.get(entry.members[0]), open));
  const left = colors.size - blocks.length;
  find("provenance-content").replaceChildren(...blocks, ...(left > 0 ? [note(`${left} more experiments are picked.`)] : []),
    ...(picked.size ? [] : [note("Pick rows in the table to see their hyperparameters, commit, patch, versions, data, files and command here.")]));
}

function provenanceOf(entry, color, open) {
  const name = nameOfRow(entry);
  const sources = entry.sources.map(([title, number]) => element("details", {}, element("summary", {}, title), element("pre", {}, report.texts[number])));
  const facts = Object.entries(entry.facts);
  const content = facts.length ? [listOf(facts), ...sources] : [note("Nothing is on record: no readable run.json.")];
  return element("details", { "data-name": name, open: open.has(name) }, element("summary", {}, swatch(color), name), ...paramListsOf(entry), ...content);
}

/** All hyperparameters of an experiment: first those that differ from its base, or without one from other experiments. */
function paramListsOf(entry) {
  const names = paramsOf([entry]);
  const hasBase = entry.base !== null;
  const isOwn = (name) => (hasBase ? differsFromBase(entry, name) : Object.hasOwn(entry.params, name));
  const told = (name) => [name, isOwn(name) && hasBase ? `${paramOf(entry, name)} (${baseOf(entry, name) ?? "nothing"})` : `${paramOf(entry, name)}`];
  const title = hasBase ? `Other hyperparameters than ${current.bases[entry.base].name} has (in brackets)` : "Hyperparameters in which experiments differ";
  const [own, others] = [names.filter(isOwn), names.filter((name) => !isOwn(name))];
  return [element("h4", {}, title), own.length ? listOf(own.map(told)) : note("None."),
    element("details", {}, element("summary", {}, `The other ${others.length} hyperparameters`), listOf(others.map(told)))];
}

function listOf(pairs) {
  return element("dl", {}, pairs.flatMap(([title, text]) => [element("dt", {}, title), element("dd", {}, text)]));
}

// The test split

function showLooks() {
  const headings = ["when", "experiment", "split", "checkpoint", "scores"];
  const cells = report.looks.map((look) => element("tr", {}, look.map((cell) => element("td", {}, cell))));
  find("looks").append(note(report.looks_summary));
  if (!cells.length) return;
  const head = element("thead", {}, element("tr", {}, headings.map((name) => element("th", { scope: "col" }, name))));
  const table = element("table", {}, head, element("tbody", {}, cells));
  find("looks").append(element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Looks at the test split" }, table));
}
