// @ts-check
/** Where bars begin and end. The scale grows in steps, so that bars do not creep with each frame. */
import { span } from "../js/marks.js";
import { PENDING, RUNNING } from "./store.js";

const SVG = "http://www.w3.org/2000/svg";
/** Round times for the axis, in milliseconds; the server knows the same (instances/outline.py). */
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 604800, 2592000, 7776000, 31536000, 315360000].map((s) => s * 1000);
/** More than this share of the time would be beyond the right edge: grow. */
const HEADROOM = 1.1;
/** Pixels that a time on the axis needs. */
const LABEL = 40;
/** No closer look than this, in milliseconds. */
const CLOSEST = 1000;
/** Lines of labels of bands above each other; further ones stay without. */
const LANES = 5;

/** @typedef {{action: string, from: number, to: number | null, label: string}} Band */

export class Waterfall {
  /** @param {import("./store.js").Store} store @param {SVGElement | null} axis @param {HTMLElement} over */
  constructor(store, axis, over) {
    this.store = store;
    this.axis = axis;
    this.over = over;
    /** What is shown. */
    this.from = 0;
    this.to = 1000;
    /** All that there is to show. */
    this.begin = 0;
    this.finish = 1000;
    /** Whether a part of it was chosen. */
    this.zoomed = false;
    this.now = 0;
    /** Raised with each change of the scale. */
    this.epoch = 0;
    /** @type {Band[]} */ this.bands = [];
  }

