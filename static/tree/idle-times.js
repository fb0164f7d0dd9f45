// @ts-check
/** Folds long times in which nothing but parents were open, and back. */
import { count } from "../js/marks.js";
import { announce } from "../js/voice.js";
import { address, said } from "./address.js";
import { say, sayCount } from "./words.js";

export class IdleTimes {
  /** @param {HTMLElement} page @param {import("./rows.js").Rows} rows @param {import("./waterfall.js").Waterfall} waterfall */
  constructor(page, rows, waterfall) {
    this.button = /** @type {HTMLElement} */ (page.querySelector("[data-idle]"));
    this.rows = rows;
    this.waterfall = waterfall;
  }

  /** As the address says. */
  open() {
    if (said("idle") === "folded") this.set(true);
  }

  toggle() {
    const { waterfall } = this;
    this.set(!waterfall.folding);
    const words = waterfall.gaps.map((gap) => waterfall.gapWords(gap));
    if (!waterfall.folding) announce(say("idle_off"));
    else announce(words.length ? `${sayCount("idle", words.length, count(words.length))}: ${words.join("; ")}` : say("idle_none"));
  }

  /** @param {boolean} on */
  set(on) {
    this.waterfall.fold(on);
    this.button.setAttribute("aria-pressed", String(on));
    address({ idle: on ? "folded" : null });
    this.rows.draw();
  }
}
