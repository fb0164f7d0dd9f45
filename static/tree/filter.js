// @ts-check
/** The search and the chips over the tree: what is kept, how many, the next of them. */
import { count } from "../js/marks.js";
import { announce, toast } from "../js/voice.js";
import { address } from "./address.js";
import { STATUSES } from "./store.js";
import { say, sayCount } from "./words.js";

/** The tower is asked once nothing more was typed for so long. */
const TYPING_MS = 200;

export class Filter {
  /**
   * @param {HTMLElement} page @param {import("./order.js").Order} order @param {import("./rows.js").Rows} rows
   * @param {(n: number) => void} select
   */
  constructor(page, order, rows, select) {
    this.page = page;
    this.order = order;
    this.rows = rows;
    this.select = select;
    const part = (/** @type {string} */ selector) => /** @type {HTMLElement} */ (page.querySelector(selector));
    this.search = /** @type {HTMLInputElement} */ (part("[data-search]"));
    this.found = part("[data-found]");
    this.clearing = part("[data-clear]");
    this.none = part("[data-none]");
    /** Nothing of the answer of the tower is known yet; it found more than it says. */
    this.waiting = this.cutOff = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */ this.typing = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */ this.sifting = undefined;
  }

  /** @param {string} text @param {number | null} status */
  set(text, status) {
    const { order } = this;
    order.filter(text, status);
    for (const chip of /** @type {NodeListOf<HTMLElement>} */ (this.page.querySelectorAll("[data-filter]"))) {
      const on = status !== null && chip.dataset.filter === STATUSES[status];
      if (chip.hasAttribute("aria-pressed")) chip.setAttribute("aria-pressed", String(on));
      else if (on) chip.setAttribute("aria-current", "true");
      else chip.removeAttribute("aria-current");
    }
    address({ q: text || null, status: status === null ? null : STATUSES[status] });
    clearTimeout(this.typing);
    this.waiting = order.query.asks !== "";
    this.cutOff = false;
    if (this.waiting) this.typing = setTimeout(() => this.#lookUp(), TYPING_MS);
    this.rows.draw();
  }

  clear() {
    this.search.value = "";
    this.order.only = null;
    this.set("", null);
  }

  /** For what shows more than a filter keeps. */
  leave() {
    if (this.order.kept) this.clear();
  }

  /** What only the tower knows: labels, errors, messages. */
  async #lookUp() {
    const { query } = this.order;
    let found = { found: /** @type {number[]} */ ([]), more: false };
    try {
      const response = await fetch(`${this.page.dataset.find}?q=${encodeURIComponent(query.asks)}`, { headers: { Accept: "application/json" }, credentials: "same-origin" });
      if (!response.ok) throw new Error(String(response.status));
      found = await response.json();
    } catch {
      if (query === this.order.query) toast(say("not_searched"), { tone: "bad" });
    }
    if (query !== this.order.query) return; // overtaken by what was typed since
    this.order.answer = new Set(found.found);
    this.order.dirty = true;
    this.waiting = false;
    this.cutOff = found.more;
    this.rows.draw();
  }

  /** What changes with the status of tasks is looked at once a second: a filter by it, lists. Rows do not flicker in and out. */
  sift() {
    if (this.order.wanted === null && this.order.view === "tree") return;
    this.sifting ??= setTimeout(() => {
      this.sifting = undefined;
      this.order.dirty = true;
      this.rows.draw();
    }, 1000);
  }

  /** @param {1 | -1} way */
  next(way) {
    const { order, rows } = this;
    order.rebuild();
    const hits = Array.from(order.rows.subarray(0, order.length)).filter((n) => order.matches(n));
    if (!hits.length) return announce(say("found_n", { n: 0 }));
    const from = order.at(rows.current);
    const later = hits.findIndex((n) => order.at(n) > from), earlier = hits.findLastIndex((n) => order.at(n) < from);
    // The first press goes to the first match, also where the current row is it.
    const unseen = rows.selected < 0 || !order.matches(rows.selected);
    const at = way > 0 ? (unseen && order.matches(rows.current) ? hits.indexOf(rows.current) : Math.max(0, later)) : earlier < 0 ? hits.length - 1 : earlier;
    this.select(hits[at]);
    announce(say("match_of", { n: count(at + 1), all: count(hits.length) }));
  }

  draw() {
    const { order } = this;
    this.clearing.hidden = order.kept === null;
    this.none.hidden = order.length > 0;
    const why = order.kept ? "none_found" : order.view === "failures" ? "no_failed" : "none_yet";
    if (!this.none.hidden && this.none.firstElementChild) this.none.firstElementChild.textContent = say(why);
    this.#tell(order.kept && order.searching ? (this.waiting ? say("searching") : sayCount("found", order.found, count(order.found) + (this.cutOff ? "+" : ""))) : "");
  }

  /** How much was found; spoken to those who are searching. @param {string} text */
  #tell(text) {
    if (this.found.textContent === text) return;
    this.found.textContent = text;
    if (text && document.activeElement === this.search) announce(text);
  }
}
