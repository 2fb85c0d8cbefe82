// What stands over the whole table: the confusion matrix, the classes and the drawing lead to rows.

const MATRIX = byId("matrix");
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function makeMatrix() {
  if (!MATRIX) return;
  const rows = [...MATRIX.tBodies[0].rows].map((row) => [...row.cells].slice(1));
  MATRIX.setAttribute("role", "grid");
  for (const cell of rows.flat()) {
    const { label, prediction, count } = cell.dataset;
    cell.tabIndex = -1;
    cell.title = `Label ${DATA.classes[label]}, prediction ${DATA.classes[prediction]}: ${rowsText(Number(count))}`;
    cell.setAttribute("role", "gridcell");
    cell.setAttribute("aria-label", cell.title);
  }
  if (rows.length) rows[0][0].tabIndex = 0;
  MATRIX.addEventListener("click", (event) => chooseCell(event.target.closest("td[data-label]")));
  MATRIX.addEventListener("keydown", (event) => {
    const cell = event.target.closest("td[data-label]");
    const step = ARROWS[event.key];
    if (!cell || !(step || event.key === "Enter" || event.key === " ")) return;
    event.preventDefault();
    if (!step) return void chooseCell(cell);
    const down = rows.findIndex((row) => row.includes(cell));
    const next = rows[down + step[0]]?.[rows[down].indexOf(cell) + step[1]];
    if (next) focusCell(next);
  });
}

/** One cell of the grid is a stop of the tab key: the last that had the focus. */
function focusCell(cell) {
  MATRIX.querySelector('td[tabindex="0"]').tabIndex = -1;
  cell.tabIndex = 0;
  cell.focus();
}

const only = (column) => {
  const chosen = column >= 0 ? [...(state.facets.get(column) ?? [])] : [];
  return chosen.length === 1 ? chosen[0] : null;
};
const isChosen = ({ dataset }) =>
  state.epoch === DATA.lastEpoch &&
  only(LABEL) === Number(dataset.label) &&
  only(PREDICTION) === Number(dataset.prediction);

/** Show a cell's rows; choosing it again shows all. */
function chooseCell(cell) {
  if (!cell) return;
  const chosen = isChosen(cell);
  focusCell(cell);
  clearFilters();
  byId("search").value = "";
  if (!chosen) {
    state.facets.get(LABEL)?.add(Number(cell.dataset.label));
    state.facets.get(PREDICTION)?.add(Number(cell.dataset.prediction));
  }
  refilter();
  showListing();
}

/** Bring the rows into view where they are not. */
function showListing() {
  const top = TABLE.getBoundingClientRect().top;
  if (top > innerHeight - 120) TABLE.closest("section").scrollIntoView();
}

function makeClasses() {
  const table = byId("classes");
  if (!table) return;
  for (const heading of table.querySelectorAll("tbody th")) {
    const title = "Show the rows with this label";
    const button = element("button", { type: "button", className: "link", title }, ...heading.childNodes);
    button.addEventListener("click", () => chooseClass(Number(heading.dataset.class)));
    heading.append(button);
  }
  [...table.tHead.rows[0].cells].forEach((heading, index) => {
    const button = element("button", { type: "button", className: "sort" }, ...heading.childNodes);
    button.addEventListener("click", () => sortClasses(table, heading, index));
    heading.append(button);
  });
}

function chooseClass(code) {
  const chosen = only(LABEL) === code && only(PREDICTION) === null;
  clearFilters();
  byId("search").value = "";
  if (!chosen) state.facets.get(LABEL)?.add(code);
  refilter();
  showListing();
}

/** The least first, the class without a value last; a second click turns it round. */
function sortClasses(table, heading, index) {
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const key = ({ cells }) =>
    index ? Number.parseFloat(cells[index].textContent.replaceAll(/[,<>]/g, "")) : Number(cells[0].dataset.class);
  const last = (value) => (Number.isNaN(value) ? Infinity : descending ? -value : value);
  const rows = [...table.tBodies[0].rows].sort((a, b) => last(key(a)) - last(key(b)) || 0);
  table.tBodies[0].append(...rows);
}

function makeScatter() {
  const drawing = byId("scatter");
  if (!drawing) return;
  const [low, high, side] = ["low", "high", "side"].map((name) => Number(drawing.dataset[name]));
  const scale = (column, row) => ((Number(COLUMNS[column].values[row] ?? "NaN") - low) / (high - low)) * side;
  const dots = [];
  for (let row = 0; row < DATA.size; row++) {
    if (EPOCH >= 0 && COLUMNS[EPOCH].values[row] !== DATA.lastEpoch) continue;
    const [x, y] = [scale(LABEL, row), side - scale(PREDICTION, row)];
    if (Number.isFinite(x + y)) dots.push([x, y, row]);
  }
  drawing.addEventListener("click", (event) => {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
    const distance = (dot) => Math.hypot(dot[0] - x, dot[1] - y);
    const near = dots.reduce((best, dot) => (distance(dot) < distance(best) ? dot : best));
    const mark = drawing.querySelector(".chosen");
    mark.setAttribute("cx", near[0]);
    mark.setAttribute("cy", near[1]);
    if (!shown.includes(near[2])) {
      clearFilters();
      refilter();
    }
    openExample(shown.indexOf(near[2]));
  });
}

function drawOverview() {
  for (const cell of document.querySelectorAll("#matrix td[data-label]")) {
    cell.setAttribute("aria-selected", isChosen(cell));
  }
  for (const heading of document.querySelectorAll("#classes tbody th")) {
    heading.parentElement.classList.toggle("chosen", only(LABEL) === Number(heading.dataset.class));
  }
}

/** How many rows there are; a matrix counts the whole table, of which the page may hold a part. */
function drawCount() {
  const whole = Number(document.querySelector('#matrix [aria-selected="true"]')?.dataset.count ?? 0);
  let of = shown.length === DATA.size ? "" : ` of the ${countText(DATA.size)} in this page`;
  if (whole > shown.length) of = ` in this page, ${countText(whole)} in the whole table`;
  byId("count").textContent = rowsText(shown.length) + of;
}
