// Experiments grouped anew: those with the same value of any hyperparameter are one row.

const DECIMALS = 4;
const made = new Map(); // how the rows are made -> the rows

/** The rows of the table: configurations over their seeds, each experiment, or one for each value of a hyperparameter. */
function rowsBy(way) {
  if (way === "seeds") return current.rows;
  if (way === "apart") return current.entries;
  const name = `${report.tables.indexOf(current)} ${way}`;
  if (!made.has(name)) made.set(name, groupedBy(way.replace(/^by /, "")));
  return made.get(name);
}

/** The keys that rows can be made of: what differs between the experiments of the table, and their state. */
function groupingKeys() {
  return [...namesOfParams().filter((name) => !Object.hasOwn(current.shared_params, name)), "state"];
}

function groupedBy(key) {
  const members = new Map();
  for (const entry of current.entries) {
    const value = key === "state" ? Object.keys(entry.states)[0] : paramOf(entry, key) ?? "null";
    if (!members.has(value)) members.set(value, []);
    members.get(value).push(entry);
  }
  const rows = [...members].map(([value, entries]) => groupOf(key, value, entries));
  markBest(rows);
  for (const row of rows) rowsByKey.set(row.key, row);
  return rows;
}

/** One row for some experiments: scores over the finished ones, or over all where none is. */
function groupOf(key, value, entries) {
  const name = `${key}=${value}`;
  const settled = entries.some((entry) => entry.settled);
  const counted = settled ? entries.filter((entry) => entry.settled) : entries;
  const states = {};
  for (const entry of entries) for (const state of Object.keys(entry.states)) states[state] = (states[state] ?? 0) + 1;
  const cells = current.columns.map((column, index) => {
    if (column.kind === "experiment") return name;
    if (column.kind === "state") return Object.entries(states).map(([state, count]) => `${count} ${state}`).join(", ");
    if (column.kind === "score") return meanOf(counted.map((entry) => valueOf(entry.cells[index])), settled);
    return summarized(column.kind === "runs" ? [[entries.length, `${entries.length}`]] : counted.map((entry) => entry.cells[index]), column);
  });
  const members = entries.flatMap((entry) => entry.members);
  return { key: `by ${report.tables.indexOf(current)} ${name}`, alone: false, name: cut(name, 40), cells, best: [], members, states, settled };
}

function meanOf(values, settled) {
  const { n, mean, std } = spread(values);
  if (!n) return "";
  const decimals = Math.min(6, Math.max(0, DECIMALS - Math.ceil(Math.log10(Math.abs(mean) || 1))));
  const text = `${mean.toFixed(decimals)}${n > 1 ? ` ± ${std.toFixed(decimals)}` : ""}`;
  return [mean, settled ? text : `(${text})`];
}

/** What cells have in common: the one text, or from the lowest to the highest, or how many there are. */
function summarized(cells, column) {
  const texts = new Set(cells.map(textOf));
  if (texts.size === 1) return cells[0];
  const known = cells.filter((cell) => Array.isArray(cell)).sort((one, other) => one[0] - other[0]);
  if (column.kind !== "param" && column.numeric && known.length) {
    return [spread(known.map(valueOf)).mean, `${known[0][1]} to ${known.at(-1)[1]}`];
  }
  return `${texts.size} values`;
}

function markBest(rows) {
  for (const [index, column] of current.columns.entries()) {
    const known = rows.filter((row) => column.kind === "score" && row.settled && valueOf(row.cells[index]) !== null);
    const values = known.map((row) => valueOf(row.cells[index]));
    const best = column.better === "max" ? Math.max(...values) : Math.min(...values);
    const winners = known.filter((row) => valueOf(row.cells[index]) === best);
    if (winners.length < known.length) for (const row of winners) row.best.push(index);
  }
}

/** How many of some values are known, their mean and standard deviation. */
function spread(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (!known.length) return { n: 0, mean: null, std: null };
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  const squares = known.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { n: known.length, mean, std: known.length > 1 ? Math.sqrt(squares / (known.length - 1)) : 0 };
}
