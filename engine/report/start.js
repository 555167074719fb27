// What happens when the page opens: first the table, then all that has to be unpacked for the rest.

/** Show the table of one task, and all that depends on it. */
function showTask(table, told = new URLSearchParams()) {
  current = table;
  lines.clear();
  expanded.clear();
  showBest();
  showWarnings();
  for (const button of find("tasks").children) button.setAttribute("aria-pressed", String(button.value === table.task));
  recallView(told);
}

/** The rest of it: curves, hyperparameters, pictures, origins. */
function showMore(told = new URLSearchParams()) {
  showScores(told.get("metric"));
  showStudies();
  announce("picked");
  update(find("time-figure"));
}

function showTasks() {
  const buttons = report.tables.map((table) => element("button", {
    type: "button", value: table.task, click: () => {
      showTask(table);
      usual.metric = namesOfCurves()[0] ?? "";
      showMore();
    },
  }, `${table.task} (${table.entries.length})`));
  find("tasks").replaceChildren(...buttons);
  find("tasks").hidden = buttons.length < 2;
}

function start(content) {
  const told = new URLSearchParams(location.hash.slice(1));
  readReport(content);
  showHeader();
  showTasks();
  startTable();
  showLooks();
  showTask(report.tables.find(({ task }) => task === told.get("task")) ?? current, told);
  return told;
}

async function startRest(told) {
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done))); // the table is in sight
  readDetails(await unpack(find("report-details").textContent));
  noteUsual();
  recallCurves(told);
  startCurves();
  startStudies();
  document.addEventListener("picked", () => {
    showPictures();
    showProvenance();
    showSides();
    keepView();
  });
  showMore(told);
  usual.metric = namesOfCurves()[0] ?? "";
  document.addEventListener("viewed", keepView);
  keepView();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => update(...figures.keys()));
  addEventListener("beforeprint", () => usePaper(true));
  addEventListener("afterprint", () => usePaper(false));
  document.documentElement.dataset.ready = "yes";
  setTimeout(loadPlotly); // even where no figure is in view yet: to print, it has to be there
}

unpack(find("report-content").textContent).then(start, () => { find("summary").textContent = UNPACKING; }).then((told) => told && startRest(told));
