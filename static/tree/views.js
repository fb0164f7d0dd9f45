// @ts-check
/** Which view of the run the rows are: its tree, a flat list, its failures. */
import { announce } from "../js/voice.js";
import { address, said } from "./address.js";
import { say } from "./words.js";

/** In the order of the key. @type {import("./order.js").View[]} */
const VIEWS = ["tree", "flat", "failures"];

export class Views {
  /** @param {HTMLElement} page @param {HTMLElement} grid @param {import("./order.js").Order} order @param {import("./rows.js").Rows} rows */
  constructor(page, grid, order, rows) {
    this.page = page;
    this.grid = grid;
    this.order = order;
    this.rows = rows;
  }

  /** What the address says, before any row is drawn. */
  open() {
    this.#be(VIEWS.find((view) => view === said("view")) ?? "tree");
  }

  /** @param {string} view */
  set(view) {
    const next = VIEWS.find((one) => one === view);
    if (!next || next === this.order.view) return;
    this.#be(next);
    address({ view: next === "tree" ? null : next });
    this.#show();
    announce(say(`view_${next}`));
  }

  next() {
    this.set(VIEWS[(VIEWS.indexOf(this.order.view) + 1) % VIEWS.length]);
  }

  /** @param {import("./order.js").View} view */
  #be(view) {
    this.order.look(view);
    this.grid.dataset.view = view;
    // A list is no tree: nothing in it opens.
    this.grid.setAttribute("role", view === "flat" ? "grid" : "treegrid");
    for (const link of /** @type {NodeListOf<HTMLElement>} */ (this.page.querySelectorAll("[data-view-of]"))) {
      if (link.dataset.viewOf === view) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  /** The chosen row, and the one of the focus, stay where they are to be found in it. */
  #show() {
    const { order, rows } = this, within = rows.canvas.contains(document.activeElement);
    rows.again();
    const eye = rows.current;
    order.rebuild();
    for (const n of [rows.selected, eye]) if (order.view === "tree" && n >= 0 && order.at(n) < 0) order.reveal(n);
    // Columns are of other widths in another view.
    rows.measure();
    const here = [eye, rows.selected].find((n) => n >= 0 && order.at(n) >= 0) ?? order.rows[0];
    if (order.length) within ? rows.focus(here, "center") : rows.show(here, "center");
    rows.drawNow();
  }
}
