// @ts-check
/** A pool of rows, drawn once a frame at most; only what is in view has elements. */
import { count, paintStack, span } from "../js/marks.js";
import { now } from "./clock.js";
import { FIRST_GROUP, statusOf } from "./groups.js";
import { ACTIONS, CANCEL, DIFFERS, FAILED, HOLDS, KINDS, PENDING, PLACEHOLDER, RUN, RUNNING, STATUSES, UNATTACHED } from "./store.js";
import { widthOf } from "./waterfall.js";
import { say, sayCount } from "./words.js";

/** Rows drawn above and below what is in view. */
const MARGIN = 6;
/** Pixels a level, and how many levels are drawn as such; the server knows the same (instances/outline.py). */
const INDENT = 18, DEEPEST = 12;
/** Percent that the shortest stretch of the critical path takes, to be seen. */
const LEAST = 0.4;
/** Pixels behind a bar that its mark needs, and of a bar that its pattern needs. */
const CAP = 8, HATCH = 3;

/**
 * @typedef {{row: HTMLElement, n: number, view: string, marked: boolean, stamp: number, epoch: number, index: number, open: number, selected: boolean, top: number, size: number,
 *   parts: Record<string, any>}} Slot
 */

export class Rows {
  /**
   * @param {{grid: HTMLElement, scroller: HTMLElement, canvas: HTMLElement, template: HTMLTemplateElement,
   *   store: import("./store.js").Store, order: import("./order.js").Order, waterfall: import("./waterfall.js").Waterfall}} parts
   */
  constructor({ grid, scroller, canvas, template, store, order, waterfall }) {
    this.grid = grid;
    this.scroller = scroller;
    this.canvas = canvas;
    this.pane = /** @type {HTMLElement | null} */ (document.querySelector("[data-pane]"));
    this.store = store;
    this.order = order;
    this.waterfall = waterfall;
    this.pattern = /** @type {HTMLElement} */ (template.content.firstElementChild);
    /** @type {Map<number, Slot>} */ this.slots = new Map();
    /** @type {Slot[]} */ this.spare = [];
    this.selected = -1;
    /** @type {import("./marked.js").Marked | null} */ this.marked = null;
    /** The row that Tab leads to; it keeps its element while it has the focus. */
    this.current = -1;
    this.height = 28;
    this.barRoom = 0;
    this.ready = false;
    /** What was in view when it was last drawn, in pixels from the first row. */
    this.seen = { top: 0, height: 0 };
    this.asked = false;
    this.ticked = 0;
    /** @type {(() => void)[]} */ this.afterDraw = [];
    scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.measure()).observe(scroller);
    this.measure();
  }

  measure() {
    const height = parseFloat(getComputedStyle(this.grid).getPropertyValue("--row")) || 28;
    this.inside = getComputedStyle(this.scroller).overflowY !== "visible";
    this.waterfall.measure();
    const { room } = this.waterfall;
    if (room !== this.barRoom) for (const slot of this.slots.values()) slot.epoch = -1;
    this.barRoom = room;
    if (height !== this.height) for (const slot of this.slots.values()) slot.top = -1;
    this.height = height;
    this.draw();
  }

  /** Ask for a frame. */
  draw() {
    if (this.asked || !this.ready) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.#frame();
    });
  }

  /** Draws at once, for what must be on the page before the next line. */
  drawNow() {
    if (this.ready) this.#frame();
  }

  /** From here on the rows are ours; those of the server are taken over. */
  takeOver() {
    for (const row of /** @type {NodeListOf<HTMLElement>} */ (this.canvas.querySelectorAll("[role=row]"))) {
      const { group, parent } = row.dataset;
      const n = group === undefined ? Number(row.dataset.n) : FIRST_GROUP + (this.order.groups.under.get(Number(parent))?.get(group) ?? NaN);
      if (Number.isNaN(n)) row.remove();
      else this.slots.set(n, this.#slot(row, n));
      row.dataset.n = String(n);
    }
    this.canvas.classList.add("drawn");
    this.ready = true;
    const first = this.order.rows[0];
    if (this.current < 0 && this.order.length) this.current = this.selected >= 0 ? this.selected : first;
  }

  /** All rows are written anew, in another view: there a group has the number of another. */
  again() {
    for (const [n, slot] of this.slots) {
      this.#forget(slot);
      if (n < FIRST_GROUP) continue;
      this.slots.delete(n);
      slot.row.remove();
    }
    if (this.current >= FIRST_GROUP) this.current = -1;
  }

  /** @param {Slot} slot */
  #forget(slot) {
    slot.stamp = slot.epoch = slot.index = slot.open = slot.top = slot.size = -1;
    slot.view = "";
  }

  /** @param {HTMLElement} row @param {number} n @returns {Slot} */
  #slot(row, n) {
    const part = (/** @type {string} */ selector) => row.querySelector(selector);
    return {
      row, n, view: "", marked: false, stamp: -1, epoch: -1, index: -1, open: -1, selected: false, top: -1, size: -1,
      parts: {
        indent: part(".in"), status: part(".st use"), kind: part(".kind use"), kindTitle: part(".kind"), name: part(".name"), text: part(".name bdi"),
        times: part(".times"), where: part(".where"), whereText: part(".where bdi"), said: part(".said"), fails: part(".fails"), failed: part(".fails b"),
        attempt: part(".more"), asked: part(".tag.asked"), askedIcon: part(".tag.asked use"), askedText: part(".tag.asked span"),
        holds: part(".tag.holds"), warn: part(".tag.warn"), loose: part(".tag.loose"), unknown: part(".tag.unknown"),
        word: part(".word"), progress: part(".s .num"), roll: part(".roll"), stack: part(".stack"), sum: part(".roll b"),
        gap: part(".gap"), bar: part(".bar"), spent: part(".wf small"), wf: part(".wf"),
        was: /** @type {Record<string, any>} */ ({}),
      },
    };
  }

  /** What of the rows is in view, in pixels from the first row. */
  #view() {
    if (this.inside) return { top: this.scroller.scrollTop, height: this.scroller.clientHeight };
    const box = this.canvas.getBoundingClientRect();
    return { top: -box.top, height: innerHeight };
  }

  /** The same without what lies under the pane, where that covers the tree. */
  #free() {
    const view = this.#view(), pane = this.pane;
    if (!pane || pane.hidden || getComputedStyle(pane).position !== "fixed") return view;
    const from = this.inside ? this.scroller.getBoundingClientRect().top : 0;
    return { top: view.top, height: Math.max(this.height, Math.min(view.height, pane.getBoundingClientRect().top - from)) };
  }

  /** @param {number} by */
  #scroll(by) {
    if (this.inside) this.scroller.scrollTop += by;
    else scrollBy({ top: by, behavior: "instant" });
  }

  #frame() {
    const { order, store, height } = this;
    const view = this.seen = this.#view();
    // The row under the eye stays where it is when others come in above it.
    const eye = Math.max(0, Math.floor(view.top / height));
    const anchor = eye > 0 && eye < order.length ? order.rows[eye] : -1;
    if (order.rebuild()) {
      this.canvas.style.height = `${order.length * height}px`;
      this.grid.setAttribute("aria-rowcount", String(order.length + 1));
      const moved = anchor >= 0 ? (order.at(anchor) - eye) * height : 0;
      if (anchor >= 0 && order.at(anchor) >= 0 && moved) {
        this.#scroll(moved);
        view.top += moved;
      }
    } else if (!this.canvas.style.height) this.canvas.style.height = `${order.length * height}px`;
    const first = Math.max(0, Math.min(order.length, Math.floor(view.top / height) - MARGIN));
    const last = Math.max(first, Math.min(order.length, Math.ceil((view.top + view.height) / height) + MARGIN));
    if (this.current >= 0 && order.at(this.current) < 0) this.current = this.#nearest(this.current);
    if (this.current < 0 && order.length) this.current = order.rows[0];
    // Before any row is drawn: what has ended ends on this side of the line that marks the present.
    this.waterfall.catchUp(now());
    this.#place(first, last);
    for (const slot of this.slots.values()) this.#paint(slot);
    this.ticked = this.waterfall.now;
    for (const listener of this.afterDraw) listener();
  }

  /** The nearest above that is shown. @param {number} row */
  #nearest(row) {
    let at = row;
    while (at >= 0 && this.order.at(at) < 0) at = this.order.up(at);
    return at;
  }

  /** Elements for these places and for the current row, in the order of the tree. @param {number} first @param {number} last */
  #place(first, last) {
    const { order, canvas } = this;
    /** @type {number[]} */ const wanted = [];
    const pinned = this.current, pin = order.at(pinned);
    if (pin >= 0 && pin < first) wanted.push(pinned);
    for (let at = first; at < last; at++) wanted.push(order.rows[at]);
    if (pin >= last) wanted.push(pinned);
    const keep = new Set(wanted);
    let lost = false;
    for (const [n, slot] of this.slots) {
      if (keep.has(n)) continue;
      this.slots.delete(n);
      lost ||= slot.row.contains(document.activeElement);
      slot.row.remove();
      if (this.spare.length < 80) this.spare.push(slot);
    }
    const focused = this.slots.get(pinned)?.row ?? null;
    let next = /** @type {HTMLElement | null} */ (canvas.firstElementChild);
    for (const n of wanted) {
      const slot = this.slots.get(n) ?? this.#fresh(n);
      if (slot.row === focused) {
        // An element that is moved loses the focus: so the others go around it.
        while (next && next !== focused) {
          const other = next;
          next = /** @type {HTMLElement | null} */ (next.nextElementSibling);
          focused.after(other);
        }
        next = /** @type {HTMLElement | null} */ (focused.nextElementSibling);
      } else if (slot.row === next) next = /** @type {HTMLElement | null} */ (next.nextElementSibling);
      else canvas.insertBefore(slot.row, next);
    }
    // The row that had the focus is none any more.
    if (lost) this.slots.get(pinned)?.row.focus({ preventScroll: true });
  }

  /** @param {number} n */
  #fresh(n) {
    const slot = this.spare.pop() ?? this.#slot(/** @type {HTMLElement} */ (this.pattern.cloneNode(true)), n);
    slot.n = n;
    this.#forget(slot);
    slot.row.dataset.n = String(n);
    const group = this.order.group(n);
    if (group) {
      slot.row.dataset.group = group.name;
      for (const name of ["taskId", "asked", "holds"]) delete slot.row.dataset[name];
    } else {
      delete slot.row.dataset.group;
      slot.row.dataset.taskId = this.store.ids[n] ?? "";
    }
    slot.row.tabIndex = -1;
    this.slots.set(n, slot);
    return slot;
  }

  /** Writes what changed and nothing else. @param {Slot} slot */
  #paint(slot) {
    const { order, store } = this;
    const { row, n } = slot;
    const index = order.at(n);
    const top = index * this.height;
    if (slot.top !== top) {
      slot.top = top;
      row.style.transform = `translateY(${top}px)`;
    }
    const tab = n === this.current ? 0 : -1;
    if (row.tabIndex !== tab) row.tabIndex = slot.parts.fails.tabIndex = slot.parts.where.tabIndex = tab;
    const selected = n === this.selected;
    if (slot.selected !== selected || slot.stamp < 0) {
      slot.selected = selected;
      row.setAttribute("aria-selected", String(selected));
    }
    const open = order.folds(n) ? (order.isOpen(n) ? 1 : 0) : 2;
    if (slot.open !== open) {
      slot.open = open;
      // The bar of a folded row stands for all below it, too.
      slot.epoch = -1;
      if (open === 2) row.removeAttribute("aria-expanded");
      else row.setAttribute("aria-expanded", String(open === 1));
    }
    const epoch = store.epoch + this.waterfall.epoch;
    const flat = order.view === "flat";
    if (flat && slot.view !== "flat") for (const name of ["aria-level", "aria-posinset", "aria-setsize"]) row.removeAttribute(name);
    slot.view = order.view;
    if (slot.index !== index || slot.stamp < 0) {
      slot.index = index;
      row.setAttribute("aria-rowindex", String(index + 2));
      if (!flat) {
        row.setAttribute("aria-level", String(order.level[index]));
        row.setAttribute("aria-posinset", String(order.posinset[index]));
      }
      slot.parts.indent.setAttribute("width", String(INDENT * Math.min(order.level[index] - 1, DEEPEST)));
    }
    const size = order.setsize(n);
    if (slot.size !== size && !flat) row.setAttribute("aria-setsize", String((slot.size = size)));
    row.classList.toggle("match", order.matches(n));
    const marked = this.marked?.has(n) === true;
    if (slot.marked !== marked) {
      slot.marked = marked;
      slot.epoch = -1;
      row.classList.toggle("marked", marked);
    }
    const group = order.group(n), state = group ? order.grouping.stamp(/** @type {any} */ (group)) : store.stamp[n];
    if (slot.stamp === state && slot.epoch === epoch) {
      if (this.ticked !== this.waterfall.now && (group || store.status[n] === RUNNING)) this.#paintBar(slot);
      return;
    }
    slot.stamp = state;
    slot.epoch = epoch;
    if (group) this.#paintGroup(slot);
    else this.#paintState(slot);
    this.#paintRollUp(slot);
    this.#paintBar(slot);
  }

  /** @param {Slot} slot */
  #paintGroup({ row, n, parts }) {
    const group = this.order.grouping.summed(n - FIRST_GROUP), first = group.members[0] ?? 0;
    const cause = /** @type {import("./causes.js").Cause | null} */ ("code" in group ? group : null), title = cause ? codeOf(cause) : group.name;
    const status = statusOf(group), name = STATUSES[status], word = say(`status_${name}`);
    row.dataset.status = name;
    point(parts.status, name);
    point(parts.kind, KINDS[this.store.kind[first]]);
    parts.kindTitle.title = KINDS[this.store.kind[first]];
    set(parts.text, title);
    parts.where.hidden = true;
    parts.said.hidden = !cause?.message;
    set(parts.said, cause?.message ?? "");
    parts.name.setAttribute("href", `?node=${encodeURIComponent(this.store.ids[first] ?? "")}`);
    parts.times.hidden = false;
    set(parts.times, `× ${count(group.members.length)}`);
    for (const part of [parts.attempt, parts.asked, parts.holds, parts.warn, parts.loose, parts.unknown]) part.hidden = true;
    set(parts.word, word);
    const { done, all, failed } = this.#sums(n);
    if (cause) {
      set(parts.progress, "");
      this.#paintFails(parts, 0);
      const label = say("cause", { code: title, n: count(group.members.length) });
      row.setAttribute("aria-label", [this.#mark(n), label, cause.message].filter(Boolean).join(", "));
      return;
    }
    set(parts.progress, status === RUNNING ? `${Math.floor((100 * done) / all)} %` : "");
    this.#paintFails(parts, failed);
    row.setAttribute("aria-label", [this.#mark(n), group.name, sayCount("group", group.members.length, count(group.members.length)), word, this.#below(n)].filter(Boolean).join(", "));
  }

  /** @param {number} row */
  #mark(row) {
    return this.marked?.has(row) ? say("marked_row") : "";
  }

  /** @param {Record<string, any>} parts @param {number} failed */
  #paintFails(parts, failed) {
    parts.fails.hidden = !failed;
    const text = failed ? count(failed) : "";
    if (parts.failed.textContent === text) return;
    parts.failed.textContent = text;
    parts.fails.setAttribute("aria-label", say("fails_below", { n: text }));
    parts.fails.title = say("fails_below", { n: text });
  }

  /** Of all below a row. @param {number} row */
  #sums(row) {
    return row >= FIRST_GROUP ? summed(this.order.grouping.summed(row - FIRST_GROUP)) : sums(this.store, row);
  }

  /** @param {Slot} slot */
  #paintState({ row, n, parts }) {
    const { store } = this;
    const status = STATUSES[store.status[n]], kind = KINDS[store.kind[n]], over = store.over[n];
    const asked = store.asked(n), here = store.askedHere(n);
    const holds = (over & HOLDS) !== 0;
    row.dataset.status = status;
    row.dataset.asked = ACTIONS[asked];
    row.dataset.holds = String(holds);
    point(parts.status, status);
    point(parts.kind, kind);
    parts.kindTitle.title = kind;
    set(parts.text, store.name(n));
    const link = `?node=${encodeURIComponent(store.ids[n] ?? "")}`;
    if (parts.name.getAttribute("href") !== link) parts.name.setAttribute("href", link);
    parts.times.hidden = parts.said.hidden = true;
    const up = this.order.view === "tree" ? -1 : store.parent[n];
    parts.where.hidden = up < 0;
    if (up >= 0) set(parts.whereText, store.name(up));
    this.#paintFails(parts, store.below(n)[FAILED]);
    const attempt = store.attempt[n];
    parts.attempt.hidden = attempt === 1;
    // None: of the attempts before the last it is not known when they were.
    if (attempt !== 1) set(parts.attempt, attempt ? say("attempt", { n: attempt }) : say("attempt_unknown"));
    parts.asked.hidden = here === RUN || store.stillOpen(n) === 0;
    if (!parts.asked.hidden) {
      parts.asked.dataset.action = ACTIONS[here];
      point(parts.askedIcon, here === CANCEL ? "stop" : "pause");
      set(parts.askedText, say(here === CANCEL ? "cancel_asked" : "pause_asked"));
    }
    parts.holds.hidden = !holds;
    parts.warn.hidden = !(over & DIFFERS);
    parts.loose.hidden = !(over & UNATTACHED);
    parts.unknown.hidden = !(over & PLACEHOLDER);
    const word = say(`status_${status}`);
    set(parts.word, word);
    const progress = store.status[n] === RUNNING && !Number.isNaN(store.progress[n]) ? `${Math.round(store.progress[n])} %` : "";
    set(parts.progress, progress);
    row.setAttribute("aria-label", [this.#mark(n), store.name(n), up < 0 ? "" : say("in_parent", { name: store.name(up) }), word, progress, this.#below(n), parts.asked.hidden ? "" : parts.askedText.textContent,
      holds ? parts.holds.textContent.trim() : "", this.waterfall.path?.steps.has(n) ? say("on_path") : ""].filter(Boolean).join(", "));
  }

  /** @param {number} n */
  #below(n) {
    if (n < FIRST_GROUP && !this.store.children[n]) return "";
    const { done, all, failed } = this.#sums(n);
    const text = say("row_done", { done: count(done), all: count(all) });
    return failed ? `${text}, ${say("row_failed", { n: count(failed) })}` : text;
  }

  /** @param {Slot} slot */
  #paintRollUp({ n, parts }) {
    const has = n >= FIRST_GROUP || this.store.children[n] > 0 || this.store.rest[n] > 0;
    parts.stack.hidden = !has;
    if (!has) {
      set(parts.sum, "");
      return;
    }
    const { counts, done, all, rest } = this.#sums(n);
    const key = `${counts.join()},${rest}`;
    if (parts.was.roll === key) return;
    parts.was.roll = key;
    paintStack(parts.stack, Object.fromEntries(STATUSES.map((name, s) => [name, counts[s]])), rest);
    parts.stack.title = STATUSES.map((name, s) => (counts[s] ? say("tally", { n: count(counts[s]), word: say(`status_${name}`).toLowerCase() }) : ""))
      .concat(rest ? say("planned", { n: count(rest) }) : "").filter(Boolean).join(say("and"));
    set(parts.sum, `${count(done)}/${count(all)}`);
  }

  /** @param {Slot} slot */
  #paintBar({ n, parts }) {
    this.#paintPath(n, parts);
    const bar = n >= FIRST_GROUP ? this.waterfall.span(this.order.grouping.summed(n - FIRST_GROUP)) : this.waterfall.bar(n, this.order.folds(n) && !this.order.isOpen(n));
    parts.bar.toggleAttribute("hidden", !bar);
    if (!bar) {
      set(parts.spent, "");
      return;
    }
    const gap = `${bar.gap.toFixed(2)}%`, width = `${bar.width.toFixed(2)}%`;
    if (parts.was.gap !== gap) parts.gap.setAttribute("width", (parts.was.gap = gap));
    if (parts.was.width !== width) parts.bar.setAttribute("width", (parts.was.width = width));
    parts.wf.classList.toggle("below", bar.below);
    const free = this.waterfall.free(bar.gap + bar.width);
    const spent = Number.isNaN(bar.spent) ? "" : span(bar.spent);
    parts.wf.classList.toggle("full", free < widthOf(spent));
    parts.wf.classList.toggle("edge", free >= 0 && free < CAP);
    parts.wf.classList.toggle("start", ((bar.gap + bar.width) / 100) * this.barRoom < CAP);
    parts.wf.classList.toggle("tick", (bar.width / 100) * this.barRoom < HATCH);
    set(parts.spent, spent);
  }

  /** A line below the bar; made only where there is one. @param {number} n @param {Record<string, any>} parts */
  #paintPath(n, parts) {
    const { order, waterfall } = this, group = order.group(n), folded = order.folds(n) && !order.isOpen(n);
    const stretches = !waterfall.path || (group && !folded) ? [] : (group?.members ?? [n]).flatMap((one) => waterfall.stretches(one, folded));
    const line = stretches.map(([from, to]) => `M${from.toFixed(2)} 1H${Math.max(to, from + LEAST).toFixed(2)}`).join("");
    if ((parts.was.path ?? "") === line) return;
    parts.was.path = line;
    parts.path ??= pathOn(parts.wf);
    parts.path.setAttribute("d", line);
  }

  /** The part of a row that was never drawn is made for it. @param {number} n @param {"nearest" | "center"} [where] */
  show(n, where = "nearest") {
    this.order.rebuild();
    this.canvas.style.height = `${this.order.length * this.height}px`;
    const index = this.order.at(n);
    if (index < 0) return;
    const { top, height } = this.#free();
    const above = this.inside ? 0 : 44, from = index * this.height, to = from + this.height;
    let by = 0;
    if (where === "center") by = from - top - (height - this.height) / 2;
    else if (from < top + above) by = from - top - above;
    else if (to > top + height) by = to - top - height;
    if (by) this.#scroll(by);
  }

  /** Moves the focus (and with it the tab stop) to a row. @param {number} n @param {"nearest" | "center"} [where] */
  focus(n, where = "nearest") {
    if (this.order.at(n) < 0) return;
    this.current = n;
    this.show(n, where);
    this.drawNow();
    this.slots.get(n)?.row.focus({ preventScroll: true });
  }

  /** Rows that fit on a page. */
  get page() {
    return Math.max(1, Math.floor(this.#view().height / this.height) - 1);
  }

  /** The task of an element in a row, -1 outside. @param {EventTarget | null} element */
  of(element) {
    const row = element instanceof Element ? /** @type {HTMLElement | null} */ (element.closest("[role=row][data-n]")) : null;
    return row ? Number(row.dataset.n) : -1;
  }
}

/** @param {import("./causes.js").Cause} cause */
function codeOf({ code }) {
  return code === null ? say("code_unknown") : code || say("no_code");
}

/** @param {import("./store.js").Store} store @param {number} n */
export function sums(store, n) {
  return summed({ counts: store.below(n), rest: store.rest[n] });
}

/** @param {{counts: Int32Array, rest: number}} below */
function summed({ counts, rest }) {
  const total = counts.reduce((a, b) => a + b, 0);
  return { counts: Array.from(counts), rest, all: total + rest, done: total - counts[PENDING] - counts[RUNNING], failed: counts[FAILED] };
}

/** @param {HTMLElement} wf */
function pathOn(wf) {
  const make = (/** @type {string} */ name) => document.createElementNS("http://www.w3.org/2000/svg", name);
  const svg = make("svg"), path = make("path");
  for (const [name, value] of [["class", "path"], ["viewBox", "0 0 100 2"], ["preserveAspectRatio", "none"]]) svg.setAttribute(name, value);
  svg.append(path);
  wf.append(svg);
  return path;
}

/** @param {any} part @param {string} text */
function set(part, text) {
  if (part.textContent !== text) part.textContent = text;
}

/** @param {SVGUseElement} use @param {string} name */
export function point(use, name) {
  const href = use.getAttribute("href") ?? "";
  const wanted = `${href.slice(0, href.indexOf("#"))}#${name}`;
  if (href !== wanted) use.setAttribute("href", wanted);
}
