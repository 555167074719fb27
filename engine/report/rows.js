// What the page knows: experiments, each a row of its own, and the tables of tasks, whose rows are groups of seeds.

let report; // all of it; curves, pictures and code join the experiments once they are unpacked
let current; // the table of the task that is shown
const rowsByKey = new Map();

function readReport(text) {
  report = JSON.parse(text);
  report.entries.forEach((entry, index) => Object.assign(entry, { key: `entry${index}`, alone: true }));
  for (const [place, table] of report.tables.entries()) {
    table.entries = report.entries.filter((entry) => entry.table === place);
    table.rows = table.groups.map((group, index) => // one of a single experiment is that, with what it is best in among rows
      group.members.length === 1 ? { ...report.entries[group.members[0]], ...group } : { ...group, key: `group${place}-${index}`, alone: false });
    for (const row of [...table.entries, ...table.rows]) rowsByKey.set(row.key, row);
  }
  current = report.tables[0];
}

function readDetails(text) {
  const { entries, ...more } = JSON.parse(text);
  Object.assign(report, more);
  entries.forEach((entry, index) => Object.assign(report.entries[index], entry));
}

function membersOf(row) {
  return row.alone ? [] : entriesOf(row);
}

function entriesOf(row) {
  return row.members.map((index) => report.entries[index]);
}

/** All text of a row, and of what it stands for, to be searched. */
function searchable(row) {
  row.text ??= [...row.cells.map((cell, index) => `${current.columns[index].title}=${textOf(cell)}`), row.reason, row.remark,
    ...membersOf(row).map(searchable)].join("\n").toLowerCase();
  return row.text;
}

// Cells: a text, with the number to sort by before it where there is one

function textOf(cell) {
  return Array.isArray(cell) ? cell[1] : cell;
}

function valueOf(cell) {
  return Array.isArray(cell) ? cell[0] : cell || null;
}

function nameOfRow(row) {
  return textOf(row.cells[0]);
}

// Hyperparameters

/** A hyperparameter of an experiment, as JSON has it, text without its quotes. */
function paramOf(entry, name) {
  const known = (params) => (Object.hasOwn(params, name) ? params[name] : undefined);
  return unquoted(known(entry.params) ?? known(report.tables[entry.table].shared_params));
}

function unquoted(text) {
  return text?.startsWith('"') ? JSON.parse(text) : text;
}

/** The names of all hyperparameters in the table: those that vary, then those that all experiments share. */
function namesOfParams() {
  current.names ??= [...new Set([...current.entries.flatMap(({ params }) => Object.keys(params)), ...Object.keys(current.shared_params)])];
  return current.names;
}

/** The same for some experiments: those first in which any of them differs from its base. */
function paramsOf(entries) {
  const names = namesOfParams();
  const isChanged = (name) => entries.some((entry) => differsFromBase(entry, name));
  return [...names.filter(isChanged), ...names.filter((name) => !isChanged(name))];
}

/** The value in the `params.json` that the experiments of a folder have been made from; nothing if there is none. */
function baseOf(entry, name) {
  const base = current.bases[entry.base]?.params;
  return base && Object.hasOwn(base, name) ? unquoted(base[name]) : undefined;
}

function differsFromBase(entry, name) {
  return entry.base !== null && paramOf(entry, name) !== baseOf(entry, name);
}

// Colors

const COLORS = [ // told apart with any eyes (Petroff: "Accessible color sequences for data visualization", 2021)
  "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"];
const GOLDEN_ANGLE = 137.508; // each hue far from all before it
const SHADES = [0.32, 0.58, 0.45, 0.7]; // of neighboring hues, by turns; to be seen on white and on black

/** The color of the so-manieth row that is picked; beyond the ten, as many as there are, each its own. */
function colorOf(number) {
  if (number < COLORS.length) return COLORS[number];
  const hue = (number * GOLDEN_ANGLE) % 360, lightness = SHADES[number % SHADES.length], reach = 0.95 * Math.min(lightness, 1 - lightness);
  const part = (place) => {
    const turn = (place + hue / 30) % 12;
    return Math.round(255 * (lightness - reach * Math.max(-1, Math.min(turn - 3, 9 - turn, 1)))).toString(16).padStart(2, "0");
  };
  return `#${part(0)}${part(8)}${part(4)}`;
}
