// @ts-check
/** The whole tree on 96 pixels beside it: per line of pixels the share of each status, failures in a lane of their own. */
import { BAR_ORDER } from "../js/marks.js";
import { SMALL } from "./order.js";
import { FAILED, STATUSES } from "./store.js";

/** Pixels from the left: of the shares, of the lane of failures. */
const LEFT = 6, SHARES = 72, LANE = 82, LANE_WIDTH = 6;
/** A row takes no more pixels than this. */
const MOST = 8;
/** Drawn at most so often, in milliseconds. */
const PAUSE = 500;
/** Even one failure among many can be seen. */
const FAINTEST = 0.25;
const KEY = "map", WIDTH = STATUSES.length;

/**
 * What each line of pixels stands for, by status; a folded row stands for all below it.
 * @param {import("./order.js").Order} order @param {number} room pixels @returns {Int32Array}
 */
export function lines(order, room) {
  const { store, length } = order, used = Math.min(room, length * MOST), counts = new Int32Array(used * WIDTH);
  const add = (/** @type {number} */ place, /** @type {number} */ task, /** @type {boolean} */ folded) => {
    counts[place + store.status[task]]++;
    if (!folded) return;
    const below = store.below(task);
    for (let s = 0; s < WIDTH; s++) counts[place + s] += below[s];
  };
  const addRow = (/** @type {number} */ place, /** @type {number} */ row) => {
    const group = order.group(row);
    if (!group) add(place, row, order.folds(row) && !order.isOpen(row));
    else if (!group.open) for (const task of group.members) add(place, task, order.folds(task));
  };
  if (length < used) for (let y = 0; y < used; y++) addRow(y * WIDTH, order.rows[Math.floor((y * length) / used)]);
  else for (let at = 0; at < length; at++) addRow(Math.floor((at * used) / length) * WIDTH, order.rows[at]);
  return counts;
}

export class Minimap {
  /**
   * @param {HTMLElement} page @param {import("./store.js").Store} store @param {import("./order.js").Order} order
   * @param {import("./rows.js").Rows} rows @param {() => void} moved by hand
   */
  constructor(page, store, order, rows, moved) {
    this.store = store;
    this.order = order;
    this.rows = rows;
    this.place = /** @type {HTMLElement} */ (page.querySelector(".map"));
    this.canvas = /** @type {HTMLCanvasElement} */ (this.place.querySelector("canvas"));
    this.window = /** @type {HTMLElement} */ (this.place.querySelector("span"));
    this.button = /** @type {HTMLElement} */ (page.querySelector("[data-map]"));
    this.colours = STATUSES.map((status) => {
      const one = document.createElement("i");
      one.dataset.status = status;
      this.place.append(one);
      return one;
    });
    // Asked for with each frame.
    this.kept = localStorage.getItem(KEY);
    this.room = this.used = 0;
    this.drawn = "";
    this.at = -Infinity;
    /** @type {ReturnType<typeof setTimeout> | undefined} */ this.waiting = undefined;
    new ResizeObserver(() => this.#measure()).observe(this.canvas);
    for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) matchMedia(query).addEventListener("change", () => this.draw(true));
    this.#hear(moved);
    rows.afterDraw.push(() => this.draw());
  }

  /** Shown by itself where a tree is large, until somebody decides. */
  get wanted() {
    return this.kept ? this.kept === "on" : this.store.total > SMALL;
  }

  toggle() {
    this.kept = this.place.hidden ? "on" : "off";
    localStorage.setItem(KEY, this.kept);
    this.draw(true);
    this.rows.draw();
  }

  #measure() {
    const ratio = devicePixelRatio || 1;
    this.room = this.canvas.clientHeight;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.room * ratio);
    this.canvas.getContext("2d")?.scale(ratio, ratio);
    // Another size has wiped the paper: it does not wait its turn.
    this.at = -Infinity;
    this.draw(true);
  }

  /** @param {boolean} [anew] also where nothing changed */
  draw(anew = false) {
    const { wanted } = this;
    if (this.place.hidden === wanted) {
      this.place.hidden = !wanted;
      // By a class: `:has()` up here would be asked anew for every row that comes into view.
      this.place.parentElement?.classList.toggle("mapped", wanted);
      this.button.setAttribute("aria-pressed", String(wanted));
    }
    if (!wanted || !this.room) return;
    const state = `${this.store.seq} ${this.store.epoch} ${this.order.built}`;
    if (anew) this.drawn = "";
    if (state !== this.drawn) {
      const wait = this.at + PAUSE - performance.now();
      if (wait <= 0) this.#draw(state);
      else this.waiting ??= setTimeout(() => this.#waited(), wait);
    }
    this.#showWindow();
  }

  /** A timer may come a little early: then another one is needed. */
  #waited() {
    this.waiting = undefined;
    this.draw();
  }

  /** @param {string} state */
  #draw(state) {
    clearTimeout(this.waiting);
    this.waiting = undefined;
    this.drawn = state;
    this.at = performance.now();
    const paper = this.canvas.getContext("2d"), counts = lines(this.order, this.room);
    this.used = counts.length / WIDTH;
    if (!paper) return;
    // From the style sheet, so that themes and forced colours hold here too.
    const colours = this.colours.map((one) => getComputedStyle(one).color);
    paper.clearRect(0, 0, this.canvas.clientWidth, this.room);
    for (let y = 0; y < this.used; y++) {
      const line = counts.subarray(y * WIDTH, (y + 1) * WIDTH), all = line.reduce((a, b) => a + b, 0);
      let x = LEFT;
      for (const name of all ? BAR_ORDER : []) {
        const status = STATUSES.indexOf(name), width = (SHARES * line[status]) / all;
        if (!width) continue;
        paper.fillStyle = colours[status];
        paper.fillRect(x, y, width, 1);
        x += width;
      }
      if (!line[FAILED]) continue;
      paper.globalAlpha = Math.max(FAINTEST, Math.sqrt(line[FAILED] / all));
      paper.fillStyle = colours[FAILED];
      paper.fillRect(LANE, y, LANE_WIDTH, 1);
      paper.globalAlpha = 1;
    }
  }

  /** What of the tree is in view. */
  #showWindow() {
    const { top, height } = this.rows.seen, all = this.order.length * this.rows.height;
    const scale = all ? this.used / all : 0, tall = Math.max(4, Math.min(this.used, height * scale));
    const from = Math.max(0, Math.min(this.used - tall, top * scale));
    const style = `${from.toFixed(1)} ${tall.toFixed(1)}`;
    if (this.window.dataset.at === style) return;
    this.window.dataset.at = style;
    this.window.style.transform = `translateY(${from.toFixed(1)}px)`;
    this.window.style.height = `${tall.toFixed(1)}px`;
  }

  /** @param {() => void} moved */
  #hear(moved) {
    let held = false;
    const go = (/** @type {PointerEvent} */ event) => {
      const y = event.clientY - this.canvas.getBoundingClientRect().top, { scroller, seen, height } = this.rows;
      if (this.used) scroller.scrollTop = (y / this.used) * this.order.length * height - seen.height / 2;
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      held = true;
      this.canvas.setPointerCapture(event.pointerId);
      moved();
      go(event);
    });
    this.canvas.addEventListener("pointermove", (event) => held && go(event));
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => { held = false; });
  }
}
