// @ts-check
/** The line at the head of the page for tasks that hang nowhere yet. */
import { count } from "../js/marks.js";
import { UNATTACHED } from "./store.js";
import { say, sayCount } from "./words.js";

/** Tasks that are named there. */
const NAMED = 5;

export class Loose {
  /** @param {HTMLElement} page @param {import("./store.js").Store} store */
  constructor(page, store) {
    this.store = store;
    this.place = /** @type {HTMLElement} */ (page.querySelector("[data-loose]"));
    this.number = /** @type {HTMLElement} */ (page.querySelector("[data-loose-count]"));
    this.tasks = /** @type {HTMLElement} */ (page.querySelector("[data-loose-tasks]"));
    this.drawn = "";
  }

  draw() {
    const { store } = this;
    const tops = store.tops.filter((n) => store.over[n] & UNATTACHED);
    const named = tops.slice(0, NAMED).map((n) => [store.ids[n] ?? "", store.name(n)]);
    const key = JSON.stringify([tops.length, named]);
    if (key === this.drawn) return;
    this.drawn = key;
    this.place.hidden = !tops.length;
    this.number.textContent = sayCount("loose", tops.length, count(tops.length));
    this.tasks.replaceChildren(...named.flatMap(([id, name], at) => [at ? ", " : "", link(id, name)]));
    if (tops.length > NAMED) this.tasks.append(` ${say("loose_more", { n: count(tops.length - NAMED) })}`);
  }
}

/** @param {string} id @param {string} name */
function link(id, name) {
  const part = document.createElement("a");
  part.className = "text";
  part.href = `?node=${encodeURIComponent(id)}`;
  part.dataset.show = "";
  part.append(Object.assign(document.createElement("bdi"), { textContent: name }));
  return part;
}
