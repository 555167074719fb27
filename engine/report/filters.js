// Filters: words, and comparisons with any column or hyperparameter.

const TERM = /"[^"]*"|[^\s=!<>"]+\s*(?:!=|<=|>=|=|<|>)\s*(?:"[^"]*"|[^\s"]*)|\S+/g;

/** The conditions in a text, such as `adam and not failed learning_rate >= 0.01`; all of them have to hold. */
function conditionsOf(text) {
  const conditions = [], unknown = [];
  let negated = false;
  for (const term of text.match(TERM) ?? []) {
    if (term.toLowerCase() === "and") continue;
    if (term.toLowerCase() === "not") {
      negated = true;
      continue;
    }
    const holds = conditionOf(term, unknown);
    if (holds) conditions.push(negated ? (row) => !holds(row) : holds);
    negated = false;
  }
  return { conditions, unknown };
}

/** One condition; nothing for a comparison that is still being typed. What is no column is a text, and told as `unknown`. */
function conditionOf(term, unknown) {
  const [, key, operator, value] = term.match(/^([^=!<>"]+?)\s*(!=|<=|>=|=|<|>)\s*(.*)$/) ?? [];
  const values = key && valuesCalled(key);
  if (!values) {
    if (key) unknown.push(key);
    const word = term.replaceAll('"', "").toLowerCase();
    return (row) => searchable(row).includes(word);
  }
  if (!value) return null;
  if (operator === "!=") return (row) => !values(row).some((one) => compares(one, "=", value));
  return (row) => values(row).some((one) => compares(one, operator, value));
}

/** What gives the values of a row in the column, or of the hyperparameter, of this name; nothing if there is none. */
function valuesCalled(key) {
  const plainly = (name) => name.toLowerCase().replaceAll(" ", "_");
  const titles = current.columns.map(({ title }) => plainly(title));
  const index = ["", "val_", "test_"].map((start) => titles.indexOf(start + plainly(key))).find((place) => place >= 0);
  const param = namesOfParams().find((name) => plainly(name) === plainly(key));
  if (param !== undefined && (index === undefined || current.columns[index].kind === "param")) {
    return (row) => entriesOf(row).map((entry) => paramOf(entry, param));
  }
  return index === undefined ? null : (row) => [valueOf(row.cells[index])];
}

/** Whole values are compared: 0.1 is not 0.15; numbers as numbers, words without regard to capitals. */
function compares(one, operator, other) {
  const isMissing = one === null || one === undefined;
  const pair = isMissing || other === "" || Number.isNaN(Number(one)) || Number.isNaN(Number(other))
    ? [String(isMissing ? "" : one).toLowerCase(), other.replaceAll('"', "").toLowerCase()] : [Number(one), Number(other)];
  if (operator === "=") return pair[0] === pair[1];
  if (isMissing || typeof pair[0] !== "number") return false;
  return { "<": pair[0] < pair[1], ">": pair[0] > pair[1], "<=": pair[0] <= pair[1], ">=": pair[0] >= pair[1] }[operator];
}
