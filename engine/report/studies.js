// What a search found: each hyperparameter against the score, how it went on, what mattered; and scores against time.

const MOST_POINTS = 150; // at full strength: more of them are drawn fainter and smaller
const UNITS = [["days", 86400], ["hours", 3600], ["minutes", 60], ["seconds", 1]];
const GRAY = "--soft";

function showStudies() {
  const section = find("studies");
  dropFigures(section);
  section.replaceChildren(...(current.studies.length ? current.studies.flatMap(studyOf) : [note(current.no_studies)]));
}

function studyOf(study) {
  const slices = study.slices.map((slice) => figureOf(`${study.score} against ${slice.name}`, () => drawSlice(study, slice)));
  const history = study.progress ? [["trials", drawOverTrials], ["time", drawOverTime]].map(([name, draw]) =>
    figureOf(`best ${study.score} so far over ${name}`, () => draw(study))) : [];
  const others = [["importance of hyperparameters", study.importance], ["parallel coordinates", study.parallel]]
    .filter(([, figure]) => figure)
    .map(([name, figure]) => figureOf(name, () => ({ traces: figure.data, layout: figure.layout })));
  return [element("h3", {}, study.title), note(study.sentence), element("div", { class: "slices" }, slices),
    element("div", { class: others.length > 1 ? "pair" : "" }, others),
    ...(history.length ? [element("h4", {}, "How the search went on: the best so far"), element("div", { class: "halves" }, history)] : [])];
}

/** Configurations as points, of which some were given up: those are hollow. */
function pointsOf({ trials }, places, x, more = {}) {
  const part = (isPruned) => {
    const chosen = places.map((trial, place) => [trial, place]).filter(([trial]) => trials.pruned[trial] === isPruned);
    return {
      type: "scatter", mode: "markers", x: chosen.map(([, place]) => x[place]), y: chosen.map(([trial]) => trials.scores[trial]),
      text: chosen.map(([trial]) => plain(cut(trials.names[trial], 90))), showlegend: false,
      marker: {
        color: COLORS[0], size: places.length > MOST_POINTS ? 5 : 8, opacity: strength(places.length, 0.75 * MOST_POINTS, 0.75),
        symbol: isPruned ? "circle-open" : "circle",
      },
      ...(places.length <= MOST_POINTS && { error_y: { type: "data", array: chosen.map(([trial]) => trials.errors[trial]), thickness: 1, width: 0, color: COLORS[0] } }),
      hovertemplate: "%{text}<br>%{x}: %{y:.5~g}<extra></extra>", ...more,
    };
  };
  return [part(false), part(true)];
}

/** The score of each configuration against one hyperparameter. */
function drawSlice(study, { name, scale, x }) {
  return {
    traces: pointsOf(study, [...x.keys()], x),
    layout: {
      margin: { t: 8, r: 8, b: 44, l: 52 }, hovermode: "closest",
      xaxis: { title: { text: plain(cut(name, 40)) }, ...(scale === "log" ? logarithmic(x) : { type: scale, nticks: 5 }) },
      yaxis: { title: { text: plain(study.score) }, nticks: 6 },
    },
  };
}

function drawOverTrials(study) {
  return progressOf(study, study.progress.trials.map((_, place) => place + 1), "configurations that have ended");
}

function drawOverTime(study) {
  const [unit, length] = UNITS.find(([, size]) => Math.max(...study.progress.seconds) >= 2 * size) ?? UNITS.at(-1);
  return progressOf(study, study.progress.seconds.map((seconds) => seconds / length), `${unit} since the first run began`);
}

/** The best score so far as stairs, above or below the points of all configurations. */
function progressOf(study, x, title) {
  const best = {
    type: "scatter", mode: "lines", x, y: study.progress.best, line: { color: COLORS[1], width: 2.5, shape: "hv" }, showlegend: false,
    hovertemplate: "best so far %{y:.5~g}<extra></extra>",
  };
  return {
    traces: [...pointsOf(study, study.progress.trials, x, { error_y: {} }), best],
    layout: {
      margin: { t: 8, r: 12, b: 48, l: 56 }, hovermode: "closest",
      xaxis: { title: { text: title }, rangemode: "tozero", nticks: Math.min(12, x.length + 1) }, yaxis: { title: { text: plain(study.score) }, nticks: 6 },
    },
  };
}

// Score against time

function drawTime() {
  const points = current.entries.filter((row) => row.seconds !== null && row.score !== null);
  if (!points.length) return { empty: "No experiment has both a score and a time yet." };
  const colors = new Map(pickedRows().flatMap(({ row, color }) => row.members.map((index) => [report.entries[index].key, color])));
  points.sort((one, other) => colors.has(one.key) - colors.has(other.key)); // what is picked is on top
  const seconds = points.map((row) => row.seconds);
  const [least, most] = seconds.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  const gray = getComputedStyle(document.documentElement).getPropertyValue(GRAY).trim();
  const small = points.length > MOST_POINTS ? 5 : 8;
  const trace = {
    type: "scatter", mode: "markers", x: seconds, y: points.map((row) => row.score), showlegend: false,
    customdata: points.map((row) => row.key), text: points.map((row) => plain(cut(nameOfRow(row), 90))),
    hovertemplate: "%{text}<br>%{y:.5~g} in %{x:.3~s} s<extra></extra>",
    marker: {
      size: points.map((row) => (colors.has(row.key) ? 12 : small)), color: points.map((row) => colors.get(row.key) ?? gray),
      opacity: points.map((row) => (colors.has(row.key) ? 0.9 : strength(points.length, 0.75 * MOST_POINTS, 0.75))),
    },
  };
  return {
    traces: [trace],
    clicked: (point) => toggle(point.customdata),
    layout: {
      margin: { t: 12, r: 12, b: 48, l: 56 }, hovermode: "closest",
      xaxis: { title: { text: "seconds of training" }, ...(least > 0 && most > 30 * least ? logarithmic(seconds) : { type: "linear" }) },
      yaxis: { title: { text: plain(`val ${current.monitor}`) } },
    },
  };
}

function startStudies() {
  addFigure(find("time-figure"), drawTime);
  document.addEventListener("picked", () => update(find("time-figure")));
}
