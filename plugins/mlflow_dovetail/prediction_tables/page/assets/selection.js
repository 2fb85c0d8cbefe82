// Which rows are shown, and in which order.

const FACETS = [...COLUMNS.keys()].filter(
  (i) => ["class", "result"].includes(COLUMNS[i].kind) && COLUMNS[i].values.some((value) => value !== null),
);

const WORST = "worst";
const LOGGED = "logged";

const state = {
  words: [],
  epoch: DATA.lastEpoch,
  facets: new Map(FACETS.map((i) => [i, new Set()])),
  order: WORST,
  descending: false,
  page: 0,
  pageSize: 50,
};

// What select() found: rows in order, and for each facet how many rows each value would give.
let shown = [];
let counts = new Map();

let haystacks = null;

/** All that a row says, in small letters; made at the first search. */
function haystack(row) {
  haystacks ??= Array.from({ length: DATA.size }, (_, i) =>
    COLUMNS.map((column) => textOf(column, i)).join("\n").toLowerCase(),
  );
  return haystacks[row];
}

/** Conditions that a row must meet; a facet's has its column beside it, null is of none. */
function conditions() {
  const found = [];
  if (state.words.length) found.push([null, (row) => state.words.every((word) => haystack(row).includes(word))]);
  if (state.epoch !== null) found.push([null, (row) => COLUMNS[EPOCH].values[row] === state.epoch]);
  for (const [facet, chosen] of state.facets) {
    if (chosen.size) found.push([facet, (row) => chosen.has(COLUMNS[facet].values[row])]);
  }
  return found;
}

/** Find the rows; a facet counts those that meet every condition but its own. */
function select() {
  const wanted = conditions();
  shown = [];
  counts = new Map(FACETS.map((facet) => [facet, new Map()]));
  for (let row = 0; row < DATA.size; row++) {
    const failed = [];
    for (const [facet, holds] of wanted) {
      if (!holds(row)) failed.push(facet);
      if (failed.length > 1) break;
    }
    if (!failed.length) shown.push(row);
    if (failed.length > 1 || failed[0] === null) continue;
    for (const [facet, found] of counts) {
      if (failed.length && failed[0] !== facet) continue;
      const value = COLUMNS[facet].values[row];
      found.set(value, (found.get(value) ?? 0) + 1);
    }
  }
  sort();
}

function sort() {
  const rank = state.order === LOGGED ? DATA.rows : DATA.rank;
  shown.sort((a, b) => rank[a] - rank[b]);
  if (typeof state.order !== "number") return;
  const column = COLUMNS[state.order];
  const key = kindOf(column).key;
  const sign = state.descending ? -1 : 1;
  const keyed = shown.map((row) => [column.values[row] === null ? null : key(column.values[row], column), row]);
  const missing = (value) => value === null || Number.isNaN(value);
  const known = keyed.filter(([value]) => !missing(value));
  const collator = new Intl.Collator("en", { numeric: true });
  const compare = column.kind in KINDS ? (a, b) => (a < b ? -1 : a > b ? 1 : 0) : collator.compare;
  known.sort(([a], [b]) => sign * compare(a, b));
  // What is missing is neither small nor great: it comes last in both directions.
  shown = [...known, ...keyed.filter(([value]) => missing(value))].map(([, row]) => row);
}

const hasFilters = () =>
  state.words.length > 0 || state.epoch !== DATA.lastEpoch || [...state.facets.values()].some((one) => one.size);

function clearFilters() {
  state.words = [];
  state.epoch = DATA.lastEpoch;
  for (const chosen of state.facets.values()) chosen.clear();
}
