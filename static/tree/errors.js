// @ts-check
/** Asks the tower for the error codes that the list of failures is made of, some tasks at a time. */

/** Tasks that one request names; the tower takes no more (instances/failures.py). */
export const MOST_ASKED = 500;
/** After an answer that did not come. */
const AGAIN_MS = 3000;

export class Errors {
  /** @param {HTMLElement} page @param {import("./order.js").Order} order @param {() => void} come */
  constructor(page, order, come) {
    this.url = page.dataset.errors ?? "";
    this.order = order;
    this.come = come;
    this.asking = false;
  }

  /** With each list anew: one request at a time, until all codes are known. */
  draw() {
    const { causes, view } = this.order;
    if (view === "failures" && causes.unknown.length && !this.asking) this.#ask(causes.unknown.slice(0, MOST_ASKED));
  }

  /** @param {number[]} tasks */
  async #ask(tasks) {
    const { causes, store } = this.order, stamps = tasks.map((n) => store.stamp[n]);
    this.asking = true;
    try {
      const response = await fetch(`${this.url}?n=${tasks.join()}`, { headers: { Accept: "application/json" }, credentials: "same-origin" });
      if (!response.ok) throw new Error(String(response.status));
      const { codes, of } = await response.json();
      causes.know(tasks, stamps, of.map((/** @type {number} */ at) => codes[at][0]), of.map((/** @type {number} */ at) => codes[at][1]));
      this.asking = false;
      this.order.dirty = true;
      this.come();
    } catch {
      setTimeout(() => {
        this.asking = false;
        this.draw();
      }, AGAIN_MS);
    }
  }
}
