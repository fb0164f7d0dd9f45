// @ts-check
/** Choosing, walking, folding, jumping: what hands do to rows. */
import { count } from "../js/marks.js";
import { announce } from "../js/voice.js";
import { address } from "./address.js";
import { say } from "./words.js";

export class Moves {
  /**
   * @param {import("./store.js").Store} store @param {import("./order.js").Order} order @param {import("./rows.js").Rows} rows
   * @param {{pane: import("./detail-pane.js").DetailPane, filter: import("./filter.js").Filter, kept: import("./kept-folds.js").KeptFolds, views: import("./views.js").Views, follower: HTMLElement}} parts
   */
  constructor(store, order, rows, { pane, filter, kept, views, follower }) {
    this.store = store;
    this.order = order;
    this.rows = rows;
    this.pane = pane;
    this.filter = filter;
    this.kept = kept;
    this.views = views;
    this.follower = follower;
    this.following = false;
    this.followed = -1;
  }

  /** @param {number} n */
  select(n) {
    const { store, order, rows } = this;
    if (n < 0 || store.ids[n] === undefined) return;
    if (order.at(n) < 0) order.reveal(n);
    rows.selected = n;
    rows.current = n;
    this.pane.show(n);
    rows.show(n);
    rows.drawNow();
    address({ node: store.ids[n] ?? "" });
  }

  close() {
    this.rows.selected = -1;
    this.pane.show(-1);
    this.rows.draw();
    address({ node: null, tab: null });
  }

  /** @param {number} row @param {boolean} open */
  fold(row, open) {
    if (!this.order.folds(row) || this.order.kept) return;
    this.order.set(row, open);
    this.kept.keep();
    // Not with the next frame: another key may come before it.
    this.rows.drawNow();
  }

  /** @param {number} row */
  turn(row) {
    this.fold(row, !this.order.isOpen(row));
  }

  /**
   * The next that failed, runs or does not obey; `inside` keeps to a branch.
   * @param {"failed" | "running" | "stuck"} kind @param {1 | -1} way @param {number} [inside]
   */
  jump(kind, way, inside = -1) {
    const { n, number, all } = this.order.next(kind, this.rows.current, way, inside);
    if (n < 0) return announce(say(`no_${kind}`));
    this.go(n);
    announce(say(`${kind}_of`, { n: count(number), all: count(all) }));
  }

  /** Through folds to a task, chosen and in the middle; where it is no row of this view, in the tree. @param {number} n */
  go(n) {
    const { order } = this, shown = order.at(n) >= 0;
    if (!shown && order.searching) this.filter.clear();
    order.rebuild();
    if (!order.belongs(n)) this.views.set("tree");
    order.reveal(n);
    order.rebuild();
    if (!shown) this.kept.keep();
    this.select(n);
    this.rows.focus(n, "center");
  }

  /** Its place in the tree. @param {number} n */
  place(n) {
    this.views.set("tree");
    this.go(n);
  }

  /** To a row that is shown. @param {number} row */
  walk(row) {
    if (row < 0) return;
    this.rows.focus(row);
    if (this.pane.open) this.select(row);
  }

  /** @param {number} by rows */
  step(by) {
    const { order, rows } = this;
    this.walk(order.rows[Math.max(0, Math.min(order.length - 1, order.at(rows.current) + by))]);
  }

  right() {
    const { order, rows } = this, row = rows.current;
    if (order.folds(row)) order.isOpen(row) ? this.step(1) : this.fold(row, true);
  }

  left() {
    const { order, rows } = this, row = rows.current;
    if (order.isOpen(row) && !order.kept) this.fold(row, false);
    else this.walk(order.up(row));
  }

  /** @param {boolean} open */
  below(open) {
    if (open) this.filter.leave();
    this.order.setBelow(this.rows.current, open);
    this.#refolded();
  }

  openSiblings() {
    const { order, rows } = this;
    this.filter.leave();
    order.rebuild();
    let row = rows.current;
    for (let at = row; at >= 0; at = order.sibling(at, -1)) row = at;
    /** @type {number[]} */ const all = [];
    for (; row >= 0; row = order.sibling(row, 1)) all.push(row);
    for (const one of all) if (order.folds(one)) order.set(one, true);
    this.#refolded();
  }

  /** @param {number} level */
  foldTo(level) {
    this.filter.leave();
    this.order.foldTo(level);
    this.#refolded();
  }

  /** Many folds changed at once. */
  #refolded() {
    const within = this.rows.grid.contains(document.activeElement);
    this.kept.keep();
    this.rows.drawNow();
    if (within) this.rows.focus(this.rows.current);
  }

  follow() {
    if (!this.following) return;
    const n = this.order.newestRunning();
    if (n < 0 || n === this.followed) return;
    this.followed = n;
    this.order.reveal(n);
    this.rows.show(n, "center");
    this.rows.draw();
  }

  /** @param {boolean} on */
  setFollow(on) {
    this.following = on;
    this.followed = -1;
    this.follower.setAttribute("aria-pressed", String(on));
    this.follow();
  }
}
