// @ts-check
/** The page of one run: brings its parts together. */
import { count } from "../js/marks.js";
import { announce, toast } from "../js/voice.js";
import { address, said } from "./address.js";
import { Arrivals } from "./arrivals.js";
import { Asked } from "./asked.js";
import { Bulk } from "./bulk.js";
import { everySecond, hear, now } from "./clock.js";
import { Controls } from "./controls.js";
import { CriticalLine } from "./critical-line.js";
import { DetailPane } from "./detail-pane.js";
import { Filter } from "./filter.js";
import { Errors } from "./errors.js";
import { folds } from "./folds.js";
import { FIRST_GROUP } from "./groups.js";
import { Head } from "./head.js";
import { IdleTimes } from "./idle-times.js";
import { KeptFolds } from "./kept-folds.js";
import { bindKeys, showKeys } from "./keys.js";
import { Liveness } from "./liveness.js";
import { Loose } from "./loose.js";
import { Minimap } from "./minimap.js";
import { Marked } from "./marked.js";
import { Moves } from "./moves.js";
import { News } from "./news.js";
import { Order } from "./order.js";
import { Playback } from "./playback.js";
import { RowMenu } from "./row-menu.js";
import { Rows } from "./rows.js";
import { CANCEL, PAUSE, RUN, STATUSES, Store } from "./store.js";
import { Views } from "./views.js";
import { Waterfall } from "./waterfall.js";
import { say, sayCount, setWords } from "./words.js";
import { bindZoom } from "./zoom.js";

const part = (/** @type {string} */ selector) => /** @type {any} */ (document.querySelector(selector));
const page = /** @type {HTMLElement} */ (part(".trace"));
setWords(JSON.parse(part("#words").textContent));
hear(Number(page.dataset.now));

const grid = /** @type {HTMLElement} */ (part(".trace .grid"));
const store = new Store();
const order = new Order(store);
const waterfall = new Waterfall(store, part(".axis svg"), part(".over"));
const rows = new Rows({ grid, scroller: part("[data-scroll]"), canvas: part(".canvas"), template: part("template#row"), store, order, waterfall });
const head = new Head(page, store);
const controls = new Controls(page, store);
const loose = new Loose(page, store);
const news = new News(store);
const kept = new KeptFolds(page.dataset.trace ?? "", order);
const pane = new DetailPane(page, store, { select: (n) => moves.select(n), close: () => { moves.close(); rows.focus(rows.current); } });
const asked = new Asked(page, store, { head, pane, waterfall });
const filter = new Filter(page, order, rows, (n) => moves.select(n));
const views = new Views(page, grid, order, rows);
const errors = new Errors(page, order, changed);
const moves = new Moves(store, order, rows, { pane, filter, kept, views, follower: part("[data-follow]") });
const criticalLine = new CriticalLine(page, store, order, rows, waterfall);
const idleTimes = new IdleTimes(page, rows, waterfall);
const marked = new Marked(store, order);
const bulk = new Bulk(page, store, marked, controls, unmark);
const minimap = new Minimap(page, store, order, rows, () => moves.setFollow(false));
const liveness = new Liveness(page, grid, store);
const arrivals = new Arrivals(page, grid, store, liveness, {
  keep: () => (rows.selected >= 0 ? store.ids[rows.selected] : said("node") || undefined),
  loaded: (selected) => { playback.active ? (playback.stale = true) : first(selected); },
  reshaped: (parents) => {
    if (playback.active) return playback.note(parents);
    order.reshaped(parents);
    filter.sift();
  },
  asked: () => asked.fetch(),
  changed,
});
const playback = new Playback(page, { store, order, rows, waterfall, arrivals, liveness, head }, { entered: () => moves.setFollow(false), moved: () => { criticalLine.seq = -1; }, left });
const { search } = filter;

page.classList.add("scripted");
// Not after the line is up: what is missing between the two is asked for by its sequence.
rows.marked = marked;
arrivals.load();

