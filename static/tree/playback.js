// @ts-check
/** Playback: a cursor over the time of the run, and the page as it was there, while live goes on beneath. */
import { count } from "../js/marks.js";
import { announce } from "../js/voice.js";
import { address, said } from "./address.js";
import { hold, now } from "./clock.js";
import { Past } from "./past.js";
import { point } from "./rows.js";
import { FAILED, PENDING, RUNNING, STATUSES } from "./store.js";
import { say } from "./words.js";

/** Of what is shown of the time: an arrow, a page. */
const STEP = 0.01, PAGE = 0.1;
/** A whole run is to be played in so many seconds at most, by the speed that is chosen first. */
const SHOW_S = 60;
/** Milliseconds without a move until the moment is told and put into the address. */
const REST = 300;

export class Playback {
  /**
   * @param {HTMLElement} page
   * @param {{store: import("./store.js").Store, order: import("./order.js").Order, rows: import("./rows.js").Rows, waterfall: import("./waterfall.js").Waterfall,
   *   arrivals: import("./arrivals.js").Arrivals, liveness: import("./liveness.js").Liveness, head: import("./head.js").Head}} parts
   * @param {{entered: () => void, moved: () => void, left: (stale: boolean, parents: Set<number>) => void}} on
   */
  constructor(page, parts, on) {
    this.parts = parts;
    this.on = on;
    /** @type {Past | null} */ this.past = null;
    /** Whose children have changed beneath, and whether all of it came anew. @type {Set<number>} */ this.reshaped = new Set();
    this.stale = false;
    const part = (/** @type {string} */ selector) => /** @type {any} */ (page.querySelector(selector));
    this.bar = /** @type {HTMLElement} */ (part("[data-playback]"));
    this.button = /** @type {HTMLElement} */ (part("[data-past]"));
    this.cursor = /** @type {HTMLInputElement} */ (part("[data-cursor]"));
    this.speed = /** @type {HTMLSelectElement} */ (part("[data-speed]"));
    this.player = /** @type {HTMLElement} */ (part("[data-play]"));
    this.words = /** @type {HTMLElement} */ (part("[data-moment]"));
    this.unsure = /** @type {HTMLElement} */ (part("[data-unsure]"));
    this.axis = /** @type {HTMLElement} */ (part(".axis"));
    this.wanted = 0;
    this.asked = this.playing = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */ this.resting = undefined;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.#hear();
  }

  get active() {
    return this.past !== null;
  }

  /** As the address says. */
  open() {
    const at = Date.parse(said("at") ?? "");
    if (!Number.isNaN(at)) this.enter(at);
  }

  toggle() {
    this.active ? this.leave() : this.enter();
    if (this.active) this.cursor.focus();
  }

  /** @param {number} [at] the present without */
  enter(at = Infinity) {
    const { store, waterfall, arrivals, liveness, head, order } = this.parts;
    if (this.active || !arrivals.loaded) return;
    if (!Number.isFinite(store.from)) return announce(say("past_none"));
    const until = store.stillOpen(-1) ? now() : store.to;
    this.past = new Past(store, until);
    arrivals.store = liveness.store = head.live = this.past.live;
    this.reshaped = new Set();
    this.stale = false;
    // Numbers of tasks that came meanwhile stand for nothing here.
    order.dirty = true;
    waterfall.stand(until, this.past.live);
    this.cursor.max = String(Math.ceil(this.past.end - this.past.begin));
    this.formatter = formatter(this.past);
    this.speed.value = this.#fitting();
    this.unsure.textContent = [this.past.unsure ? say("past_unsure", { n: count(this.past.unsure) }) : "", this.past.again ? say("past_again", { n: count(this.past.again) }) : ""].filter(Boolean).join(" ");
    this.bar.hidden = false;
    this.button.setAttribute("aria-pressed", "true");
    document.body.classList.add("in-past");
    this.on.entered();
    this.#move(at);
    announce(`${this.words.textContent}. ${this.unsure.textContent}`);
  }

  leave() {
    const { store, waterfall, arrivals, liveness, head } = this.parts, { past } = this;
    if (!past) return;
    const within = this.bar.contains(document.activeElement);
    this.#play(false);
    clearTimeout(this.resting);
    past.leave();
    this.past = null;
    hold(NaN);
    arrivals.store = liveness.store = head.live = store;
    waterfall.stand(now(), null);
    this.bar.hidden = true;
    this.button.setAttribute("aria-pressed", "false");
    document.body.classList.remove("in-past");
    address({ at: null });
    this.on.left(this.stale, this.reshaped);
    if (within) this.parts.rows.focus(this.parts.rows.current);
    announce(say("past_left"));
  }

  /** Tasks came or moved beneath. @param {Set<number>} parents */
  note(parents) {
    for (const n of parents) this.reshaped.add(n);
  }

