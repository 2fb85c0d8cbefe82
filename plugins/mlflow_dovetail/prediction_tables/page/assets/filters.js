// The bar above the table: search, epoch, order, and a list of values for each column of classes.

const LISTED_VALUES = 200;

function makeFilters() {
  const bar = byId("toolbar");
  const name = "Search all columns";
  const search = element("input", { type: "search", id: "search", placeholder: name, "aria-label": name });
  let timer = 0;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      state.words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      refilter();
    }, 120);
  });
  bar.append(search, ...epochSelect(), ...FACETS.map(facetList));
  byId("chips").after(orderSelect());
  document.addEventListener("click", (event) => closeFacets(event.target));
}

/** What a changed filter does: the first page of other rows. */
function refilter() {
  state.page = 0;
  update();
}

function labelled(text, control) {
  return element("label", { className: "labelled" }, element("span", { textContent: text }), control);
}

function epochSelect() {
  if (EPOCH < 0) return [];
  const epochs = [...new Set(COLUMNS[EPOCH].values)].filter((value) => value !== null).sort((a, b) => b - a);
  if (epochs.length < 2) return [];
  const select = element("select", { id: "epoch" });
  for (const epoch of epochs) {
    const text = `${numberText(epoch)}${epoch === DATA.lastEpoch ? " (last)" : ""}`;
    select.append(element("option", { value: epoch, textContent: text }));
  }
  select.append(element("option", { value: "all", textContent: "all" }));
  select.addEventListener("change", () => {
    state.epoch = select.value === "all" ? null : Number(select.value);
    refilter();
  });
  return [labelled("Epoch", select)];
}

function orderSelect() {
  const select = element("select", { id: "order" });
  select.addEventListener("change", () => {
    state.order = select.value;
    refilter();
  });
  return labelled("Order", select);
}

/** The page's order, the logged one, and a column's while the table is sorted by one. */
function drawOrder() {
  const options = [[WORST, DATA.order]];
  if (DATA.order !== "As logged") options.push([LOGGED, "As logged"]);
  if (typeof state.order === "number") {
    options.push(["column", `${COLUMNS[state.order].title}, ${state.descending ? "falling" : "rising"}`]);
  }
  const select = byId("order");
  select.replaceChildren(...options.map(([value, textContent]) => element("option", { value, textContent })));
  select.value = typeof state.order === "number" ? "column" : state.order;
}

function facetList(facet) {
  const summary = element("summary", {}, element("bdi", { textContent: COLUMNS[facet].title }));
  const list = element("details", { className: "facet" }, summary, element("div", { className: "values" }));
  list.dataset.facet = facet;
  list.addEventListener("toggle", () => list.open && drawValues(list));
  list.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !list.open) return;
    list.open = false;
    summary.focus();
  });
  return list;
}

const valueName = (facet, value) =>
  value === null ? "(missing)" : kindOf(COLUMNS[facet]).text(value, COLUMNS[facet]);

/** The values of an open list: in the order of the classes, and the most frequent ones where there are too many. */
function drawValues(list) {
  const facet = Number(list.dataset.facet);
  const chosen = state.facets.get(facet);
  const found = counts.get(facet);
  const all = [...new Set([...chosen, ...COLUMNS[facet].values])];
  const often = all.sort((a, b) => (found.get(b) ?? 0) - (found.get(a) ?? 0)).slice(0, LISTED_VALUES);
  const values = often.sort((a, b) => (a ?? Infinity) - (b ?? Infinity)).map((value) => {
    const box = element("input", { type: "checkbox", checked: chosen.has(value) });
    box.dataset.value = value;
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(value);
      else chosen.delete(value);
      refilter();
    });
    const name = element("bdi", { textContent: valueName(facet, value) });
    const count = element("span", { className: "count", textContent: countText(found.get(value) ?? 0) });
    return element("label", {}, box, name, count);
  });
  if (all.length > often.length) {
    const text = `The ${LISTED_VALUES} most frequent of ${countText(all.length)}; search finds the others.`;
    values.push(element("p", { textContent: text }));
  }
  const focused = document.activeElement?.dataset?.value;
  const box = list.querySelector(".values");
  const scroll = box.scrollTop;
  box.replaceChildren(...values);
  box.classList.remove("leftward"); // of a list at the right edge the counts would be outside
  box.classList.toggle("leftward", box.getBoundingClientRect().right > document.documentElement.clientWidth);
  box.scrollTop = scroll;
  if (focused !== undefined) [...box.querySelectorAll("input")].find((one) => one.dataset.value === focused)?.focus();
}

function closeFacets(target) {
  for (const list of document.querySelectorAll(".facet[open]")) if (!list.contains(target)) list.open = false;
}

function drawFilters() {
  for (const list of document.querySelectorAll(".facet")) {
    list.classList.toggle("active", state.facets.get(Number(list.dataset.facet)).size > 0);
    if (list.open) drawValues(list);
  }
  if (byId("epoch")) byId("epoch").value = state.epoch ?? "all";
  if (!state.words.length && document.activeElement !== byId("search")) byId("search").value = "";
  drawOrder();
  drawChips();
}

function drawChips() {
  const chips = [];
  for (const [facet, chosen] of state.facets) {
    for (const value of chosen) {
      const text = `${COLUMNS[facet].title}: ${valueName(facet, value)}`;
      chips.push(chip(text, `Remove the filter ${text}`, () => chosen.delete(value)));
    }
  }
  if (hasFilters()) chips.push(chip("Clear all", "Clear all filters", clearFilters));
  byId("chips").replaceChildren(...chips);
}

function chip(text, label, remove) {
  const button = element("button", { type: "button", "aria-label": label }, element("bdi", { textContent: text }));
  button.addEventListener("click", () => {
    remove();
    if (!state.words.length) byId("search").value = "";
    refilter();
    (byId("chips").querySelector("button") ?? byId("search")).focus();
  });
  return element("li", {}, button);
}
