// @ts-check
/** Who asked for what: in the notices, in the pane, as bands over the time. */
import { say } from "./words.js";

/** Bands that are drawn, the newest. */
const MOST_BANDS = 40;

export class Asked {
  /**
   * @param {HTMLElement} page @param {import("./store.js").Store} store
   * @param {{head: import("./head.js").Head, pane: import("./detail-pane.js").DetailPane, waterfall: import("./waterfall.js").Waterfall}} parts
   */
  constructor(page, store, { head, pane, waterfall }) {
    this.url = `${page.dataset.controls}?trace_id=${encodeURIComponent(page.dataset.trace ?? "")}&limit=200`;
    this.store = store;
    this.head = head;
    this.pane = pane;
    this.waterfall = waterfall;
    /** @type {any[]} */ this.controls = [];
  }

  /** Few, and only when something is asked. */
  async fetch() {
    try {
      const response = await fetch(this.url, { headers: { Accept: "application/json" }, credentials: "same-origin" });
      if (!response.ok) return;
      const { results } = await response.json();
      this.head.setAsked(new Map(results.filter((/** @type {any} */ one) => one.number != null).map((/** @type {any} */ one) => [one.number, one])));
      this.pane.setControls(results);
      this.controls = results;
      this.waterfall.setBands(this.#bands());
      if (results.some((/** @type {any} */ one) => one.delivered === false && (one.outcome ?? "taken") === "taken")) setTimeout(() => this.fetch(), 2000);
    } catch {
      // It is asked for again with the next control.
    }
  }

  /** A band ends with the work that it stands over. */
  tick() {
    const drawn = this.waterfall.bands;
    if (!drawn.some((band) => band.to === null)) return;
    const next = this.#bands();
    if (next.some((band, at) => band.to !== drawn[at]?.to)) this.waterfall.setBands(next);
  }

  /** Times in which a pause stood or a cancel was under way, with who asked and why. */
  #bands() {
    /** @type {Map<string, import("./waterfall.js").Band>} */ const open = new Map();
    /** @type {import("./waterfall.js").Band[]} */ const all = [];
    for (const one of [...this.controls].reverse()) {
      if ((one.outcome ?? "taken") !== "taken") continue;
      const place = one.task_id ?? "", at = Date.parse(one.created_at), before = open.get(place);
      if (before && before.action === one.action) continue;
      if (before) before.to = at;
      open.delete(place);
      if (one.action === "RUN") continue;
      const band = { action: one.action, from: at, to: this.#ends(place), label: this.#label(one) };
      if (band.to !== null && band.to <= at) band.to = at;
      open.set(place, band);
      all.push(band);
    }
    return all.slice(-MOST_BANDS);
  }

  /** When the work at and below a place was over; null while it is not. @param {string} place */
  #ends(place) {
    const { store } = this, n = place ? store.find(place) : -1;
    if (store.stillOpen(n) > 0) return null;
    return n < 0 ? store.to : store.spanTo[n];
  }

  /** @param {any} one */
  #label(one) {
    const { store } = this, place = one.task_id ? store.find(one.task_id) : -1;
    const what = place >= 0 ? `${say(one.action)} ${store.name(place)}` : say(one.action);
    return [what, one.triggered_by, one.reason ? `“${one.reason}”` : ""].filter(Boolean).join(" · ");
  }
}
