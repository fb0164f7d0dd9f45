// @ts-check
/** Folds that outlive a reload, and those that a link brings. */
import { chosen } from "./folds.js";

/** Folds that are kept for when the page is loaded again. */
const MOST_FOLDS = 20_000;

export class KeptFolds {
  /** @param {string} trace @param {import("./order.js").Order} order */
  constructor(trace, order) {
    this.key = `folds ${trace}`;
    this.order = order;
    /** @type {ReturnType<typeof setTimeout> | undefined} */ this.keeping = undefined;
    order.chosen = this.#read();
  }

  /** @returns {Map<number | string, boolean>} */
  #read() {
    try {
      return new Map(JSON.parse(sessionStorage.getItem(this.key) ?? "[]"));
    } catch {
      return new Map();
    }
  }

  keep() {
    clearTimeout(this.keeping);
    this.keeping = setTimeout(() => {
      const { chosen } = this.order;
      if (chosen.size <= MOST_FOLDS) sessionStorage.setItem(this.key, JSON.stringify([...chosen]));
    }, 500);
  }

  /** What a link opened and folded, without what is so by itself. @param {string} text */
  link(text) {
    const { order } = this, { store } = order;
    order.chosen = new Map([...chosen(text, store.size)].filter(([key, open]) => typeof key === "string" || (store.children[key] > 0 && open !== order.rule(key))));
  }
}
