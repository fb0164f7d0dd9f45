// @ts-check
/** The command palette: one field for everything that can be gone to or done from this page. The server knows the rights. */
import { announce } from "./voice.js";

/**
 * @typedef {{title: string, sub: string, icon: string, href?: string, act?: () => void}} Entry
 * @typedef {{key: string, title: string, entries: Entry[]}} Section
 */
/** Typing is asked about once it pauses for so long. */
const PAUSE_MS = 120;
const MOST_RECENT = 8;
const STATUSES = new Set(["PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELLED", "SKIPPED"]);
const IS_MAC = /Mac|iP(hone|ad|od)/.test(navigator.platform);

const dialog = /** @type {HTMLDialogElement} */ (document.querySelector("[data-palette]"));
const field = /** @type {HTMLInputElement} */ (dialog.querySelector("[role=combobox]"));
const list = /** @type {HTMLElement} */ (dialog.querySelector("[role=listbox]"));
const note = /** @type {HTMLElement} */ (dialog.querySelector("[data-note]"));
const words = /** @type {Record<string, string>} */ (dialog.dataset);

// -- what was gone to, on this device, for this person

const KEY = `palette:${words.who}`;

/** @returns {Entry[]} */
function recent() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    // Whoever can write here can write a script's address too.
    return kept.filter((/** @type {Entry} */ one) => /^\/(?![/\\])/.test(one.href ?? "") && typeof one.title === "string").slice(0, MOST_RECENT);
  } catch {
    return [];
  }
}

/** @param {Entry} entry */
function remember({ title, sub, icon, href }) {
  const others = recent().filter((one) => one.href !== href);
  try {
    localStorage.setItem(KEY, JSON.stringify([{ title, sub, icon, href }, ...others].slice(0, MOST_RECENT)));
  } catch {
    // A full or forbidden storage remembers nothing.
  }
}

/** A run or definition that somebody opened, from wherever. */
function rememberPage() {
  const known = /^\/(traces|definitions)\/([^/]+)\/$/.exec(location.pathname);
  const title = document.querySelector("main h1")?.textContent?.trim();
  if (!known || !title || document.querySelector("main .empty h1")) return;
  remember({ title, sub: decodeURIComponent(known[2]), icon: known[1] === "traces" ? "tree" : "book", href: location.pathname });
}

// -- what this page itself has

/** The buttons in the head of the page, and those of the task whose details are open. @returns {Entry[]} */
function deeds() {
  const found = [];
  for (const button of shown("main .head .title :is(a.b, button.b)")) found.push(deed(button, words_of(button)));
  const name = document.querySelector(".pane:not([hidden]) h2 bdi")?.textContent?.trim();
  for (const button of name ? shown(".pane:not([hidden]) form[data-control] button[name=action]") : []) {
    found.push(deed(button, words.taskWord.replace("{action}", words_of(button)).replace("{name}", name ?? "")));
  }
  return found;
}

/** @param {string} selector */
const shown = (selector) => [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(selector))]
  .filter((one) => !one.hidden && one.checkVisibility() && one.getAttribute("aria-disabled") !== "true" && !one.closest("[popover]"));

/** @param {Element} part */
const words_of = (part) => (part.textContent ?? "").replace(/\s+/g, " ").trim();

/** @param {HTMLElement} button @param {string} title @returns {Entry} */
const deed = (button, title) => ({ title, sub: "", icon: iconOf(button), act: () => { button.focus(); button.click(); } });

/** Theme and language, by the forms that the bar has for them. @returns {Entry[]} */
function choices() {
  const found = [];
  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("[data-theme-form] button[name=theme]"))) {
    if (button.getAttribute("aria-pressed") === "true") continue;
    found.push({ title: words.themeWord.replace("{name}", words_of(button)), sub: "", icon: iconOf(button), act: () => button.form?.requestSubmit(button) });
  }
  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("[data-language-form] button"))) {
    found.push({ title: words.languageWord.replace("{name}", button.title), sub: "", icon: "out", act: () => button.form?.requestSubmit(button) });
  }
  return found;
}

/** @returns {Entry[]} */
const pages = () => [.../** @type {NodeListOf<HTMLAnchorElement>} */ (dialog.querySelectorAll("[data-palette-pages] a"))]
  .map((link) => ({ title: words_of(link), sub: "", icon: iconOf(link), href: link.getAttribute("href") ?? "/" }));

/** @param {Element} part */
const iconOf = (part) => part.querySelector("use")?.getAttribute("href")?.split("#")[1] ?? "chev";

