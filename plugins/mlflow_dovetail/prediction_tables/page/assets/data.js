"use strict";

// The rows of the page, column by column, and how a value of each kind reads.

const DATA = JSON.parse(document.getElementById("data").textContent);
const COLUMNS = DATA.columns;

// The first rows brought their images with them, so that they are in the page once.
for (const image of document.querySelectorAll("#examples img")) DATA.images[image.dataset.image] = image.src;

const byId = (id) => document.getElementById(id);
const countText = (value) => value.toLocaleString("en");
const rowsText = (value) => `${countText(value)} ${value === 1 ? "row" : "rows"}`;

/** A share in percent, without the sign; what is not quite nothing or all is not rounded to it. */
function shareText(value) {
  if (value > 0 && value < 0.0005) return "<0.1";
  if (value < 1 && value >= 0.9995) return ">99.9";
  return (value * 100).toFixed(1);
}

const SPECIAL = { Infinity: "∞", "-Infinity": "−∞", NaN: "NaN" };

/** An element; keys with a dash are attributes, the others properties. Text goes in as text and never as markup. */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-")) made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

/** Few pixels are shown as they are; a photograph's thumbnail is not improved by squares. */
function drawPixels(image) {
  image.classList.toggle("pixels", Math.max(image.naturalWidth, image.naturalHeight) <= 32);
}

/** As wording.py writes numbers; a text is a number that a script cannot hold. */
function numberText(value) {
  if (typeof value === "string") return SPECIAL[value] ?? value.replace("-", "−");
  const size = Math.abs(value);
  let text = value.toFixed(4);
  if (Number.isInteger(value)) text = countText(value);
  else if (size < 1e-3 || size >= 1e9) text = value.toExponential(2);
  else if (size >= 1000) text = value.toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  return value < 0 ? text.replace("-", "−") : text;
}

const classesOf = (column) => column.classes ?? DATA.classes;

/** Pairs of a class's code and its probability, the greatest first. */
function pairs(value) {
  const found = [];
  for (let i = 0; i < value.length; i += 2) found.push([value[i], value[i + 1]]);
  return found;
}

// `text` is what is shown and searched, `key` what is sorted by.
const KINDS = {
  image: { text: (value) => DATA.digests[value], key: (value) => value },
  class: { text: (value, column) => classesOf(column)[value], key: (value) => value },
  result: { text: (value) => (value ? "Correct" : "Wrong"), key: (value) => value },
  share: { text: shareText, key: (value) => value },
  number: { text: numberText, key: Number },
  probabilities: {
    text: (value, column) =>
      pairs(value)
        .map(([code, share]) => `${classesOf(column)[code]} ${shareText(share)}`)
        .join(" · "),
    key: (value) => value[1] ?? null,
  },
};
const TEXT = { text: (value) => value, key: (value) => value };
const kindOf = (column) => KINDS[column.kind] ?? TEXT;
const isNumeric = (column) => ["number", "share", "probabilities"].includes(column.kind);

/** What a row has in a column, for people; empty where it is missing. */
function textOf(column, row) {
  const value = column.values[row];
  return value === null ? "" : kindOf(column).text(value, column);
}

const columnOf = (name) => COLUMNS.findIndex((column) => column.name === name);
const RESULT = COLUMNS.findIndex((column) => column.kind === "result");
const LABEL = columnOf("label");
const PREDICTION = columnOf("prediction");
const EPOCH = DATA.lastEpoch === null ? -1 : columnOf("epoch");
