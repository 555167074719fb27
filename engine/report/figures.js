// The figures, each drawn when it comes into view, by plotly, which is unpacked from this page once the table is there.

const figures = new Map(); // the element of a figure -> what draws it
const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "resetScale2d"]] };
const SAMPLED = "longdashdot"; // how a score of some batches only is drawn
const BAND_OPACITY = 0.16;
const UNPACKING = "This page needs a browser that can unpack gzip: any since 2023.";
let loading = null;

function loadPlotly() {
  loading ??= unpack(find("plotly").textContent).then((source) => document.head.append(element("script", {}, source)));
  return loading;
}

async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

/** Draw a figure when it comes into view. */
function addFigure(node, draw) {
  figures.set(node, draw);
  const watcher = new IntersectionObserver((seen) => {
    if (!seen.some((one) => one.isIntersecting)) return;
    watcher.disconnect();
    redraw(node);
  }, { rootMargin: "300px" });
  watcher.observe(node);
}

/** Draw those of the figures anew that have been in view. */
function update(...nodes) {
  nodes.filter((node) => node.hasChildNodes()).forEach(redraw);
}

async function redraw(node) {
  try {
    await loadPlotly();
  } catch {
    node.replaceChildren(element("p", { class: "note" }, UNPACKING));
    return;
  }
  const { traces, layout, empty, clicked } = figures.get(node)();
  if (empty) {
    if (node.data) Plotly.purge(node);
    node.replaceChildren(element("p", { class: "note" }, empty));
    return;
  }
  const first = !node.data;
  if (first) node.replaceChildren();
  await Plotly.react(node, traces, themed(layout, node), CONFIG);
  if (first && clicked) node.on("plotly_click", ({ points }) => clicked(points[0]));
  node.dataset.drawn = "yes";
}

/** On paper are all figures, in its colors and of its width: once plotly is there, drawn before the printer looks. */
async function usePaper(isPaper) {
  document.documentElement.classList.toggle("paper", isPaper);
  await Promise.all([...figures.keys()].map(redraw));
  if (!isPaper) for (const node of figures.keys()) if (node.data) Plotly.Plots.resize(node);
}

/** A layout in the colors of the page: light, dark, or of paper. */
function themed(layout, node) {
  const style = getComputedStyle(node);
  const isPaper = document.documentElement.classList.contains("paper");
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: color("--grid"), linecolor: color("--line"), zerolinecolor: color("--line"), automargin: true };
  const hoverlabel = { bgcolor: color("--raised"), bordercolor: color("--line"), font: { color: color("--ink") }, namelength: -1 };
  const clear = "rgba(0,0,0,0)";
  return {
    ...layout, ...(isPaper && { width: node.clientWidth, height: node.clientHeight }), hoverlabel,
    modebar: { bgcolor: clear, color: color("--soft"), activecolor: color("--ink") }, paper_bgcolor: clear, plot_bgcolor: clear,
    font: { family: "system-ui, sans-serif", size: 13, color: color("--ink") },
    xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
  };
}

/** Text for plotly, which would take `<b>`, `<a href>` and `&lt;` in it for markup. */
function plain(text) {
  return String(text).replace(/\s+/g, " ").replace(/&/g, "&amp;").replace(/</g, "&lt;");
}

function cut(text, longest = 60) {
  return text.length > longest ? `${text.slice(0, longest - 1)}…` : text;
}

function nameOfRow(row) {
  return textOf(row.cells[0]);
}

function faded(color, opacity) {
  return color + Math.round(opacity * 255).toString(16).padStart(2, "0");
}

function pickedRows() {
  return [...picked].map(([key, number]) => ({ row: rowsByKey.get(key), color: COLORS[number % COLORS.length] }));
}

// Learning curves

function namesOfCurves() {
  const names = new Set();
  for (const entry of report.entries) {
    for (const key of Object.keys(entry.history)) if (key !== "epoch" && key !== "seconds") names.add(key.replace(/^(train|val)_/, ""));
  }
  return [...names].sort((one, other) => (other === report.monitor) - (one === report.monitor));
}

