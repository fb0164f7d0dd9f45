// @ts-check
/** What can be done with one row, as a menu beside it; its keys are those that the row has. */
import { accepted } from "./controls.js";
import { ACTIONS, FAILED } from "./store.js";
import { say } from "./words.js";

/** Pixels that the menu stays away from the edge of the window. */
const EDGE = 8;

export class RowMenu {
  /**
   * @param {import("./store.js").Store} store @param {import("./order.js").Order} order @param {import("./rows.js").Rows} rows
   * @param {boolean} mayControl @param {Record<string, () => void>} deeds by the names of keys.js
   */
  constructor(store, order, rows, mayControl, deeds) {
    this.store = store;
    this.order = order;
    this.rows = rows;
    this.mayControl = mayControl;
    this.deeds = deeds;
    this.menu = /** @type {HTMLElement} */ (document.querySelector("[data-row-menu]"));
    this.menu.addEventListener("click", (event) => this.#chosen(/** @type {Element} */ (event.target).closest("button")));
    this.menu.addEventListener("keydown", (event) => this.#pressed(event));
    this.menu.addEventListener("toggle", (event) => /** @type {any} */ (event).newState === "closed" && this.#closed());
  }

  open() {
    const { rows, menu } = this, row = rows.current, slot = rows.slots.get(row);
    if (row < 0 || !slot) return;
    const deeds = this.#offered(row);
    for (const item of this.#all()) item.hidden = !deeds.has(item.dataset.deed ?? "");
    menu.setAttribute("aria-label", say("menu_of", { name: this.order.group(row)?.name ?? this.store.name(row) }));
    menu.showPopover();
    this.#place(slot.row.getBoundingClientRect());
    this.#items()[0]?.focus();
  }

  /** @param {number} row @returns {Set<string>} */
  #offered(row) {
    const { store, order } = this, deeds = new Set(["enter"]);
    if (this.mayControl) deeds.add("mark");
    if (order.group(row)) return order.firstFailure(row) >= 0 ? deeds.add("firstFailed") : deeds;
    if (this.mayControl) for (const action of accepted(store, row)) deeds.add({ RUN: "resume", PAUSE: "pause", CANCEL: "cancel" }[ACTIONS[action]] ?? "");
    if (store.below(row)[FAILED]) deeds.add("firstFailed");
    if (store.children[row] && order.view === "tree") deeds.add("openBelow").add("foldBelow");
    if (order.view !== "tree") deeds.add("place");
    return deeds.add("copy").add("taskLog");
  }

  /** @returns {HTMLButtonElement[]} */
  #all() {
    return Array.from(this.menu.querySelectorAll("button"));
  }

  #items() {
    return this.#all().filter((item) => !item.hidden);
  }

  /** Below the row, or above it where there is no room. @param {DOMRect} row */
  #place(row) {
    const { menu } = this, { offsetWidth: width, offsetHeight: height } = menu;
    const below = row.bottom + height + EDGE < innerHeight;
    menu.style.top = `${Math.max(EDGE, below ? row.bottom : row.top - height)}px`;
    menu.style.left = `${Math.max(EDGE, Math.min(row.left + 40, innerWidth - width - EDGE))}px`;
  }

  /** @param {HTMLButtonElement | null} item */
  #chosen(item) {
    if (!item) return;
    const deed = item.dataset.deed ?? "";
    this.menu.hidePopover();
    // What is done may lead the focus elsewhere.
    this.rows.focus(this.rows.current);
    this.deeds[deed]();
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    const items = this.#items(), at = items.indexOf(/** @type {any} */ (document.activeElement));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1, Tab: null }[event.key];
    if (event.key === "Tab") this.menu.hidePopover();
    else if (to !== undefined && to !== null) items.at(to % items.length)?.focus();
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else {
      const item = items.find((one) => one.dataset.key === event.key);
      if (!item || event.key === "Enter" || event.key === " ") return; // these press what has the focus
      this.#chosen(item);
    }
    event.preventDefault();
  }

  /** Whatever closed it: the focus goes back to the row, unless it has gone elsewhere. */
  #closed() {
    const { activeElement } = document;
    if (!activeElement || activeElement === document.body || this.menu.contains(activeElement)) this.rows.focus(this.rows.current);
  }
}