/** What the tree opens with, once it is known. @param {string | undefined} selected */
function first(selected) {
  if (!arrivals.loaded && said("open") !== null) kept.link(said("open") ?? "");
  order.reset();
  marked.renew();
  waterfall.tick(now());
  criticalLine.renew();
  if (!arrivals.loaded) views.open(), opened(selected);
  else rows.slots.forEach((slot) => { slot.stamp = -1; });
  rows.selected = selected ? store.find(selected) : -1;
  order.rebuild();
  if (!rows.ready) rows.takeOver();
  pane.show(rows.selected);
  rows.drawNow();
  if (rows.selected >= 0) rows.show(rows.selected);
  news.reset();
  if (!arrivals.loaded) queueMicrotask(() => playback.open());
  changed();
}

/** The present again: what came beneath is put into its place. @param {boolean} stale @param {Set<number>} parents */
function left(stale, parents) {
  if (stale) return first(rows.selected >= 0 ? store.ids[rows.selected] : undefined);
  order.reshaped(parents);
  for (const group of order.groups.list) group.seen = -1;
  order.dirty = true;
  for (const slot of rows.slots.values()) slot.stamp = -1;
  waterfall.tick(now());
  criticalLine.renew();
  filter.sift();
  news.reset();
  rows.drawNow();
}

/** As the address says, else to what failed first, as the server's rows do. @param {string | undefined} selected */
function opened(selected) {
  const way = store.find(selected ?? page.dataset.lead ?? "");
  if (way >= 0) order.lead(way, selected !== undefined, selected !== undefined && said("open") === null);
  const status = STATUSES.indexOf(said("status") ?? "");
  if (search.value || status >= 0) filter.set(search.value, status < 0 ? null : status);
  const [from, to] = (said("t") ?? "").split("-").map(Number);
  idleTimes.open();
  criticalLine.open();
  if (to > from) waterfall.zoom(waterfall.begin + from, waterfall.begin + to);
  if (said("open") !== null) address({ open: null });
  part("[data-fit]").hidden = !waterfall.zoomed;
}

// -- what is shown

/** Something changed: the store is right at once, the page with the next frame. */
function changed() {
  if (playback.active) head.tab(store.root < 0 ? 1 : head.live.status[store.root]);
  if (document.hidden) return;
  rows.draw();
}

let drawn = "";
rows.afterDraw.push(() => {
  errors.draw();
  // Most frames are of scrolling: the rest of the page is as it was.
  const state = `${store.seq} ${store.epoch} ${store.shape} ${rows.selected} ${order.length} ${order.found} ${order.kept !== null} ${order.only !== null} ${order.view} ${marked.version} ${filter.waiting}`;
  if (state === drawn) return;
  drawn = state;
  moves.follow();
  grid.dataset.seq = String(store.seq);
  head.draw();
  loose.draw();
  pane.draw();
  controls.draw();
  bulk.draw();
  filter.draw();
  criticalLine.draw();
  if (!playback.active) news.speak();
});

everySecond(() => {
  if (!arrivals.loaded) return;
  waterfall.tick(now());
  criticalLine.tick();
  asked.tick();
  head.tick();
  pane.tick();
  rows.draw();
  liveness.tick();
});
document.addEventListener("visibilitychange", () => document.hidden || changed());

/** A link to what is seen now: the row, what is folded, the filter, the part of the time. */
async function copyLink() {
  const link = new URL(location.href), open = folds(order);
  if (store.ids[rows.current] !== undefined) link.searchParams.set("node", store.ids[rows.current] ?? "");
  if (open) link.searchParams.set("open", open);
  try {
    await navigator.clipboard.writeText(link.href);
    toast(say(open === null ? "link_copied_without" : "link_copied"), { seconds: open === null ? 8 : 3 });
  } catch {
    toast(link.href);
  }
}

/** @param {() => void} change */
function look(change) {
  change();
  looked();
}

/** Another part of the time is shown. */
function looked() {
  part("[data-fit]").hidden = !waterfall.zoomed;
  const { begin, from, to, zoomed } = waterfall;
  address({ t: zoomed ? `${Math.round(from - begin)}-${Math.round(to - begin)}` : null });
  rows.draw();
}
bindZoom(grid, waterfall, looked);

// -- hands

const ask = (/** @type {number} */ action) => {
  if (playback.active) return announce(say("past_commands"));
  if (marked.tasks.size) bulk.ask(action);
  else if (rows.current < FIRST_GROUP) controls.ask(rows.current, action);
};
const sheet = () => showKeys(part("[data-key-sheet]"), controls.allowed);

