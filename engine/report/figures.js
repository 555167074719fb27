// The figures, each drawn when it comes into view, by plotly, which is unpacked from this page once the table is there.

const figures = new Map(); // the element of a figure -> what draws it
const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "resetScale2d"]] };
const SMALL = ".slices, .halves"; // figures in which buttons would hide what is drawn; a double click still undoes a zoom
let loading = null;

function loadPlotly() {
  loading ??= unpack(find("plotly").textContent).then((source) => document.head.append(element("script", {}, source)));
  return loading;
}

function figureOf(name, draw) {
  const node = element("div", { class: "figure", role: "img", "aria-label": name });
  addFigure(node, draw);
  return node;
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

/** Forget the figures within an element, which is about to be filled anew. */
function dropFigures(parent) {
  for (const node of parent.querySelectorAll(".figure")) {
    figures.delete(node);
    if (node.data) Plotly.purge(node);
  }
}

/** Draw those of the figures anew that have been in view. */
function update(...nodes) {
  nodes.filter((node) => node.hasChildNodes()).forEach(redraw);
}

async function redraw(node) {
  try {
    await loadPlotly();
  } catch {
    node.replaceChildren(note(UNPACKING));
    return;
  }
  if (!figures.has(node)) return; // of a task that is no longer shown
  const { traces, layout, empty, clicked, told } = figures.get(node)();
  if (empty) {
    if (node.data) Plotly.purge(node);
    node.replaceChildren(note(empty));
    return;
  }
  const first = !node.data;
  if (first) node.replaceChildren();
  if (told) node.setAttribute("aria-label", told);
  await Plotly.react(node, traces, themed(layout, node), { ...CONFIG, displayModeBar: node.closest(SMALL) ? false : "hover" });
  if (first && clicked) node.on("plotly_click", ({ points }) => clicked(points[0]));
  node.dataset.drawn = "yes";
}

/** On paper are all figures, in its colors and of its width: once plotly is there, drawn before the printer looks. */
async function usePaper(isPaper) {
  document.documentElement.classList.toggle("paper", isPaper);
  for (const table of document.querySelectorAll(".scroll table")) fitToPaper(table, isPaper);
  await Promise.all([...figures.keys()].map(redraw));
  if (!isPaper) for (const node of figures.keys()) if (node.data) Plotly.Plots.resize(node);
}

/** On paper nothing scrolls: a table that is too wide for the sheet becomes as much smaller. */
function fitToPaper(table, isPaper) {
  table.style.zoom = "";
  if (isPaper && table.scrollWidth > table.parentElement.clientWidth) table.style.zoom = table.parentElement.clientWidth / table.scrollWidth;
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

function faded(color, opacity) {
  return color + Math.round(opacity * 255).toString(16).padStart(2, "0");
}

/** A logarithmic axis over some values, its numbers in full: few decades have 2 and 5 as well, many not each. */
function logarithmic(values) {
  const known = values.filter((value) => value > 0);
  const [low, high] = known.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [Infinity, 0]);
  const decades = Math.log10(high / low);
  if (!known.length || decades < 1) return { type: "log", tickformat: "~g", nticks: 8 };
  return { type: "log", tickformat: decades > 5 ? ".0e" : "~g", dtick: decades > 2 ? Math.ceil(decades / 6) : "D2" };
}

/** How strongly to draw each of so many lines or points, so that many of them are no slab of ink. */
function strength(count, most, strongest = 1) {
  return Math.max(0.12, Math.min(strongest, most / count));
}
