// What stands around the table: the summary, warnings, pictures, where each result comes from, looks at the test split.

const SECTIONS = [["experiments", "Table"], ["curves", "Curves"], ["sides", "Side by side"], ["hyperparameters", "Hyperparameters"], ["time", "Time"],
  ["pictures", "Pictures"], ["provenance", "Provenance"], ["looks", "Test split"]];

const SHORT_LIST = 4;

function note(text) {
  return element("p", { class: "note" }, text);
}

function showHeader() {
  document.querySelector("h1").textContent = report.title;
  find("summary").textContent = report.summary;
  find("best").textContent = report.best;
  document.querySelector("nav").append(...SECTIONS.map(([id, name]) => element("a", {
    href: `#${id}`,
    click: (event) => { // the address is kept for what is seen
      event.preventDefault();
      find(id).scrollIntoView();
    },
  }, name)));
}

function showWarnings() {
  find("warnings").append(...report.warnings.map(({ title, text, items }) =>
    element("div", { class: "warning", role: "note" }, element("strong", {}, title), ` ${text}`,
      element("details", { open: items.length <= SHORT_LIST ? "" : null }, element("summary", {}, "Which"),
        element("ul", {}, items.map((item) => element("li", {}, item)))))));
}

function pickedEntries() {
  const indexes = new Set(pickedRows().flatMap(({ row }) => row.members));
  return [...indexes].map((index) => report.entries[index]);
}

// Pictures

function showPictures() {
  const shots = pickedEntries().filter((entry) => entry.pictures.length);
  const others = entryRows.filter((row) => row.pictures.length && !picked.has(row.key) && !pickedEntries().includes(report.entries[row.members[0]]));
  const content = shots.map((entry) => element("div", { class: "shots" }, entry.pictures.map((picture) => element("figure", {},
    element("figcaption", {}, `${textOf(entry.cells[0])}: ${picture.name}`),
    element("img", {
      src: `data:image/png;base64,${picture.data}`, alt: `${picture.name} of ${textOf(entry.cells[0])}`,
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

// Side by side

const MOST_SIDES = 6;

/** All hyperparameters of the picked rows beside one another, and their scores: what differs first, the rest folded. */
function showSides() {
  const rows = pickedRows().slice(0, MOST_SIDES);
  if (!rows.length) {
    find("sides-content").replaceChildren(note("Pick rows in the table to see their hyperparameters and scores side by side."));
    return;
  }
  const names = [...new Set(rows.flatMap(({ row }) => row.members.flatMap((member) => Object.keys(report.entries[member].params))))];
  const params = [...names, ...Object.keys(report.shared_params)].map((name) => [name, rows.map(({ row }) => valuesOf(row, name))]);
  const scores = report.columns.flatMap(({ title, kind }, index) => (kind === "score" ? [[title, rows.map(({ row }) => textOf(row.cells[index]))]] : []));
  const differs = ([, texts]) => texts.some((text) => text !== texts[0]);
  const more = pickedRows().length - rows.length;
  find("sides-content").replaceChildren(
    sideTable("Scores and hyperparameters that differ", rows, [...scores, ...params.filter(differs)]),
    element("details", {}, element("summary", {}, "What is the same in all of them"), sideTable("The same in all of them", rows.slice(0, 1), params.filter((one) => !differs(one)), "all")),
    ...(more > 0 ? [note(`${more} more rows are picked.`)] : []));
}

function valuesOf(row, name) {
  return [...new Set(row.members.map((member) => paramOf(report.entries[member], name) ?? ""))].join(", ");
}

function sideTable(label, rows, lines, heading) {
  const names = rows.map(({ row, color }) => element("th", { scope: "col" }, heading ?? [element("span", { class: "swatch", style: `--color: ${color}` }), nameOfRow(row)]));
  const body = lines.map(([name, texts]) => element("tr", {}, element("th", { scope: "row" }, name), texts.slice(0, rows.length).map((text) => element("td", {}, text))));
  const table = element("table", { class: "sides" }, element("thead", {}, element("tr", {}, element("td"), names)), element("tbody", {}, body));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
}

// Where the results come from

function showProvenance() {
  const open = new Set([...document.querySelectorAll("#provenance-content details[open]")].map((node) => node.dataset.name));
  const blocks = pickedRows().map(({ row, color }) => row.members.map((index) => provenanceOf(report.entries[index], color, open)));
  find("provenance-content").replaceChildren(...(picked.size ? blocks.flat() : [note("Pick rows in the table to see their commit, patch, versions, data and command here.")]));
}

function provenanceOf(entry, color, open) {
  const name = String(textOf(entry.cells[0]));
  const swatch = element("span", { class: "swatch", style: `--color: ${color}` });
  const facts = Object.entries(entry.facts).flatMap(([title, text]) => [element("dt", {}, title), element("dd", {}, text)]);
  const sources = entry.sources.map(([title, number]) => {
    const text = element("pre", {}, report.texts[number]);
    return element("details", {}, element("summary", {}, title), text);
  });
  const content = facts.length ? [element("dl", {}, facts), ...sources] : [note("Nothing is on record: no readable run.json.")];
  return element("details", { "data-name": name, open: open.has(name) ? "" : null }, element("summary", {}, swatch, name), content);
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

function start(text) {
  readReport(text);
  showHeader();
  showWarnings();
  startTable();
  showLooks();
  document.addEventListener("picked", () => {
    showPictures();
    showProvenance();
    showSides();
    keepView();
  });
  document.addEventListener("viewed", keepView);
  recallView();
  document.dispatchEvent(new Event("picked"));
  startFigures();
  document.documentElement.dataset.ready = "yes";
}

unpack(find("report-data").textContent).then(start, () => { find("summary").textContent = UNPACKING; });
