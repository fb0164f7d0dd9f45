// @ts-check
/** Where bars begin and end. The scale grows in steps, so that bars do not creep with each frame. */
import { inWords, span } from "../js/marks.js";
import { Axis, idleGaps } from "./idle.js";
import { PENDING, RUNNING } from "./store.js";
import { began, ended } from "./times.js";
import { say } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
/** Round times for the axis, in milliseconds; the server knows the same (instances/outline.py). */
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400, 604800, 2592000, 7776000, 31536000, 315360000].map((s) => s * 1000);
/** More than this share of the time would be beyond the right edge: grow. */
const HEADROOM = 1.1;
/** Pixels that a time on the axis needs. */
const LABEL = 40;
/** Pixels of a time in figures with the room around it. @param {string} text */
export const widthOf = (text) => 12 + 6 * text.length;
/** No closer look than this, in milliseconds. */
const CLOSEST = 1000;
/** Pixels of the mark of what took no time (tree.css). */
const TICK = 2;
/** Lines of labels of bands above each other; further ones stay without. */
const LANES = 5;

/** A pause that covers all of a gap but so much explains it. */
const NEARLY = 0.98;

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
    /** While a moment of the past is shown: what there is now, whose scale stands. @type {{store: import("./store.js").Store, now: number} | null} */
    this.present = null;
    /** @type {Band[]} */ this.bands = [];
    /** Whether times in which nothing ran are folded, and those that are. */
    this.folding = false;
    /** @type {import("./idle.js").Gap[]} */ this.gaps = [];
    this.places = new Axis(0, 1000);
    /** @type {import("./critical.js").Path | null} */ this.path = null;
    /** Pixels of the axis; kept, since to ask while rows are drawn would lay the page out once a row. */
    this.room = 0;
    this.measure();
    if (axis) new ResizeObserver(() => { this.measure(); if (this.folding) this.#show(this.from, this.to); else if (this.epoch) this.#drawAxis(); }).observe(axis);
  }

  measure() {
    this.room = this.axis?.clientWidth ?? 0;
  }

  get #running() {
    return this.store.totals[RUNNING] > 0;
  }

  /** Looks at the clock; true where the scale has changed. @param {number} now */
  tick(now) {
    if (this.present) return false;
    this.now = now;
    const { store } = this, running = this.#running;
    const begin = Number.isFinite(store.from) ? store.from : now;
    // Where work goes on, the clock of an actor that is ahead does not stretch the scale.
    const last = Math.max(begin + 1000, running ? now : Number.isFinite(store.to) ? store.to : begin);
    const width = this.finish - this.begin;
    const fits = begin === this.begin && last <= this.finish && last >= this.begin + width / (HEADROOM * 1.5) && (running || last === this.finish);
    if (!fits) {
      this.begin = begin;
      this.finish = running ? begin + (last - begin) * HEADROOM : last;
    }
    const other = this.#findGaps(), grown = !fits && !this.zoomed;
    if (grown) this.#show(this.begin, this.finish);
    else if (other) this.#show(this.from, this.to);
    else this.#placeNow();
    return !fits || other;
  }

  /** Looks for gaps; true where they are others than before. */
  #findGaps() {
    const { store, now } = this.present ?? this;
    const gaps = this.folding ? idleGaps(store, this.begin, this.finish, now) : [];
    const same = gaps.length === this.gaps.length && gaps.every((gap, k) => gap.from === this.gaps[k].from && gap.to === this.gaps[k].to && gap.parents === this.gaps[k].parents);
    this.gaps = gaps;
    return !same;
  }

  /** @param {import("./critical.js").Path | null} path */
  setPath(path) {
    this.path = path;
    this.epoch++;
  }

  /** @param {boolean} on */
  fold(on) {
    this.folding = on;
    if (this.#findGaps()) this.#show(this.from, this.to);
  }

  /** Something ended since the last tick: the present is then as late as that. @param {number} now */
  catchUp(now) {
    const last = Math.min(now, this.store.to);
    if (this.present || !this.#running || !(last > this.now)) return;
    this.now = last;
    this.#placeNow();
  }

  /** The cursor stands at this moment, on the scale of the present; null: the present goes on. @param {number} ms @param {import("./store.js").Store | null} live */
  stand(ms, live) {
    this.present = live && { store: live, now: this.present?.now ?? this.now };
    this.now = ms;
    this.over.classList.toggle("past", live !== null);
    if (!live) this.#drawBands();
    this.#placeNow();
  }

  /** @param {number} from @param {number} to */
  #show(from, to) {
    this.from = from;
    this.to = to;
    this.places = new Axis(from, to, this.room, this.gaps);
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

  /** Closer (above 1) or wider around a place on the axis. @param {number} by @param {number} [around] */
  scale(by, around = 0.5) {
    this.zoom(this.places.moment(around - around / by), this.places.moment(around + (1 - around) / by));
  }

  /** @param {number} by a share of what is shown */
  pan(by) {
    if (!this.zoomed) return;
    const { begin, finish, places } = this, step = by > 0 ? Math.min(by, Math.max(0, places.at(finish) - 1)) : Math.max(by, Math.min(0, places.at(begin)));
    this.zoom(places.moment(step), places.moment(1 + step));
  }

  /** Percent. @param {number} ms */
  at(ms) {
    return 100 * this.places.at(ms);
  }

  /**
   * The bar of a row: percent, and the time that it stands for (NaN where that is not known); null without one, or with none in what is shown.
   * `below` marks what only its children have made: the span of them.
   * Of a folded one it is drawn from the first start to the last end at and below it.
   * @param {number} n @param {boolean} [folded]
   */
  bar(n, folded = false) {
    const { store } = this, start = began(store, n), end = ended(store, n, this.now);
    if (Number.isNaN(start)) return null;
    const parent = store.children[n] > 0, own = !Number.isNaN(store.start[n]), all = folded && parent;
    const last = !all ? end : Math.max(end, store.stillOpen(n) ? this.now : store.spanTo[n]);
    const bar = this.#between(all ? Math.min(start, store.spanFrom[n]) : start, last, !own && parent);
    // How long it took is not known of one that only ended.
    return bar && { ...bar, spent: own || parent ? Math.max(0, end - start) : NaN };
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
    const most = this.#running || this.present ? Math.min(this.to, Math.max(this.now, this.from)) : this.to;
    if (end < this.from || start > this.to) return null;
    // The mark of what took no time is not beyond the right edge.
    const edge = 100 - (100 * TICK) / Math.max(TICK, this.room);
    const gap = Math.min(edge, Math.max(0, this.at(Math.min(start, most))));
    return { gap, width: Math.max(0, this.at(Math.min(end, most)) - gap), spent: Math.max(0, end - start), below };
  }

  /** Pixels between a place in percent and what stands to its right: a folded time or the edge; below 0 inside of such a time. @param {number} place */
  free(place) {
    const { room } = this;
    let right = 100;
    for (const gap of this.gaps) {
      const from = this.at(gap.from);
      if (this.at(gap.to) <= place) continue;
      right = Math.min(right, from);
      break;
    }
    return ((right - place) / 100) * room;
  }

  /**
   * What of a task is on the critical path, from and to in percent; of a folded one also what is on it below.
   * @param {number} n @param {boolean} folded
   */
  stretches(n, folded) {
    const step = this.path?.steps.get(n), all = [];
    if (!step) return [];
    const pairs = folded ? [step.from, step.to] : step.own;
    for (let k = 0; k < pairs.length; k += 2) {
      if (pairs[k + 1] < this.from || pairs[k] > this.to) continue;
      all.push([Math.max(0, this.at(pairs[k])), Math.min(100, this.at(pairs[k + 1]))]);
    }
    return all;
  }

  #drawAxis() {
    if (!this.axis) return;
    const width = this.places.plain, { room } = this;
    const step = STEPS.find((s) => width / s <= 6) ?? STEPS[STEPS.length - 1];
    const marks = [];
    let free = 0;
    for (let at = Math.ceil((this.from - this.begin) / step) * step; this.begin + at < this.to && marks.length < 60; at += step) {
      const gap = this.gaps.find((one) => this.begin + at > one.from && this.begin + at < one.to);
      // No time inside of a folded gap has a place of its own.
      if (gap) at = Math.floor((gap.to - this.begin) / step) * step;
      const place = this.at(this.begin + at), left = (place / 100) * room;
      if (gap || left < free) continue;
      if (room - left < Math.max(LABEL, widthOf(span(at)))) break;
      free = left + Math.max(LABEL, widthOf(span(at)));
      const text = document.createElementNS(SVG, "text");
      text.setAttribute("x", `${place.toFixed(2)}%`);
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
    /** @type {{part: HTMLElement, band: Band}[]} */ this.drawn = [];
    if (!Number.isFinite(this.store.from)) return;
    for (const band of this.bands) {
      const to = band.to ?? this.present?.now ?? this.now;
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
      this.drawn.push({ part, band });
    }
    for (const gap of this.gaps) this.#markGap(gap);
    this.#placeLabels();
    this.line = document.createElement("div");
    this.line.className = "now";
    this.over.append(this.line);
  }

  /** @param {import("./idle.js").Gap} gap */
  #markGap(gap) {
    if (gap.to <= this.from || gap.from >= this.to) return;
    const left = Math.max(0, this.at(gap.from)), part = document.createElement("div");
    part.className = "idle";
    part.style.left = `${left}%`;
    part.style.width = `${Math.min(100, this.at(gap.to)) - left}%`;
    part.append(Object.assign(document.createElement("span"), { textContent: this.gapWords(gap) }));
    this.over.append(part);
  }

  /** How long a gap is and what is known of it. @param {import("./idle.js").Gap} gap */
  gapWords(gap) {
    const time = inWords(gap.to - gap.from), paused = this.#paused(gap);
    if (paused >= NEARLY * (gap.to - gap.from)) return say("gap_paused", { time });
    const what = say(gap.parents ? "gap_parents" : "gap_nothing", { time });
    return paused ? `${what}${say("and")}${say("gap_partly", { time: inWords(paused) })}` : what;
  }

  /** For how long of it some pause stood. @param {import("./idle.js").Gap} gap */
  #paused(gap) {
    let paused = 0, from = gap.from;
    // Bands stand in order of their beginnings.
    for (const band of this.bands) {
      const to = Math.min(gap.to, band.to ?? this.now);
      if (band.action !== "PAUSE" || to <= from) continue;
      paused += Math.max(0, to - Math.max(from, band.from));
      from = Math.max(from, to);
    }
    return paused;
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
    this.line.hidden = !(this.#running || this.present) || this.now < this.from || this.now > this.to;
    if (this.line.style.left !== at) this.line.style.left = at;
    for (const { part, band } of this.drawn ?? []) {
      if (!this.present && band.to !== null) continue;
      // Of the past: what had been asked by then, as far as it had lasted.
      part.hidden = this.present !== null && band.from > this.now;
      const to = Math.min(band.to ?? Infinity, this.now);
      part.style.width = `${Math.max(0, Math.min(100, this.at(to)) - parseFloat(part.style.left))}%`;
    }
  }
}