/** Into the details of a task; a group opens and folds. */
function enter() {
  if (rows.current >= FIRST_GROUP) return moves.turn(rows.current);
  moves.select(rows.current);
  pane.focus();
}

const markRow = () => mark(() => marked.set(rows.current, !marked.has(rows.current)));

const menu = new RowMenu(store, order, rows, controls.allowed, {
  enter,
  pause: () => controls.ask(rows.current, PAUSE),
  resume: () => controls.ask(rows.current, RUN),
  cancel: () => controls.ask(rows.current, CANCEL),
  mark: markRow,
  firstFailed: () => moves.go(order.firstFailure(rows.current)),
  openBelow: () => moves.below(true),
  foldBelow: () => moves.below(false),
  place: () => moves.place(rows.current),
  copy: copyLink,
  taskLog: () => location.assign(`${page.dataset.log}?task_id=${encodeURIComponent(store.ids[rows.current] ?? "")}`),
});

bindKeys(grid, {
  up: () => moves.step(-1),
  down: () => moves.step(1),
  pageUp: () => moves.step(-rows.page),
  pageDown: () => moves.step(rows.page),
  home: () => rows.focus(order.rows[0]),
  end: () => rows.focus(order.rows[order.length - 1]),
  right: () => moves.right(),
  left: () => moves.left(),
  later: () => moves.walk(order.sibling(rows.current, 1)),
  earlier: () => moves.walk(order.sibling(rows.current, -1)),
  parent: () => moves.walk(order.up(rows.current)),
  openBelow: () => moves.below(true),
  foldBelow: () => moves.below(false),
  openSiblings: () => moves.openSiblings(),
  level: (key) => moves.foldTo(key === "0" ? Infinity : Number(key)),
  nextFailed: () => moves.jump("failed", 1),
  lastFailed: () => moves.jump("failed", -1),
  nextRunning: () => moves.jump("running", 1),
  lastRunning: () => moves.jump("running", -1),
  nextStuck: () => moves.jump("stuck", 1),
  lastStuck: () => moves.jump("stuck", -1),
  enter,
  past: () => playback.toggle(),
  changeBefore: () => playback.change(-1),
  changeAfter: () => playback.change(1),
  escape: () => (playback.active ? playback.leave() : pane.open ? moves.close() : order.kept ? filter.clear() : unmark()),
  mark: markRow,
  markUp: () => reach(-1),
  markDown: () => reach(1),
  follow: () => moves.setFollow(!moves.following),
  path: () => criticalLine.toggle(),
  pathRows: () => criticalLine.toggleRows(),
  idle: () => idleTimes.toggle(),
  map: () => minimap.toggle(),
  closer: () => look(() => waterfall.scale(2)),
  wider: () => look(() => waterfall.scale(0.5)),
  fit: () => look(() => waterfall.zoom()),
  before: () => look(() => waterfall.pan(-0.2)),
  after: () => look(() => waterfall.pan(0.2)),
  pause: () => ask(PAUSE),
  resume: () => ask(RUN),
  cancel: () => ask(CANCEL),
  commands: () => menu.open(),
  copy: copyLink,
  view: () => views.next(),
  newerRun: () => page.dataset.newer && location.assign(page.dataset.newer),
  olderRun: () => page.dataset.older && location.assign(page.dataset.older),
  sheet,
});

/** @param {() => void} change */
function mark(change) {
  if (!controls.allowed || rows.current < 0) return;
  change();
  rows.drawNow();
  announce(sayCount("marked", marked.tasks.size, count(marked.tasks.size)));
}

/** This row and the next. @param {1 | -1} way */
function reach(way) {
  mark(() => {
    if (!marked.has(rows.current)) marked.set(rows.current, true);
    moves.step(way);
    marked.set(rows.current, true);
  });
}

/** No row is marked any more. */
function unmark() {
  if (!marked.tasks.size) return;
  const within = part("[data-bulk]")?.contains(document.activeElement);
  marked.clear();
  rows.drawNow();
  if (within) rows.focus(rows.current);
}

