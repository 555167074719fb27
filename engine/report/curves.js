// The learning curves of the picked rows: one score large, and all of them as small multiples.

const SAMPLED = "longdashdot"; // how a score of some batches only is drawn
const BAND_OPACITY = 0.16;
const MOST_CURVES = 120; // of one score: more are a slab of ink
const MOST_MULTIPLES = 24;
const CHOICES = ["metric", "over", "seeds", "smoothing"];
const CHECKS = ["train", "val", "log-x", "log-y"];

function namesOfCurves() {
  const names = new Set();
  for (const entry of current.entries) {
    for (const key of Object.keys(entry.history)) if (key !== "epoch" && key !== "seconds") names.add(key.replace(/^(train|val)_/, ""));
  }
  return [...names].sort((one, other) => (other === current.monitor) - (one === current.monitor));
}

function drawCurves(metric, small) {
  const parts = ["train", "val"].filter((part) => find(part).checked).map((part) => `${part}_${metric}`);
  const runs = runsDrawn();
  const traces = runs.flatMap((one) => [...parts, metric].flatMap((key) => curvesOf(one, key)));
  if (!metric) return { empty: "No experiment has logged a score yet." };
  if (!picked.size) return { empty: small ? "" : "Pick rows in the table: a click on a row draws its curves here." };
  if (!traces.length) return { empty: `None of the picked rows has logged this score (${metric}) yet.` };
  const over = find("over").value;
  const x = traces.flatMap((trace) => trace.x), y = traces.flatMap((trace) => trace.y);
  return {
    traces, told: wordsOn(metric, traces),
    layout: {
      margin: small ? { t: 8, r: 8, b: 36, l: 48 } : { t: 12, r: 12, b: 48, l: 56 }, hovermode: "closest", showlegend: false,
      uirevision: [metric, over, find("log-x").checked, find("log-y").checked].join(), // a zoom stays while rows are picked
      xaxis: { title: small ? "" : { text: over === "epoch" ? "epoch" : "seconds of training" },
        ...(find("log-x").checked ? logarithmic(x) : over === "epoch" ? { type: "linear", nticks: small ? 5 : ticks(traces) } : { type: "linear", nticks: small ? 5 : 0 }) },
      yaxis: { title: small ? "" : { text: plain(metric) }, ...(find("log-y").checked ? logarithmic(y) : { type: "linear", nticks: small ? 5 : 0 }) },
    },
  };
}

/** The curves of a figure in words. */
function wordsOn(metric, traces) {
  const ends = traces.filter((trace) => trace.meta === "curve").map((trace) => `${trace.told} ends at ${Number(trace.y.at(-1)?.toPrecision(4))}`);
  return `Learning curves of ${metric}: ${ends.slice(0, 6).join("; ")}${ends.length > 6 ? `; and ${ends.length - 6} more` : ""}`;
}

/** At most one tick per epoch: there is nothing between two. */
function ticks(traces) {
  return Math.min(14, Math.max(2, ...traces.map((trace) => trace.x.length)));
}

/** The picked rows with the runs of each that are drawn: all of them, unless each were a line among hundreds. */
function runsDrawn() {
  const rows = pickedRows();
  const most = find("seeds").value === "band" ? Infinity : Math.max(1, Math.floor(MOST_CURVES / rows.length));
  return rows.map((one) => ({ ...one, runs: entriesOf(one.row).slice(0, most) }));
}

/** The lines of one picked row for one logged score: of one run, of each of several, or mean and band. */
function curvesOf({ row, color, runs: all }, key) {
  const over = find("over").value;
  const runs = all.filter(({ history }) => history[key] && history[over]);
  const isSampled = runs.some((entry) => entry.sampled.includes(key));
  const style = { color, width: 2, dash: isSampled ? SAMPLED : key.startsWith("train_") ? "dot" : "solid" };
  if (runs.length > 1 && find("seeds").value === "band") return bandOf(row, runs, over, key, style);
  return runs.flatMap((entry) => {
    const line = { ...style, width: runs.length > 1 ? 1.2 : 2 };
    const name = runs.length > 1 ? nameOfRow(entry) : nameOfRow(row);
    const more = { text: plain(cut(String(name), 90)), told: cut(String(name)), opacity: strength(runs.length, 20) };
    return curve(row, entry.history[over], entry.history[key], line, more);
  });
}

/** A line; where it is smoothed, what it was before stands faintly behind it. */
function curve(row, x, y, line, more = {}) {
  const few = y.filter((value) => value !== null).length < 2;
  const base = {
    type: "scatter", mode: few ? "markers" : "lines", x, line, marker: { color: line.color }, legendgroup: row.key, name: plain(cut(nameOfRow(row))),
    told: cut(nameOfRow(row)), hovertemplate: "%{text}<br>%{x}: %{y:.5~g}<extra></extra>", text: plain(nameOfRow(row)), meta: "curve", ...more,
  };
  const weight = Number(find("smoothing").value);
  if (!weight || few) return [{ ...base, y }];
  return [{ ...base, y, opacity: 0.25, hoverinfo: "skip", hovertemplate: null, meta: "raw" }, { ...base, y: smooth(y, weight) }];
}