  /** With the next frame: a pointer moves more often than that. @param {number} ms */
  go(ms) {
    if (!this.past) return;
    this.wanted = ms;
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.#move(this.wanted);
    });
  }

  /** @param {1 | -1} way to the next change, or the one before */
  change(way) {
    if (this.past) this.#move(this.past.change(way));
  }

  /** @param {number} wanted */
  #move(wanted) {
    const { past } = this, { order, waterfall, rows } = this.parts;
    if (!past) return;
    const ms = Math.round(Math.max(past.begin, Math.min(past.end, wanted)));
    this.wanted = ms;
    past.go(ms);
    hold(ms);
    waterfall.stand(ms, past.live);
    for (const group of order.groups.list) group.seen = -1;
    if (order.kept || order.view !== "tree") order.dirty = true;
    this.cursor.value = String(Math.round(ms - past.begin));
    this.words.textContent = say("past", { time: this.#time() });
    this.on.moved();
    rows.drawNow();
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.#rest(), REST);
  }

  #rest() {
    if (!this.past) return;
    address({ at: new Date(this.past.at).toISOString() });
    const { totals } = this.parts.store, told = [PENDING, RUNNING, FAILED].filter((s) => totals[s]);
    const sums = told.map((s) => say("tally", { n: count(totals[s]), word: say(`status_${STATUSES[s]}`).toLowerCase() }));
    this.cursor.setAttribute("aria-valuetext", [this.#time(), ...sums].join(say("and")));
  }

  #time() {
    return this.formatter?.format(this.past?.at ?? 0) ?? "";
  }

  /** The lowest speed that shows all of it in a minute. */
  #fitting() {
    const seconds = this.past ? (this.past.end - this.past.begin) / 1000 : 0, all = [...this.speed.options];
    return (all.find((one) => seconds / Number(one.value) <= SHOW_S) ?? all[all.length - 1]).value;
  }

  /** @param {boolean} on */
  #play(on) {
    if (this.playing === on) return;
    this.playing = on;
    point(/** @type {any} */ (this.player.querySelector("use")), on ? "pause" : "play");
    /** @type {HTMLElement} */ (this.player.querySelector("span")).textContent = say(on ? "past_stop" : "past_play");
    if (on) this.#run();
  }

  /** Each frame; in steps of a second where motion is not wanted. */
  #run() {
    const { past } = this;
    if (!past) return;
    if (past.at >= past.end) this.#move(past.begin);
    let last = performance.now();
    const next = () => {
      if (!this.playing || this.past !== past) return;
      const at = performance.now(), to = past.at + (at - last) * Number(this.speed.value);
      last = at;
      this.#move(to);
      if (past.at >= past.end) {
        this.#play(false);
        announce(say("past_end"));
      } else wait();
    };
    const wait = () => (this.still.matches ? setTimeout(next, 1000) : requestAnimationFrame(next));
    wait();
  }

  #hear() {
    this.cursor.addEventListener("input", () => this.past && this.go(this.past.begin + Number(this.cursor.value)));
    this.cursor.addEventListener("keydown", (event) => this.#pressed(event));
    this.player.addEventListener("click", () => this.#play(!this.playing));
    this.bar.querySelector("[data-back]")?.addEventListener("click", () => this.leave());
    this.button.addEventListener("click", () => this.toggle());
    // Also with nothing in focus; what opened last closes first.
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented || !this.active || document.querySelector("dialog[open], :popover-open")) return;
      if (/** @type {Element} */ (event.target).closest("[data-pane], [role=search]")) return;
      this.leave();
    });
    let left = NaN, wide = 1;
    const drag = (/** @type {PointerEvent} */ event) => this.go(this.parts.waterfall.places.moment((event.clientX - left) / wide));
    this.axis.addEventListener("pointerdown", (event) => {
      if (!this.active || event.button || /** @type {Element} */ (event.target).closest("button")) return;
      ({ left, width: wide } = this.axis.getBoundingClientRect());
      this.axis.setPointerCapture(event.pointerId);
      this.#play(false);
      drag(event);
    });
    this.axis.addEventListener("pointermove", (event) => !Number.isNaN(left) && drag(event));
    for (const end of ["pointerup", "pointercancel"]) this.axis.addEventListener(end, () => { left = NaN; });
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    const { past } = this, { waterfall } = this.parts;
    if (!past || event.ctrlKey || event.metaKey || event.altKey) return;
    const by = (/** @type {number} */ share) => this.go(waterfall.places.moment(waterfall.places.at(this.wanted) + share));
    const forward = getComputedStyle(this.cursor).direction === "rtl" ? -1 : 1;
    const way = /** @type {1 | -1} */ (event.key === "ArrowRight" ? forward : -forward);
    const deeds = /** @type {Record<string, () => void>} */ ({
      ArrowLeft: () => (event.shiftKey ? this.change(way) : by(way * STEP)),
      ArrowRight: () => (event.shiftKey ? this.change(way) : by(way * STEP)),
      ArrowUp: () => by(STEP), ArrowDown: () => by(-STEP), PageUp: () => by(PAGE), PageDown: () => by(-PAGE),
      Home: () => this.go(past.begin), End: () => this.go(past.end),
      " ": () => this.#play(!this.playing), h: () => this.leave(), "<": () => this.change(-1), ">": () => this.change(1),
    });
    if (!(event.key in deeds)) return;
    event.preventDefault();
    if (event.key !== " ") this.#play(false);
    deeds[event.key]();
  }
}

/** Of the same day as now without its date. @param {Past} past */
function formatter({ begin, end }) {
  const today = new Date().toDateString(), dated = [begin, end].some((ms) => new Date(ms).toDateString() !== today);
  const day = dated ? /** @type {const} */ ({ year: "numeric", month: "short", day: "numeric" }) : {};
  return new Intl.DateTimeFormat(document.documentElement.lang, { ...day, hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" });
}