grid.addEventListener("click", (event) => {
  const n = rows.of(event.target);
  if (n < 0 || !arrivals.loaded) return;
  const element = /** @type {Element} */ (event.target);
  if (controls.allowed && (event.shiftKey || ((event.ctrlKey || event.metaKey) && !element.closest("a")))) {
    event.preventDefault();
    mark(() => (event.shiftKey ? marked.reach(n) : marked.set(n, !marked.has(n))));
    return rows.focus(n);
  }
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (element.closest(".fails")) return moves.go(order.firstFailure(n));
  if (element.closest(".where")) return moves.place(n);
  if (element.closest(".tw") && order.folds(n)) return moves.turn(n);
  if (n >= FIRST_GROUP) moves.turn(n);
  else moves.select(n);
  rows.focus(n);
});
// A range of rows is no range of text.
grid.addEventListener("mousedown", (event) => event.shiftKey && controls.allowed && event.preventDefault());
grid.addEventListener("dblclick", (event) => {
  const n = rows.of(event.target);
  if (n >= 0 && n < FIRST_GROUP) order.view === "tree" ? moves.turn(n) : moves.place(n);
});
grid.addEventListener("focusin", (event) => {
  const n = rows.of(event.target);
  if (n >= 0 && n !== rows.current) {
    rows.current = n;
    rows.draw();
  }
});
for (const what of ["wheel", "pointerdown", "touchmove"]) grid.addEventListener(what, () => moves.following && moves.setFollow(false), { passive: true });

part("[data-pane]").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
  if (event.key !== "Escape" || event.defaultPrevented) return;
  event.preventDefault();
  rows.focus(rows.current);
});
page.addEventListener("click", (event) => {
  const at = /** @type {Element} */ (event.target);
  if (!arrivals.loaded || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const chip = /** @type {HTMLElement | null} */ (at.closest("[data-filter]"));
  const show = /** @type {HTMLAnchorElement | null} */ (at.closest("[data-show]"));
  const button = /** @type {HTMLElement | null} */ (at.closest("[data-step]"));
  const view = /** @type {HTMLElement | null} */ (at.closest("[data-view-of]"));
  const alike = /** @type {HTMLAnchorElement | null} */ (at.closest("[data-link=alike]"));
  const foldAll = /** @type {HTMLElement | null} */ (at.closest("[data-fold]"));
  if (chip) {
    event.preventDefault();
    const status = STATUSES.indexOf(chip.dataset.filter ?? "");
    filter.set(search.value, order.wanted === status ? null : status);
  } else if (view) {
    event.preventDefault();
    views.set(view.dataset.viewOf ?? "");
  } else if (alike) {
    event.preventDefault();
    search.value = new URL(alike.href).searchParams.get("q") ?? "";
    views.set("tree");
    filter.set(search.value, null);
  } else if (show) {
    event.preventDefault();
    const n = store.find(new URL(show.href).searchParams.get("node") ?? "");
    if (n >= 0) moves.go(n);
  } else if (button) {
    const place = button.dataset.inside === undefined ? -1 : store.find(button.dataset.inside);
    moves.jump(/** @type {any} */ (button.dataset.kind ?? "failed"), button.dataset.step === "1" ? 1 : -1, place);
  } else if (foldAll) moves.foldTo(foldAll.dataset.fold === "open" ? Infinity : 1);
  else if (at.closest("[data-follow]")) moves.setFollow(!moves.following);
  else if (at.closest("[data-path]")) criticalLine.toggle();
  else if (at.closest("[data-path-rows]")) criticalLine.toggleRows();
  else if (at.closest("[data-idle]")) idleTimes.toggle();
  else if (at.closest("[data-map]")) minimap.toggle();
  else if (at.closest("[data-keys]")) sheet();
  else if (at.closest("[data-link-copy]")) copyLink();
  else if (at.closest("[data-fit]")) look(() => waterfall.zoom());
  else if (at.closest("[data-clear]")) {
    event.preventDefault();
    filter.clear();
  }
});
search.addEventListener("input", () => arrivals.loaded && filter.set(search.value, order.wanted));
search.form?.addEventListener("submit", (event) => arrivals.loaded && event.preventDefault());
search.addEventListener("keydown", (event) => {
  if (!arrivals.loaded) return;
  if (event.key === "Enter") {
    event.preventDefault();
    filter.next(event.shiftKey ? -1 : 1);
  } else if (event.key === "Escape") {
    filter.clear();
    rows.focus(rows.current);
  } else if (event.key === "ArrowDown") {
    event.preventDefault();
    rows.focus(rows.current);
  }
});

liveness.tell("late", "connecting");
