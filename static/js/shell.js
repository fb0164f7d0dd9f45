// Small conveniences of every page. Each page works without them.
import { paintTime, span } from "./marks.js";
import { announce } from "./voice.js";

/** Times come from the server in UTC; a reader wants them in the own time zone. */
for (const part of document.querySelectorAll("time[datetime][data-local]")) paintTime(part, Date.parse(part.dateTime));

/** What the server has to say is spoken by the one voice of the page. */
const said = [...document.querySelectorAll("[data-say]")].map((part) => part.textContent.trim());
if (said.length) announce(said.join(" "));

/** `[data-since]` (milliseconds) ticks once a second; one clock for the page, none in a hidden tab. */
const sent = Number(document.querySelector("[data-now]")?.dataset.now);
const ahead = sent ? sent - Date.now() : 0;
export const now = () => Date.now() + ahead;
export function tick() {
  for (const part of document.querySelectorAll("[data-since]")) {
    const text = span(now() - Number(part.dataset.since));
    if (part.textContent !== text) part.textContent = text;
  }
}
if (sent) {
  setInterval(() => document.hidden || tick(), 1000);
  document.addEventListener("visibilitychange", tick);
}

/** `[data-copy="#id"]` copies the text of that element. */
async function copy(button) {
  const source = document.querySelector(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    // Without https (or leave) there is no clipboard: select it, so that one key is left to press.
    getSelection().selectAllChildren(source);
    if (!document.execCommand("copy")) return;
  }
  const label = button.querySelector("span") ?? button;
  const before = label.textContent;
  label.textContent = button.dataset.copied;
  announce(button.dataset.copied);
  setTimeout(() => { label.textContent = before; }, 2000);
}
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}

/** The theme changes in place, so that a page with a live tree need not be loaded again. */
const theme = document.querySelector("[data-theme-form]");
theme?.addEventListener("submit", (event) => {
  event.preventDefault();
  const chosen = event.submitter.value;
  const body = new FormData(theme, event.submitter);
  document.documentElement.dataset.theme = chosen;
  for (const button of theme.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.value === chosen));
  theme.hidePopover();
  fetch(theme.action, { method: "POST", body, redirect: "manual" });
});

/** What is selected and filtered moves the address without a reload: it goes along. */
document.querySelector("[data-language-form]")?.addEventListener("submit", (event) => {
  event.target.elements.next.value = location.pathname + location.search + location.hash;
});

/** A choice in a filter acts at once; without scripts there is a button for it. */
for (const form of document.querySelectorAll("form[data-filters]")) {
  for (const part of form.querySelectorAll("[data-apply]")) part.hidden = true;
  form.addEventListener("change", (event) => event.target.matches("select") && form.requestSubmit());
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  });
}
// Back brings the page as it was left: with those fields still disabled.
addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("form[data-filters] :disabled")) field.disabled = false;
});

/** `/` leads to the search of the page, unless the reader is writing. */
addEventListener("keydown", (event) => {
  const search = document.querySelector("[data-search]");
  const writing = document.activeElement?.matches("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || writing || !search) return;
  event.preventDefault();
  search.focus();
  search.select();
});

if (document.querySelector(".trace[data-trace]")) import("./beside.js");
