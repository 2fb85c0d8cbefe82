// One example, enlarged: its images, every field, and what the model thought of each class.

const DIALOG = byId("example");
let place = 0;

function openExample(index) {
  place = index;
  drawExample("close");
  if (!DIALOG.open) DIALOG.showModal();
}

function makeExample() {
  DIALOG.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    stepExample(step);
  });
  DIALOG.addEventListener("click", (event) => event.target === DIALOG && DIALOG.close());
  DIALOG.addEventListener("close", () => {
    // The table goes where the reader has gone.
    turnTo(Math.floor(place / state.pageSize));
    TABLE.tBodies[0].rows[place % state.pageSize]?.querySelector("button").focus();
  });
}

function stepExample(step) {
  const next = place + step;
  if (next < 0 || next >= shown.length) return;
  place = next;
  drawExample(step < 0 ? "previous" : "next");
}

/** Draw the example at `place`; the focus stays on the button that led there while it leads further. */
function drawExample(focused) {
  const row = shown[place];
  const about = element("div", { className: "about-example" }, ...verdict(row), ...bars(row), fields(row));
  const bar = dialogBar(row);
  DIALOG.replaceChildren(bar, element("div", { className: "body" }, ...pictures(row), about));
  const wanted = bar.querySelector(`.${focused}`);
  (wanted.disabled ? bar.querySelector(".close") : wanted).focus();
}

function dialogBar(row) {
  const title = element("h2", { id: "example-title" }, element("bdi", { textContent: nameOf(row) }));
  const text = `${countText(place + 1)} of ${countText(shown.length)}`;
  const count = element("span", { className: "place", role: "status", textContent: text });
  const buttons = [
    ["previous", "←", "Previous (left arrow)", place === 0, () => stepExample(-1)],
    ["next", "→", "Next (right arrow)", place === shown.length - 1, () => stepExample(1)],
    ["close", "✕", "Close (Escape)", false, () => DIALOG.close()],
  ].map(([className, textContent, title, disabled, act]) => {
    const button = element("button", { type: "button", className, textContent, title, disabled, "aria-label": title });
    button.addEventListener("click", act);
    return button;
  });
  return element("div", { className: "dialog-bar" }, title, count, ...buttons);
}

function pictures(row) {
  const columns = COLUMNS.filter((column) => column.kind === "image" && column.values[row] !== null);
  if (!columns.length) return [];
  const className = columns.length > 1 ? "pictures several" : "pictures";
  return [element("div", { className }, ...columns.map((column) => picture(column, row)))];
}

function picture(column, row) {
  const source = DATA.images[column.values[row]];
  const none = (textContent) => element("p", { className: "no-image", textContent });
  const caption = element("figcaption", {}, element("bdi", { textContent: column.title }));
  if (!source) return element("figure", {}, none("This image is not in the page."), caption);
  const image = element("img", { src: source, alt: `${column.title} of ${nameOf(row)}` });
  image.addEventListener("load", () => {
    drawPixels(image);
    caption.append(` · thumbnail of ${image.naturalWidth} × ${image.naturalHeight} pixels`);
  });
  image.addEventListener("error", () => image.replaceWith(none("This image cannot be read.")));
  return element("figure", {}, image, caption);
}

function verdict(row) {
  if (RESULT < 0 || COLUMNS[RESULT].values[row] === null) return [];
  const side = (index) => {
    const text = textOf(COLUMNS[index], row).slice(0, CELL_CHARACTERS);
    return element("span", {}, `${COLUMNS[index].title} `, element("strong", { dir: "auto", textContent: text }));
  };
  const pill = CELLS.result(COLUMNS[RESULT].values[row]);
  return [element("p", { className: "verdict" }, pill, side(LABEL), side(PREDICTION))];
}

/** A table of bars for each column of probabilities that this row has. */
function bars(row) {
  return COLUMNS.filter((column) => column.kind === "probabilities" && column.values[row]).map((column) => {
    const caption = element("caption", { textContent: column.title });
    const head = element("tr", {}, ...["Class", "", "%"].map((textContent) => element("th", { scope: "col", textContent })));
    const lines = pairs(column.values[row]).map(([code, share]) => barLine(column, row, code, share));
    return element("table", { className: "bars" }, caption, element("thead", {}, head), element("tbody", {}, ...lines));
  });
}

function barLine(column, row, code, share) {
  // Other columns of probabilities have classes of their own.
  const marked = column.classes === undefined ? { label: LABEL, prediction: PREDICTION } : {};
  const roles = Object.keys(marked).filter((role) => {
    const other = COLUMNS[marked[role]];
    return other?.kind === "class" && other.values[row] === code;
  });
  const fill = element("span");
  fill.style.width = `${Math.min(Math.max(share, 0), 1) * 100}%`;
  const name = element("bdi", { textContent: classesOf(column)[code] });
  const marks = roles.map((role) => element("span", { className: `role ${role}`, textContent: role }));
  return element(
    "tr",
    { className: roles.join(" ") },
    element("th", { scope: "row" }, name, ...marks),
    element("td", { className: "track" }, element("span", { className: "bar" }, fill)),
    element("td", { className: "number", textContent: shareText(share) }),
  );
}

function fields(row) {
  const list = element("dl", { className: "fields" });
  const add = (title, textContent, className) =>
    list.append(element("dt", {}, element("bdi", { textContent: title })), element("dd", { dir: "auto", className, textContent }));
  for (const column of COLUMNS) {
    if (["probabilities", "result"].includes(column.kind)) continue;
    const value = column.values[row];
    if (value === null) add(column.title, "missing", "missing");
    else add(column.title, exact(column, value, row), column.kind);
  }
  add("row in the table", countText(DATA.rows[row] + 1), "number");
  return list;
}

/** A value with all that the page has of it: every digit, and JSON with indents. */
function exact(column, value, row) {
  if (column.kind === "number" && typeof value === "number") return String(value).replace("-", "−");
  if (column.kind !== "json") return textOf(column, row);
  try {
    return JSON.stringify(JSON.parse(value), null, 2);
  } catch {
    return value; // shortened, so no JSON any more
  }
}
