// @ts-check
/** JSON on pages that are not about one task: what stands there as text is shown as a tree once somebody looks at it. */
import { JsonView } from "./json-view.js";

/** @type {Record<string, string>} */
const words = JSON.parse(document.getElementById("words")?.textContent ?? "{}");

/** @param {string} key @param {Record<string, string | number>} [values] */
const say = (key, values) => (words[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => String(values?.[name] ?? whole));

/** A text that is no JSON stays as it is. @param {HTMLElement} place @param {Element} source */
function show(place, source) {
  if (place.childElementCount) return;
  try {
    new JsonView(place, say).show(source.textContent ?? "");
  } catch {
    place.replaceChildren();
    return;
  }
  source.closest("[data-json-source]")?.dispatchEvent(new Event("shown"));
}

for (const place of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-json]"))) {
  const holder = place.parentElement, source = holder?.querySelector("[data-json-source] pre, pre[data-json-source]");
  const fold = place.closest("details");
  if (!source) continue;
  source.closest("[data-json-source]")?.addEventListener("shown", (event) => {
    const part = /** @type {HTMLElement} */ (event.target);
    // What came stands below, for whoever wants each letter of it; a payload is written out by the tower itself.
    if (part instanceof HTMLDetailsElement) part.open = false;
    else part.hidden = true;
  });
  // A page of the log has 50 payloads of up to 64 KiB.
  if (fold) fold.addEventListener("toggle", () => fold.open && show(place, source));
  else show(place, source);
}