// -- what fits a text

/** Every word of the text stands in it. @param {Entry} entry @param {string} text */
function fits(entry, text) {
  const all = `${entry.title} ${entry.sub}`.toLowerCase();
  return text.toLowerCase().split(/\s+/).every((word) => all.includes(word));
}

/** @param {string} text @param {Section[]} hits @returns {Section[]} */
function sections(text, hits) {
  const found = [
    { key: "recent", title: words.recent, entries: recent().filter((one) => one.href !== location.pathname) },
    { key: "here", title: words.here, entries: text ? [...deeds(), ...choices()] : deeds() },
    { key: "pages", title: words.pages, entries: pages() },
  ].map((section) => (text ? { ...section, entries: section.entries.filter((entry) => fits(entry, text)) } : section));
  const known = new Set(found[0].entries.map((entry) => entry.href));
  const told = hits.map((section) => ({ ...section, entries: section.entries.filter((entry) => !known.has(entry.href)) }));
  // What the server finds comes behind what is known here, so that it never moves the first one under Enter.
  const all = [...found, ...told];
  if (text) all.push({ key: "", title: "", entries: [everywhere(text)] });
  return all.filter((section) => section.entries.length);
}

/** @param {string} text @returns {Entry} */
const everywhere = (text) => ({ title: words.everywhere.replace("{q}", text), sub: "", icon: "search", href: `${words.searchPage}?${new URLSearchParams({ q: text })}` });

// -- the list

/** @type {Entry[]} */ let entries = [];
let active = -1;
/** The reader has chosen by key or pointer: what comes later must not move the choice. */
let chosen = false;

/** @param {Section[]} all */
function draw(all) {
  const kept = chosen ? keyOf(entries[active]) : "";
  entries = all.flatMap((section) => section.entries);
  list.replaceChildren();
  let at = 0;
  for (const { key, title, entries: own } of all) {
    const options = own.map((entry) => option(entry, at++));
    if (key) list.append(group(key, title, options));
    else list.append(...options);
  }
  const again = kept ? entries.findIndex((entry) => keyOf(entry) === kept) : -1;
  if (again < 0) chosen = false;
  select(again < 0 ? (entries.length ? 0 : -1) : again);
}

/** @param {Entry | undefined} entry */
const keyOf = (entry) => (entry ? `${entry.href ?? ""} ${entry.href ? "" : entry.title}` : "");

/** @param {string} key @param {string} title @param {HTMLElement[]} options */
function group(key, title, options) {
  const part = document.createElement("div"), name = document.createElement("div");
  part.setAttribute("role", "group");
  part.setAttribute("aria-labelledby", `palette-${key}`);
  part.dataset.group = key;
  name.id = `palette-${key}`;
  name.className = "of";
  name.textContent = title;
  name.setAttribute("role", "presentation");
  part.append(name, ...options);
  return part;
}

/** @param {Entry} entry @param {number} at */
function option(entry, at) {
  const part = document.createElement("div"), title = document.createElement("b");
  part.id = `palette-option-${at}`;
  part.setAttribute("role", "option");
  part.setAttribute("aria-selected", "false");
  if (STATUSES.has(entry.icon)) part.dataset.status = entry.icon;
  title.textContent = entry.title;
  title.dir = "auto";
  part.append(icon(entry.icon), title);
  if (entry.sub) {
    const sub = document.createElement("small");
    sub.textContent = entry.sub;
    part.append(sub);
  }
  return part;
}

/** @param {string} name */
function icon(name) {
  const svg = /** @type {SVGElement} */ (dialog.querySelector(".ask-line svg")?.cloneNode(true));
  const use = /** @type {SVGUseElement} */ (svg.querySelector("use"));
  use.setAttribute("href", `${(use.getAttribute("href") ?? "").split("#")[0]}#${/^[\w-]+$/.test(name) ? name : "chev"}`);
  return svg;
}

/** @param {number} at */
function select(at) {
  active = at;
  for (const part of list.querySelectorAll("[aria-selected=true]")) part.setAttribute("aria-selected", "false");
  const part = document.getElementById(`palette-option-${at}`);
  part?.setAttribute("aria-selected", "true");
  part?.scrollIntoView({ block: "nearest" });
  if (part) field.setAttribute("aria-activedescendant", part.id);
  else field.removeAttribute("aria-activedescendant");
}

/** @param {Entry} entry */
function go(entry) {
  dialog.close();
  if (entry.act) return entry.act();
  const href = entry.href ?? "/";
  if (!href.startsWith(words.searchPage)) remember(entry);
  location.assign(href);
}