/** The exponential moving average, as TensorBoard takes it: without the pull to zero at the start. */
function smooth(values, weight) {
  let sum = 0, seen = 0;
  return values.map((value) => {
    if (value === null || value === undefined) return value;
    sum = sum * weight + (1 - weight) * value;
    seen = seen * weight + (1 - weight);
    return sum / seen;
  });
}

/** Mean over the runs at each epoch, within a band of a standard deviation to either side. */
function bandOf(row, runs, over, key, style) {
  const points = meansOf(runs, over, key);
  const x = points.map((point) => point.x);
  const weight = Number(find("smoothing").value);
  const edge = (sign, more) => ({
    ...curve(row, x, [], { ...style, width: 0 }, { mode: "lines", hoverinfo: "skip", hovertemplate: null, meta: "edge", ...more })[0],
    y: smooth(points.map((point) => point.mean + sign * point.std), weight),
  });
  const means = curve(row, x, points.map((point) => point.mean), style, {
    customdata: points.map((point) => [point.std, point.n]),
    hovertemplate: "%{text}<br>%{x}: %{y:.5~g} ± %{customdata[0]:.2~g}, n = %{customdata[1]}<extra></extra>",
  });
  return [edge(-1), edge(1, { fill: "tonexty", fillcolor: faded(style.color, BAND_OPACITY) }), ...means];
}

/** Mean and deviation at each epoch that any run has; between the epochs that are kept of a run, those on the line. */
function meansOf(runs, over, key) {
  const counts = runs.map(({ history }) => history.epoch ?? history[key].map((_, place) => place + 1));
  const epochs = [...new Set(counts.flat())].sort((one, other) => one - other);
  const cursors = runs.map(() => 0);
  return epochs.map((epoch) => {
    const at = (name) => runs.map(({ history }, run) => valueAt(counts[run], history[name], epoch, cursors[run]));
    runs.forEach((_, run) => { while (counts[run][cursors[run] + 1] <= epoch) cursors[run] += 1; });
    return { x: over === "epoch" ? epoch : spread(at(over)).mean, ...spread(at(key)) };
  }).filter((point) => point.n && point.x !== null);
}

/** A value at an epoch, of which the last one not after it stands at `place`. */
function valueAt(epochs, values, epoch, place) {
  if (epochs[place] === epoch) return values[place];
  const isBetween = report.thinned && epochs[place] < epoch && place + 1 < epochs.length;
  const [before, after] = [values[place], values[place + 1]];
  if (!isBetween || typeof before !== "number" || typeof after !== "number") return null;
  return before + (after - before) * (epoch - epochs[place]) / (epochs[place + 1] - epochs[place]);
}

// The section

function showLegend() {
  find("legend").replaceChildren(...pickedRows().map(({ row, color }) => element("li", {}, swatch(color), nameOfRow(row))));
}

function showNotes() {
  const parts = ["train_", "val_"].filter((part) => find(part.slice(0, -1)).checked);
  const isSampled = ({ history, sampled }) => sampled.some((key) => history[key] && parts.some((part) => key === part + find("metric").value));
  find("sampled").hidden = !pickedRows().some(({ row }) => entriesOf(row).some(isSampled));
  const all = pickedRows().reduce((sum, { row }) => sum + row.members.length, 0);
  const drawn = runsDrawn().reduce((sum, { runs }) => sum + runs.length, 0);
  const notes = [report.thinned, drawn < all ? `Of ${all} runs ${drawn} are drawn; their mean is of all.` : ""].filter(Boolean);
  Object.assign(find("drawn"), { textContent: notes.join(" "), hidden: !notes.length });
}

function updateCurves() {
  find("smoothed").textContent = find("smoothing").value;
  showLegend();
  showNotes();
  for (const button of document.querySelectorAll("#multiples button")) button.setAttribute("aria-pressed", String(button.value === find("metric").value));
  update(find("curves-figure"), ...document.querySelectorAll("#multiples .figure"));
}

/** The scores of the task that is shown: to choose from, and as small multiples, each of which a click makes the large one. */
function showScores(wanted) {
  const names = namesOfCurves();
  find("metric").replaceChildren(...names.map((name) => element("option", { value: name }, name)));
  if (names.includes(wanted)) find("metric").value = wanted;
  dropFigures(find("multiples"));
  const some = names.length > 1 ? names.slice(0, MOST_MULTIPLES) : [];
  find("multiples").replaceChildren(...some.map((name) => element("div", { class: "multiple" },
    element("button", { type: "button", value: name, title: "Draw this score large", click: () => chooseScore(name) }, name),
    figureOf(`Learning curves of ${name}`, () => drawCurves(name, true)))));
  find("multiples-title").hidden = !some.length;
  find("multiples-title").textContent = names.length > some.length && some.length ? `${some.length} of ${names.length} scores` : "All scores";
}

function chooseScore(name) {
  find("metric").value = name;
  curvesChosen();
  find("curves").scrollIntoView();
}

function curvesChosen() {
  updateCurves();
  announce("viewed");
}

function startCurves() {
  addFigure(find("curves-figure"), () => drawCurves(find("metric").value, false));
  for (const id of [...CHOICES, ...CHECKS]) find(id).addEventListener(id === "smoothing" ? "input" : "change", curvesChosen);
  document.addEventListener("picked", updateCurves);
}