  get #running() {
    return this.store.totals[RUNNING] > 0;
  }

  /** Looks at the clock; true where the scale has changed. @param {number} now */
  tick(now) {
    this.now = now;
    const { store } = this, running = this.#running;
    const begin = Number.isFinite(store.from) ? store.from : now;
    // Where work goes on, the clock of an actor that is ahead does not stretch the scale.
    const last = Math.max(begin + 1000, running ? now : Number.isFinite(store.to) ? store.to : begin);
    const width = this.finish - this.begin;
    const fits = begin === this.begin && last <= this.finish && last >= this.begin + width / (HEADROOM * 1.5) && (running || last === this.finish);
    if (fits) {
      this.#placeNow();
      return false;
    }
    this.begin = begin;
    this.finish = running ? begin + (last - begin) * HEADROOM : last;
    if (this.zoomed) this.#placeNow();
    else this.#show(this.begin, this.finish);
    return true;
  }

  /** Something ended since the last tick: the present is then as late as that. @param {number} now */
  catchUp(now) {
    const last = Math.min(now, this.store.to);
    if (!this.#running || !(last > this.now)) return;
    this.now = last;
    this.#placeNow();
  }

  /** @param {number} from @param {number} to */
  #show(from, to) {
    this.from = from;
    this.to = to;
    this.epoch++;
    this.#drawAxis();
    this.#drawBands();
    this.#placeNow();
  }

  /** Shows this part of the time, as far as there is one; all of it without. @param {number} [from] @param {number} [to] */
  zoom(from = this.begin, to = this.finish) {
    const width = Math.min(this.finish - this.begin, Math.max(CLOSEST, to - from));
    const left = Math.max(this.begin, Math.min(this.finish - width, from));
    this.zoomed = width < this.finish - this.begin;
    this.#show(left, left + width);
  }

  /** Closer (above 1) or wider around a moment. @param {number} by @param {number} [around] */
  scale(by, around = (this.from + this.to) / 2) {
    const width = (this.to - this.from) / by, share = (around - this.from) / (this.to - this.from);
    this.zoom(around - width * share, around + width * (1 - share));
  }

  /** @param {number} by a share of what is shown */
  pan(by) {
    const step = (this.to - this.from) * by;
    if (this.zoomed) this.zoom(this.from + step, this.to + step);
  }

  /** Percent. @param {number} ms */
  at(ms) {
    return (100 * (ms - this.from)) / (this.to - this.from);
  }

  /**
   * The bar of a row: percent, and the time that it stands for; null without one, or with none in what is shown.
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
    return this.#between(start, end, below);
  }

  /** The bar of a group: from the first start to the last end. @param {import("./groups.js").Group} group */
  span(group) {
    if (!Number.isFinite(group.from)) return null;
    const open = group.counts[PENDING] + group.counts[RUNNING] > 0;
    return this.#between(group.from, open ? this.now : group.to, true);
  }

  /** @param {number} start @param {number} end @param {boolean} below */
  #between(start, end, below) {
    // Nothing ends behind the present, whatever the clock of its actor said.
    const most = this.#running ? Math.min(this.to, Math.max(this.now, this.from)) : this.to;
    if (end < this.from || start > this.to) return null;
    const gap = Math.max(0, this.at(Math.min(start, most)));
    return { gap, width: Math.max(0, this.at(Math.min(end, most)) - gap), spent: Math.max(0, end - start), below };
  }

  #drawAxis() {
    if (!this.axis) return;
    const width = this.to - this.from;
    const step = STEPS.find((s) => width / s <= 6) ?? STEPS[STEPS.length - 1];
    const marks = [];
    for (let at = Math.ceil((this.from - this.begin) / step) * step; this.begin + at < this.to && marks.length < 60; at += step) {
      if (((this.to - this.begin - at) / width) * this.axis.clientWidth < LABEL) break;
      const text = document.createElementNS(SVG, "text");
      text.setAttribute("x", `${this.at(this.begin + at).toFixed(2)}%`);
      text.setAttribute("dx", "5");
      text.setAttribute("y", "19");
      text.textContent = span(at);
      marks.push(text);
    }
    this.axis.replaceChildren(...marks);
  }

  /** @param {Band[]} bands */
  setBands(bands) {
    this.bands = bands;
    this.#drawBands();
    this.#placeNow();
  }

  #drawBands() {
    this.over.replaceChildren();
    if (!Number.isFinite(this.store.from)) return;
    for (const band of this.bands) {
      const to = band.to ?? this.now;
      if (to < this.from || band.from > this.to) continue;
      const part = document.createElement("div");
      part.className = "band";
      part.dataset.action = band.action;
      part.dataset.open = String(band.to === null);
      const left = Math.max(0, this.at(band.from));
      part.style.left = `${left}%`;
      part.style.width = `${Math.max(0, Math.min(100, this.at(to)) - left)}%`;
      const label = document.createElement("em");
      label.textContent = band.label;
      part.append(label);
      this.over.append(part);
    }
    this.#placeLabels();
    this.line = document.createElement("div");
    this.line.className = "now";
    this.over.append(this.line);
  }

  /** No label on another: each in the lowest line that is free. Read first, then written. */
  #placeLabels() {
    const room = this.over.clientWidth;
    const labels = Array.from(/** @type {NodeListOf<HTMLElement>} */ (this.over.querySelectorAll("em")), (label) => {
      const band = /** @type {HTMLElement} */ (label.parentElement), width = label.offsetWidth, at = band.offsetLeft;
      // Before its band where there is room for it, so that bars stay free.
      return { label, width, at, left: at >= width ? at - width : Math.max(0, Math.min(at, room - width)) };
    });
    /** What each line holds already. @type {{left: number, right: number}[][]} */ const lanes = [];
    for (const { label, width, at, left } of labels) {
      const right = left + width;
      let lane = lanes.findIndex((taken) => taken.every((one) => right <= one.left || left >= one.right));
      if (lane < 0) lane = lanes.push([]) - 1;
      label.hidden = lane >= LANES;
      if (label.hidden) continue;
      lanes[lane].push({ left, right });
      label.style.left = `${left - at}px`;
      label.style.bottom = `${6 + 20 * lane}px`;
    }
  }

  #placeNow() {
    if (!this.line) this.#drawBands();
    if (!this.line) return;
    const at = `${this.at(this.now)}%`;
    this.line.hidden = !this.#running || this.now < this.from || this.now > this.to;
    if (this.line.style.left !== at) this.line.style.left = at;
    for (const band of /** @type {NodeListOf<HTMLElement>} */ (this.over.querySelectorAll(".band[data-open=true]"))) {
      band.style.width = `${Math.max(0, Math.min(100, this.at(this.now)) - parseFloat(band.style.left))}%`;
    }
  }
}