function drawCurves() {
  const metric = find("metric").value;
  const parts = ["train", "val"].filter((part) => find(part).checked).map((part) => `${part}_${metric}`);
  const traces = pickedRows().flatMap((one) => [...parts, metric].flatMap((key) => curvesOf(one, key)));
  find("sampled").hidden = !traces.some((trace) => trace.line.dash === SAMPLED);
  if (!metric) return { empty: "No experiment has logged a score yet." };
  if (!picked.size) return { empty: "Pick rows in the table: a click on a row draws its curves here." };
  if (!traces.length) return { empty: `None of the picked rows has logged this score (${metric}) yet.` };
  nameOnce(traces);
  return {
    traces,
    layout: {
      margin: { t: 12, r: 12, b: 48, l: 56 }, hovermode: "closest", showlegend: true,
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      uirevision: [metric, find("over").value, find("logarithmic").checked].join(), // a zoom stays while rows are picked
      xaxis: find("over").value === "epoch" ? { title: { text: "epoch" }, nticks: ticks(traces) } : { title: { text: "seconds of training" } },
      yaxis: { title: { text: plain(metric) }, ...(find("logarithmic").checked ? { type: "log", tickformat: "~g" } : { type: "linear" }) },
    },
  };
}

/** At most one tick per epoch: there is nothing between two. */
function ticks(traces) {
  return Math.min(14, Math.max(2, ...traces.map((trace) => trace.x.length)));
}

/** The lines of one picked row for one logged score: of one run, of each seed, or mean and band. */
function curvesOf({ row, color }, key) {
  const over = find("over").value;
  const runs = row.members.map((index) => report.entries[index]).filter(({ history }) => history[key] && history[over]);
  const isSampled = runs.some((entry) => entry.sampled.includes(key));
  const style = { color, width: 2, dash: isSampled ? SAMPLED : key.startsWith("train_") ? "dot" : "solid" };
  if (runs.length > 1 && find("seeds").value === "band") return bandOf(row, runs, over, key, style);
  return runs.map((entry) => {
    const line = { ...style, width: runs.length > 1 ? 1.2 : 2 };
    const hover = runs.length > 1 ? textOf(entry.cells[0]) : nameOfRow(row);
    return curve(row, entry.history[over], entry.history[key], line, { text: plain(cut(String(hover), 90)) });
  });
}

function curve(row, x, y, line, more = {}) {
  const few = y.filter((value) => value !== null).length < 2;
  return {
    type: "scatter", mode: few ? "markers" : "lines", x, y, line, marker: { color: line.color }, name: plain(cut(nameOfRow(row))),
    legendgroup: row.key, showlegend: false, hovertemplate: "%{text}<br>%{x}: %{y:.5~g}<extra></extra>", text: plain(nameOfRow(row)), ...more,
  };
}

/** Mean over the runs at each epoch, within a band of a standard deviation to either side. */
function bandOf(row, runs, over, key, style) {
  const length = Math.max(...runs.map((entry) => entry.history[key].length));
  const points = Array.from({ length }, (_, place) => {
    return { x: spread(runs.map((entry) => entry.history[over][place])).mean, ...spread(runs.map((entry) => entry.history[key][place])) };
  }).filter((point) => point.n && point.x !== null);
  const x = points.map((point) => point.x);
  const edge = (sign, more) => curve(row, x, points.map((point) => point.mean + sign * point.std), { ...style, width: 0 },
    { mode: "lines", hoverinfo: "skip", hovertemplate: null, ...more });
  const mean = curve(row, x, points.map((point) => point.mean), style, {
    customdata: points.map((point) => [point.std, point.n]),
    hovertemplate: "%{text}<br>%{x}: %{y:.5~g} ± %{customdata[0]:.2~g}, n = %{customdata[1]}<extra></extra>",
  });
  return [edge(-1), edge(1, { fill: "tonexty", fillcolor: faded(style.color, BAND_OPACITY) }), mean];
}

function spread(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (!known.length) return { n: 0, mean: null, std: null };
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  const squares = known.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { n: known.length, mean, std: known.length > 1 ? Math.sqrt(squares / (known.length - 1)) : 0 };
}

/** Let each row stand once in the legend, with a solid line where it has one. */
function nameOnce(traces) {
  const best = new Map();
  for (const trace of traces) {
    const rank = (trace.line.width > 0) + (trace.line.dash === "solid");
    if (trace.line.width > 0 && rank > (best.get(trace.legendgroup)?.rank ?? 0)) best.set(trace.legendgroup, { trace, rank });
  }
  for (const { trace } of best.values()) trace.showlegend = true;
}

// Score against time

