// @ts-check
/** Where bars begin and end. The scale grows in steps, so that bars do not creep with each frame. */
import { span } from "../js/marks.js";
import { RUNNING } from "./store.js";

const SVG = "http://www.w3.org/2000/svg";
/** Round times for the axis, in milliseconds; the server knows the same (instances/outline.py). */
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 604800, 2592000, 7776000, 31536000, 315360000].map((s) => s * 1000);
/** More than this share of the time would be beyond the right edge: grow. */
const HEADROOM = 1.1;

export class Waterfall {
  /** @param {import("./store.js").Store} store @param {SVGElement | null} axis @param {HTMLElement} over */
  constructor(store, axis, over) {
    this.store = store;
    this.axis = axis;
    this.over = over;
    this.from = 0;
    this.to = 1000;
    this.now = 0;
    /** Raised with each change of the scale. */
    this.epoch = 0;
    /** @type {{from: number, to: number | null, label: string}[]} */ this.bands = [];
  }

  /** Looks at the clock; true where the scale has changed. @param {number} now */
  tick(now) {
    this.now = now;
    const { store } = this;
    const running = store.totals[RUNNING] > 0;
    const from = Number.isFinite(store.from) ? store.from : now;
    const last = Math.max(from + 1000, Number.isFinite(store.to) ? store.to : from, running ? now : from);
    const width = this.to - this.from;
    const fits = from === this.from && last <= this.to && last >= this.from + width / (HEADROOM * 1.5) && (running || last === this.to);
    if (fits) {
      this.#placeNow(running);
      return false;
    }
    this.from = from;
    this.to = running ? from + (last - from) * HEADROOM : last;
    this.epoch++;
    this.#drawAxis();
    this.#drawBands();
    this.#placeNow(running);
    return true;
  }

  /** Percent. @param {number} ms */
  at(ms) {
    return (100 * (ms - this.from)) / (this.to - this.from);
  }

  /**
   * The bar of a row: percent, and the time that it stands for; null without one.
   * `below` marks what only its children have made: the span of them.
   * @param {number} n
   */
  bar(n) {
    const { store } = this;
    let start = store.start[n], below = false;
    if (Number.isNaN(start)) {
      if (!Number.isFinite(store.spanFrom[n])) return null;
      start = store.spanFrom[n];
      below = true;
    }
    const open = store.status[n] <= RUNNING;
    let end = store.end[n];
    if (Number.isNaN(end)) end = open ? this.now : Math.max(start, store.spanTo[n]);
    end = Math.max(start, end);
    const gap = Math.max(0, Math.min(100, this.at(start)));
    return { gap, width: Math.max(0, Math.min(100 - gap, this.at(end) - gap)), spent: end - start, below };
  }

  #drawAxis() {
    if (!this.axis) return;
    const width = this.to - this.from;
    const step = STEPS.find((s) => width / s <= 6) ?? STEPS[STEPS.length - 1];
    const marks = [];
    for (let at = 0; at < width && marks.length < 60; at += step) {
      const text = document.createElementNS(SVG, "text");
      text.setAttribute("x", `${((100 * at) / width).toFixed(2)}%`);
      text.setAttribute("dx", "5");
      text.setAttribute("y", "19");
      text.textContent = span(at);
      marks.push(text);
    }
    this.axis.replaceChildren(...marks);
  }

  /** @param {{from: number, to: number | null, label: string}[]} bands */
  setBands(bands) {
    this.bands = bands;
    this.#drawBands();
    this.#placeNow(this.store.totals[RUNNING] > 0);
  }

  #drawBands() {
    this.over.replaceChildren();
    if (!Number.isFinite(this.store.from)) return;
    for (const band of this.bands) {
      const to = band.to ?? this.now;
      if (to < this.from || band.from > this.to) continue;
      const part = document.createElement("div");
      part.className = "band";
      part.dataset.open = String(band.to === null);
      const left = Math.max(0, this.at(band.from));
      part.style.left = `${left}%`;
      part.style.width = `${Math.max(0, Math.min(100, this.at(to)) - left)}%`;
      const label = document.createElement("em");
      label.textContent = band.label;
      part.append(label);
      this.over.append(part);
    }
    this.line = document.createElement("div");
    this.line.className = "now";
    this.over.append(this.line);
  }

  /** @param {boolean} running */
  #placeNow(running) {
    if (!this.line) this.#drawBands();
    if (!this.line) return;
    const at = `${Math.min(100, this.at(this.now))}%`;
    this.line.hidden = !running;
    if (this.line.style.left !== at) this.line.style.left = at;
    for (const band of /** @type {NodeListOf<HTMLElement>} */ (this.over.querySelectorAll(".band[data-open=true]"))) {
      band.style.width = `${Math.max(0, Math.min(100, this.at(this.now)) - parseFloat(band.style.left))}%`;
    }
  }
}
