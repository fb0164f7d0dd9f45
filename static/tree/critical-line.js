// @ts-check
/** The critical path over the tree: underlined, told in one line, alone where that is asked for. */
import { count, span } from "../js/marks.js";
import { announce } from "../js/voice.js";
import { address, said } from "./address.js";
import { criticalPath } from "./critical.js";
import { say, sayCount } from "./words.js";

/** A path is looked for anew at most once a second, and for a twentieth of the time: one of 100,000 tasks in a row takes 0.1 s. */
const SHARE = 20;

export class CriticalLine {
  /**
   * @param {HTMLElement} page @param {import("./store.js").Store} store @param {import("./order.js").Order} order
   * @param {import("./rows.js").Rows} rows @param {import("./waterfall.js").Waterfall} waterfall
   */
  constructor(page, store, order, rows, waterfall) {
    this.store = store;
    this.order = order;
    this.rows = rows;
    this.waterfall = waterfall;
    const part = (/** @type {string} */ selector) => /** @type {HTMLElement} */ (page.querySelector(selector));
    this.button = part("[data-path]");
    this.line = part("[data-critical]");
    this.words = part("[data-critical] [data-words]");
    this.alone = part("[data-path-rows]");
    this.shown = false;
    this.seq = -1;
    this.due = 0;
  }

  /** As the address says. */
  open() {
    const asked = said("path");
    if (asked === "shown" || asked === "rows") this.set(true, asked === "rows");
  }

  toggle() {
    this.set(!this.shown, false);
    announce(this.shown ? this.words.textContent ?? "" : say("path_off"));
  }

  toggleRows() {
    this.set(true, this.order.only === null);
    announce(this.words.textContent ?? "");
  }

  /** @param {boolean} shown @param {boolean} alone only its rows */
  set(shown, alone) {
    const { order } = this;
    this.shown = shown;
    if (shown) this.#find();
    else this.waterfall.setPath(null);
    order.only = shown && alone ? this.waterfall.path?.steps ?? null : null;
    order.dirty = true;
    this.draw();
    this.rows.draw();
  }

  /** Once a second: it grows with the time, and moves with what ends. */
  tick() {
    if (this.shown && (this.waterfall.path?.open || this.seq !== this.store.seq) && performance.now() >= this.due) this.renew();
  }

  renew() {
    if (!this.shown) return;
    this.#find();
    if (!this.order.only || !this.waterfall.path) return;
    this.order.only = this.waterfall.path.steps;
    this.order.dirty = true;
  }

  #find() {
    const { store, waterfall } = this, begun = performance.now();
    const path = criticalPath(store, waterfall.now);
    waterfall.setPath(path);
    this.seq = store.seq;
    this.due = performance.now() + SHARE * (performance.now() - begun);
    // Rounded down: 100 % is all of it.
    const share = Math.floor((100 * path.spent) / path.whole), open = path.open ? "_open" : "";
    this.words.textContent = path.tasks
      ? sayCount(`path${open}`, path.tasks, count(path.tasks)).replace("{time}", span(path.spent)).replace("{share}", String(share))
      : say(`path_none${open}`);
  }

  /** Also what a search, a jump or the end of the filter made of it. */
  draw() {
    const alone = this.order.only !== null;
    this.button.setAttribute("aria-pressed", String(this.shown));
    this.alone.setAttribute("aria-pressed", String(alone));
    this.line.hidden = !this.shown;
    const now = this.shown ? (alone ? "rows" : "shown") : null;
    if (now !== said("path")) address({ path: now });
  }
}
