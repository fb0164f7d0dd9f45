// @ts-check
/** How much room the details have, beside the tree or below it: by pointer or by keys, kept in a cookie that the server reads. */
import { count } from "../js/marks.js";
import { say } from "./words.js";

/** Pixels; of what there is the details take at most this share. */
const LEAST = { width: 280, height: 140 }, SHARE = 0.75;
/** A key moves by so much, with Shift by so much. */
const STEP = 16, LEAP = 80;
const YEAR = 365 * 24 * 60 * 60;

export class PaneSize {
  /** @param {HTMLElement} pane */
  constructor(pane) {
    this.pane = pane;
    // A drawing without content: its attributes are sizes that the server can write too, which no policy forbids.
    this.ruler = /** @type {SVGElement} */ (pane.querySelector("[data-ruler]"));
    this.grip = /** @type {HTMLElement} */ (pane.querySelector("[role=separator]"));
    this.narrow = matchMedia("(max-width: 900px)");
    this.grip.addEventListener("keydown", (event) => this.#pressed(event));
    this.grip.addEventListener("pointerdown", (event) => this.#grasped(event));
    this.grip.addEventListener("dblclick", () => this.#set(null));
    this.narrow.addEventListener("change", () => this.draw());
    addEventListener("resize", () => this.draw());
  }

  /** @returns {"width" | "height"} */
  get side() {
    return this.narrow.matches ? "height" : "width";
  }

  get most() {
    return Math.max(LEAST[this.side], Math.round(SHARE * (this.side === "width" ? innerWidth : innerHeight)));
  }

  #size() {
    return this.ruler.getBoundingClientRect()[this.side];
  }

  /** Say what stands; for when the pane comes, or the window changes. */
  draw() {
    if (this.pane.hidden) return;
    const now = Math.round(this.#size());
    this.grip.setAttribute("aria-orientation", this.side === "width" ? "vertical" : "horizontal");
    this.grip.setAttribute("aria-valuemin", String(LEAST[this.side]));
    this.grip.setAttribute("aria-valuemax", String(Math.max(now, this.most)));
    this.grip.setAttribute("aria-valuenow", String(now));
    this.grip.setAttribute("aria-valuetext", say(this.side === "width" ? "pane_wide" : "pane_high", { n: count(now) }));
  }

  /** @param {number | null} pixels null for what the style says */
  #set(pixels) {
    if (pixels === null) this.ruler.removeAttribute(this.side);
    else this.ruler.setAttribute(this.side, String(Math.round(Math.min(Math.max(pixels, LEAST[this.side]), this.most))));
    this.draw();
    this.#keep();
  }

  #keep() {
    const { ruler } = this, of = (/** @type {string} */ side) => ruler.getAttribute(side) ?? "0";
    document.cookie = `pane=${of("width")}x${of("height")}; Path=/; Max-Age=${YEAR}; SameSite=Lax`;
  }

  /** The grip stands left of the pane, or above it: away from it makes it larger. @param {KeyboardEvent} event */
  #pressed(event) {
    const by = event.shiftKey ? LEAP : STEP, now = this.#size();
    const [larger, smaller] = this.side === "width" ? ["ArrowLeft", "ArrowRight"] : ["ArrowUp", "ArrowDown"];
    const next = { [larger]: now + by, [smaller]: now - by, Home: LEAST[this.side], End: this.most }[event.key];
    if (next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#set(next);
  }

  /** @param {PointerEvent} event */
  #grasped(event) {
    if (event.button) return;
    const { grip, side } = this, from = side === "width" ? event.clientX : event.clientY;
    const was = this.#size();
    grip.setPointerCapture(event.pointerId);
    const moved = (/** @type {PointerEvent} */ to) => this.#set(was + from - (side === "width" ? to.clientX : to.clientY));
    grip.addEventListener("pointermove", moved);
    grip.addEventListener("lostpointercapture", () => grip.removeEventListener("pointermove", moved), { once: true });
  }
}