// -- asking the server

/** @type {Section[]} */ let hits = [];
/** @type {AbortController | null} */ let asking = null;
let timer = 0;

const text = () => field.value.trim();

/** What was found for another text is gone at once, so that Enter never opens it. */
function typed() {
  clearTimeout(timer);
  asking?.abort();
  asking = null;
  hits = [];
  chosen = false;
  note.hidden = true;
  draw(sections(text(), hits));
  list.removeAttribute("aria-busy");
  dialog.dataset.for = text() ? "" : text();
  if (!text()) return;
  list.setAttribute("aria-busy", "true");
  timer = setTimeout(ask, PAUSE_MS);
}

async function ask() {
  const mine = asking = new AbortController();
  const q = text();
  let found = null;
  try {
    const answer = await fetch(`${words.hits}?${new URLSearchParams({ q })}`, { headers: { Accept: "application/json" }, redirect: "manual", signal: mine.signal });
    found = answer.ok ? await answer.json() : null;
  } catch {
    found = null;
  }
  if (asking !== mine) return;
  asking = null;
  list.removeAttribute("aria-busy");
  dialog.dataset.for = q;
  if (!found) return tell(words.away);
  hits = found.groups.map((/** @type {any} */ one) => ({ key: one.key, title: one.title, entries: one.hits }));
  draw(sections(q, hits));
  const n = entries.length - 1;
  announce(n === 1 ? words.one : n ? words.many.replace("{n}", String(n)) : words.none);
  if (!n) tell(words.none, false);
}

/** @param {string} what @param {boolean} [aloud] */
function tell(what, aloud = true) {
  note.textContent = what;
  note.hidden = false;
  if (aloud) announce(what);
}

// -- keys and pointer

function open() {
  if (dialog.open || document.querySelector("dialog[open]")) return;
  /** @type {HTMLElement | null} */ (document.querySelector("[popover]:popover-open"))?.hidePopover();
  field.value = "";
  dialog.showModal();
  field.focus();
  typed();
}

const KEYS = {
  /** @param {number} n */ ArrowDown: (n) => (active + 1) % n,
  /** @param {number} n */ ArrowUp: (n) => (active - 1 + n) % n,
  /** @param {number} n */ PageDown: (n) => Math.min(n - 1, active + 8),
  PageUp: () => Math.max(0, active - 8),
};

field.addEventListener("input", typed);
field.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  const step = /** @type {Record<string, (n: number) => number>} */ (KEYS)[event.key];
  if (step && entries.length) {
    event.preventDefault();
    chosen = true;
    select(step(entries.length));
  } else if (event.key === "Enter" && entries[active]) {
    event.preventDefault();
    go(entries[active]);
  }
});
list.addEventListener("pointermove", (event) => {
  const part = /** @type {HTMLElement} */ (event.target).closest("[role=option]");
  if (!part || part.getAttribute("aria-selected") === "true") return;
  chosen = true;
  select(Number(part.id.split("-")[2]));
});
// The field keeps the focus, whatever is pressed in the list.
list.addEventListener("pointerdown", (event) => event.preventDefault());
list.addEventListener("click", (event) => {
  const part = /** @type {HTMLElement} */ (event.target).closest("[role=option]");
  if (part) go(entries[Number(part.id.split("-")[2])]);
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
dialog.querySelector("[data-close]")?.addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => {
  clearTimeout(timer);
  asking?.abort();
  asking = null;
});
addEventListener("keydown", (event) => {
  // Ctrl+K cuts a line in a field of a Mac.
  const pressed = IS_MAC ? event.metaKey && !event.ctrlKey : event.ctrlKey && !event.metaKey;
  if (event.key.toLowerCase() !== "k" || !pressed || event.altKey || event.shiftKey) return;
  event.preventDefault();
  if (dialog.open) dialog.close();
  else open();
});
for (const link of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-palette-open]"))) {
  link.setAttribute("role", "button");
  link.setAttribute("aria-haspopup", "dialog");
  const key = link.querySelector("kbd");
  if (key && IS_MAC) key.textContent = "⌘ K";
  link.addEventListener("click", (event) => {
    if (/** @type {MouseEvent} */ (event).ctrlKey || /** @type {MouseEvent} */ (event).metaKey) return;
    event.preventDefault();
    open();
  });
  // A link takes Enter; what is said to be a button takes the space bar too.
  link.addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    open();
  });
}
rememberPage();
