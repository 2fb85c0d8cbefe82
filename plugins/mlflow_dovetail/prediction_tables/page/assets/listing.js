// The table of examples: one page of rows at a time is in the document.

const TABLE = byId("examples");
const CELL_CHARACTERS = 300;
const PAGE_SIZES = [50, 100, 250, 500];

/** How a value stands in its cell, where that is more than its text. */
const CELLS = {
  image: (value) => {
    const source = DATA.images[value];
    const none = element("span", { className: "no-image", textContent: "no image" });
    if (!source) return none;
    const image = element("img", { src: source, alt: "", decoding: "async" });
    image.addEventListener("load", () => drawPixels(image));
    image.addEventListener("error", () => image.replaceWith(none));
    return image;
  },
  result: (value) =>
    element("span", { className: value ? "pill right" : "pill wrong", textContent: KINDS.result.text(value) }),
  share: (value) => {
    const bar = element("span", { className: "bar" }, element("span"));
    bar.firstChild.style.width = `${value * 100}%`;
    return element("span", { className: "gauge" }, shareText(value), bar);
  },
  probabilities: (value, column) => {
    const list = element("span", { className: "top" });
    for (const [code, share] of pairs(value).slice(0, 3)) {
      const name = element("bdi", { textContent: classesOf(column)[code] });
      list.append(element("span", {}, name, ` ${shareText(share)}`), " ");
    }
    return list;
  },
};

const isRight = (column) => column.kind === "number" || column.kind === "share";

function cell(column, index, row) {
  const value = column.values[row];
  const made = element("td", { className: column.kind, dir: "auto" });
  made.classList.toggle("number", isRight(column));
  if (column.name === "prediction" && RESULT >= 0 && COLUMNS[RESULT].values[row] === 0) made.classList.add("off");
  let content = element("span", { className: column.kind === "number" ? "" : "clamp" });
  if (value !== null && CELLS[column.kind]) content = CELLS[column.kind](value, column);
  else content.textContent = textOf(column, row).slice(0, CELL_CHARACTERS);
  if (value === null && index > 0) made.classList.add("missing");
  if (index === 0 || column.kind === "image") content = opener(row, content);
  made.append(content);
  return made;
}

function opener(row, content) {
  if (!content.textContent && !content.src) content.textContent = "open";
  const label = `Enlarge ${nameOf(row)}`;
  const button = element("button", { type: "button", className: "open", "aria-label": label }, content);
  button.addEventListener("click", () => openExample(shown.indexOf(row)));
  return button;
}

const ID = columnOf("id");

/** What a row is called: its id, else its place in the table. */
const nameOf = (row) => (ID >= 0 && textOf(COLUMNS[ID], row).slice(0, 100)) || `row ${countText(DATA.rows[row] + 1)}`;

function drawHead() {
  const headings = COLUMNS.map((column, index) => {
    const heading = element("th", { scope: "col", className: isRight(column) ? "number" : "" });
    const title = element("bdi", { textContent: column.title });
    const button = element("button", { type: "button", className: "sort" }, title);
    button.addEventListener("click", () => sortBy(index));
    heading.append(button);
    return heading;
  });
  TABLE.tHead.replaceChildren(element("tr", {}, ...headings));
}

/** A first click gives the greatest number or the first name, a second the opposite, a third the page's own order. */
function sortBy(index) {
  const first = isNumeric(COLUMNS[index]);
  if (state.order !== index) Object.assign(state, { order: index, descending: first });
  else if (state.descending === first) state.descending = !first;
  else state.order = WORST;
  state.page = 0;
  update();
}

function drawRows() {
  const start = state.page * state.pageSize;
  const rows = shown
    .slice(start, start + state.pageSize)
    .map((row) => element("tr", {}, ...COLUMNS.map((column, index) => cell(column, index, row))));
  TABLE.tBodies[0].replaceChildren(...rows);
  [...TABLE.tHead.rows[0].cells].forEach((heading, index) => {
    if (state.order === index) heading.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    else heading.removeAttribute("aria-sort");
  });
  byId("nothing").hidden = shown.length > 0 || DATA.size === 0;
}

const lastPage = () => Math.max(0, Math.ceil(shown.length / state.pageSize) - 1);

function turnTo(page) {
  state.page = Math.min(Math.max(page, 0), lastPage());
  drawRows();
  drawPages();
  TABLE.parentElement.scrollTop = 0;
}

const TURNS = [
  ["First", () => 0],
  ["Previous", () => state.page - 1],
  ["Next", () => state.page + 1],
  ["Last", () => lastPage()],
];

function makePages() {
  const buttons = TURNS.map(([name, to]) => {
    const button = element("button", { type: "button", textContent: name });
    button.addEventListener("click", () => turnTo(to()));
    return button;
  });
  const size = element("select", {}, ...PAGE_SIZES.map((value) => element("option", { value, textContent: value })));
  size.addEventListener("change", () => {
    state.pageSize = Number(size.value);
    turnTo(0);
  });
  const range = element("span", { id: "range" });
  byId("pages").append(...buttons.slice(0, 2), range, ...buttons.slice(2), element("label", {}, "Rows a page ", size));
}

function drawPages() {
  const start = state.page * state.pageSize;
  const end = Math.min(start + state.pageSize, shown.length);
  const range = shown.length ? `${countText(start + 1)}–${countText(end)}` : "0";
  byId("range").textContent = `${range} of ${countText(shown.length)}`;
  const [first, previous, next, last] = byId("pages").querySelectorAll("button");
  for (const button of [first, previous]) button.disabled = state.page === 0;
  for (const button of [next, last]) button.disabled = state.page >= lastPage();
}