function drawTime() {
  const points = entryRows.filter((row) => row.seconds !== null && row.score !== null);
  if (!points.length) return { empty: "No experiment has both a score and a time yet." };
  const colors = new Map(pickedRows().flatMap(({ row, color }) => row.members.map((index) => [`entry${index}`, color])));
  const seconds = points.map((row) => row.seconds);
  const wide = Math.min(...seconds) > 0 && Math.max(...seconds) > 30 * Math.min(...seconds);
  const gray = getComputedStyle(document.documentElement).getPropertyValue("--soft").trim();
  const trace = {
    type: "scatter", mode: "markers", x: seconds, y: points.map((row) => row.score), showlegend: false,
    customdata: points.map((row) => row.key), text: points.map((row) => plain(cut(nameOfRow(row), 90))),
    hovertemplate: "%{text}<br>%{y:.5~g} in %{x:.3~s} s<extra></extra>",
    marker: { size: points.map((row) => (colors.has(row.key) ? 12 : 8)), color: points.map((row) => colors.get(row.key) ?? gray), opacity: 0.75 },
  };
  return {
    traces: [trace],
    clicked: (point) => toggle(point.customdata),
    layout: {
      margin: { t: 12, r: 12, b: 48, l: 56 }, hovermode: "closest",
      xaxis: { title: { text: "seconds of training" }, type: wide ? "log" : "linear" },
      yaxis: { title: { text: plain(`val ${report.monitor}`) } },
    },
  };
}

// Hyperparameters

function showStudies() {
  const section = find("hyperparameters");
  if (!report.studies.length) section.append(element("p", { class: "note" }, report.no_studies));
  for (const study of report.studies) {
    const slices = study.slices.map((slice) => figureOf(`${study.score} against ${slice.name}`, () => drawSlice(study, slice)));
    const others = [["importance of hyperparameters", study.importance], ["parallel coordinates", study.parallel]]
      .filter(([, figure]) => figure)
      .map(([name, figure]) => figureOf(name, () => ({ traces: figure.data, layout: figure.layout })));
    section.append(element("h3", {}, study.title), element("p", { class: "note" }, study.sentence),
      element("div", { class: "slices" }, slices), element("div", { class: others.length > 1 ? "pair" : "" }, others));
  }
}

function figureOf(name, draw) {
  const node = element("div", { class: "figure", role: "img", "aria-label": name });
  addFigure(node, draw);
  return node;
}

/** The score of each configuration against one hyperparameter; what was given up is hollow. */
function drawSlice(study, { name, scale, x, y, error, names, pruned }) {
  const part = (isPruned) => {
    const of = (values) => values.filter((_, place) => pruned[place] === isPruned);
    return {
      type: "scatter", mode: "markers", x: of(x), y: of(y), text: of(names).map((one) => plain(cut(one, 90))), showlegend: false,
      marker: { color: COLORS[0], size: 8, opacity: 0.75, symbol: isPruned ? "circle-open" : "circle" },
      error_y: { type: "data", array: of(error), thickness: 1, width: 0, color: COLORS[0] },
      hovertemplate: "%{text}<br>%{x}: %{y:.5~g}<extra></extra>",
    };
  };
  return {
    traces: [part(false), part(true)],
    layout: {
      margin: { t: 8, r: 8, b: 44, l: 52 }, hovermode: "closest",
      xaxis: { title: { text: plain(cut(name, 40)) }, type: scale, ...(scale === "log" ? { dtick: 1, tickformat: "~g" } : { nticks: 5 }) },
      yaxis: { title: { text: plain(study.score) }, nticks: 6 },
    },
  };
}

function startFigures() {
  find("metric").append(...namesOfCurves().map((name) => element("option", { value: name }, name)));
  addFigure(find("curves-figure"), drawCurves);
  addFigure(find("time-figure"), drawTime);
  showStudies();
  for (const id of ["metric", "over", "seeds", "train", "val", "logarithmic"]) {
    find(id).addEventListener("change", () => update(find("curves-figure")));
  }
  document.addEventListener("picked", () => update(find("curves-figure"), find("time-figure")));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => update(...figures.keys()));
  addEventListener("beforeprint", () => usePaper(true));
  addEventListener("afterprint", () => usePaper(false));
  requestAnimationFrame(() => setTimeout(loadPlotly)); // even where no figure is in view yet: to print, it has to be there
}
