"use strict";
// The page is whole without this: it adds tabs, filters and enlarging. Text is only ever compared or moved as nodes.
const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

const sections = all(".examples");
const tabs = all("[role=tab]");
const search = one("#search");
const label = one("#label");
const dialog = one("dialog");
const words = new Map(all(".card").map((card) => [card, card.textContent.toLowerCase()]));
let current = null;

function fitting(card) {
  const wanted = search.value.trim().toLowerCase();
  return (!wanted || words.get(card).includes(wanted)) && (!label || !label.value || card.dataset.label === label.value);
}

function filter() {
  for (const section of sections) {
    const cards = all(".card", section);
    let shown = 0;
    for (const card of cards) {
      card.hidden = !fitting(card);
      shown += !card.hidden;
    }
    if (!section.hidden) one("#shown").textContent = `${shown} of ${cards.length} shown`;
  }
}

function open(key, focus) {
  for (const section of sections) section.hidden = section.id !== key;
  for (const tab of tabs) {
    const chosen = tab.dataset.tab === key;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    if (chosen && focus) tab.focus();
  }
  filter();
}

function enlarge(card) {
  current = card;
  const copy = card.cloneNode(true);
  const look = one(".look", copy);
  const plain = document.createElement("div");
  plain.className = "look";
  plain.append(...look.childNodes);
  look.replaceWith(plain);
  one(".large").replaceChildren(copy);
  if (!dialog.open) dialog.showModal();
}

function step(by) {
  const cards = all(".card", current.closest(".examples")).filter((card) => !card.hidden);
  const next = cards[cards.indexOf(current) + by];
  if (next) enlarge(next);
}

for (const [number, tab] of tabs.entries()) {
  tab.addEventListener("click", () => open(tab.dataset.tab));
  tab.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by) open(tabs[(number + by + tabs.length) % tabs.length].dataset.tab, true);
  });
}
for (const card of all(".card")) one(".look", card).addEventListener("click", () => enlarge(card));
for (const button of all(".choose")) {
  button.addEventListener("click", () => {
    label.value = button.dataset.label;
    filter();
    one(".tools").scrollIntoView();
  });
}
for (const button of all("button[disabled]")) button.disabled = false;
search.addEventListener("input", filter);
if (label) label.addEventListener("change", filter);
one(".before").addEventListener("click", () => step(-1));
one(".after").addEventListener("click", () => step(1));
one(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
dialog.addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (by) step(by);
});
dialog.addEventListener("close", () => one(".look", current).focus());

one(".tools").hidden = false;
document.documentElement.classList.add("live");
open((sections.find((section) => one(".card", section)) || sections[0]).id);
