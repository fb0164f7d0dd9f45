// @ts-check
/** The page of one run: brings its parts together. */
import { count, when } from "../js/marks.js";
import { announce, badge, toast } from "../js/voice.js";
import { everySecond, hear, now } from "./clock.js";
import { Controls } from "./controls.js";
import { DetailPane } from "./detail-pane.js";
import { Head } from "./head.js";
import { bindKeys, showKeys } from "./keys.js";
import { LiveSocket } from "./live-socket.js";
import { Loose } from "./loose.js";
import { Order } from "./order.js";
import { Rows } from "./rows.js";
import { CANCEL, FAILED, PAUSE, RUN, STATUSES, Store } from "./store.js";
import { Waterfall } from "./waterfall.js";
import { intentsOf, rowOfTask, rowsOfDelta, rowsOfSnapshot } from "./wire.js";
import { say, sayCount, setWords } from "./words.js";

/** Changes in the status of tasks are spoken at most so often. */
const SPEAK_MS = 5000;
/** Folds that are kept for when the page is loaded again. */
const MOST_FOLDS = 20_000;

const part = (/** @type {string} */ selector) => /** @type {any} */ (document.querySelector(selector));
const page = /** @type {HTMLElement} */ (part(".trace"));
setWords(JSON.parse(part("#words").textContent));
hear(Number(page.dataset.now));

const trace = page.dataset.trace ?? "";
const grid = /** @type {HTMLElement} */ (part("[role=treegrid]"));
const store = new Store();
const order = new Order(store);
const waterfall = new Waterfall(store, part(".axis svg"), part(".over"));
const rows = new Rows({ grid, scroller: part("[data-scroll]"), canvas: part(".canvas"), template: part("template#row"), store, order, waterfall });
const head = new Head(page, store);
const controls = new Controls(page, store);
const loose = new Loose(page, store);
const pane = new DetailPane(page, store, { select, close: () => { close(); rows.focus(rows.current); } });
const search = /** @type {HTMLInputElement} */ (part("[data-search]"));
/** @type {any[]} */ let buffered = [];
/** What the line said last: of which epoch it speaks, and how far the tower is. */
let promised = { epoch: "", seq: -1 };
let epoch = "", t0 = 0, control = -1, loaded = false, loading = false, following = false, mode = "live";
let state = "off", lateSince = 0, spoken = { ended: 0, failed: 0, at: 0 };

page.classList.add("scripted");
order.chosen = keptFolds();

// -- what arrives

const socket = new LiveSocket(page.dataset.socket ?? "", trace, {
  seq: () => (loaded && !loading ? store.seq : -1),
  epoch: () => epoch,
  hello: (frame, asked) => {
    promised = { epoch: frame.epoch, seq: frame.seq };
    mode = frame.mode ?? "live";
    if (loading) return;
    if (!loaded) return load();
    if (frame.epoch === epoch) takeIntents(frame.intents, frame.control);
    // What was missed follows by itself where the greeting said how far this page is.
    if (!asked || frame.seq <= store.seq) reconcile();
  },
  delta: (frame) => (loaded && !loading ? take(frame) : frame.op === "d" && buffered.push(frame)),
  reset: () => load(),
  heard: (ms) => { if (ms !== undefined) hear(ms); },
  state: (next, why) => tell(next, why),
  poll,
});
// Not after the line is up: what is missing between the two is asked for by its sequence.
load();

/** Both are here, the snapshot and the line: is anything missing between them? */
function reconcile() {
  if (!socket.subscribed) return;
  if (promised.epoch !== epoch) return load();
  if (promised.seq > store.seq) socket.since(store.seq);
  else settle();
}

/** A fresh snapshot; deltas that come meanwhile wait. */
async function load() {
  if (loading) return;
  loading = true;
  buffered = [];
  grid.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(page.dataset.snapshot ?? "", { headers: { Accept: "application/json" }, credentials: "same-origin" });
    if (!response.ok) throw new Error(String(response.status));
    const body = await response.json();
    const selected = rows.selected >= 0 ? store.ids[rows.selected] : chosenByUrl();
    store.load(rowsOfSnapshot(body), body.intents, body.seq);
    epoch = body.epoch;
    control = body.control ?? -1;
    t0 = body.t0;
    first(selected);
    loading = false;
    const waiting = buffered;
    buffered = [];
    for (const frame of waiting) if (frame.from <= store.seq) take(frame);
    reconcile();
    fetchControls();
  } catch {
    loading = false;
    // The line is there but the snapshot is not: ask again, as the line would be asked for.
    if (state !== "off") setTimeout(load, 2000);
  }
  grid.removeAttribute("aria-busy");
}

/** What the tree opens with, once it is known. @param {string | undefined} selected */
function first(selected) {
  if (search.value) order.filter(search.value, null);
  order.reset();
  if (!loaded) {
    loaded = true;
    const way = selected ? store.find(selected) : store.total > 200 ? order.nextFailure(-1, 1) : -1;
    if (way >= 0) for (const up of store.path(way).slice(0, -1)) order.open[up] = 1;
    const query = new URLSearchParams(location.search);
    const status = STATUSES.indexOf(query.get("status") ?? "");
    if (status >= 0) filter(search.value, status);
  } else rows.slots.forEach((slot) => { slot.stamp = -1; });
  rows.selected = selected ? store.find(selected) : -1;
  waterfall.tick(now());
  order.rebuild();
  if (!rows.ready) rows.takeOver();
  pane.show(rows.selected);
  rows.drawNow();
  if (rows.selected >= 0) rows.show(rows.selected);
  spoken = { ended: ended(), failed: store.totals[FAILED], at: performance.now() };
  changed();
}

/** One frame of the line, in order or not. @param {any} frame */
function take(frame) {
  if (frame.mode) mode = frame.mode;
  if (frame.op !== "d") {
    if (frame.seq > store.seq || frame.control > control) socket.since(store.seq), tell("late", "catching_up");
    else settle();
    return;
  }
  if (frame.from > store.seq) {
    tell("late", "catching_up");
    socket.since(store.seq);
    return;
  }
  if (frame.seq > store.seq) apply(rowsOfDelta(frame, t0), frame.seq);
  if (frame.intents) takeIntents(frame.intents, frame.control);
  settle();
}

/** @param {import("./store.js").Row[]} changes @param {number} seq */
function apply(changes, seq) {
  order.reshaped(store.apply(changes, seq));
  if (order.wanted !== null) sift();
  changed();
}

/** @param {import("./store.js").Intent[]} intents @param {number} [number] */
function takeIntents(intents, number) {
  if (number !== undefined && number <= control) return; // known, or overtaken by a newer one
  control = number ?? control;
  store.setIntents(intents);
  fetchControls();
  changed();
}

/** Nothing is known to be missing. */
function settle() {
  if (loaded && !loading && socket.subscribed) tell("live", "");
}

/** Without a socket: what changed, by HTTP. True where the tower answers. */
async function poll() {
  try {
    if (!loaded) {
      await load();
      return loaded;
    }
    for (let more = true; more; ) {
      const response = await fetch(`${page.dataset.changes}?since=${store.seq}`, { headers: { Accept: "application/json" }, credentials: "same-origin" });
      if (!response.ok) return false;
      const body = await response.json();
      if (body.reset) {
        await load();
        return true;
      }
      const made = new Map(body.nodes.map((/** @type {any} */ task) => [task.id, task.n]));
      const find = (/** @type {string} */ id) => made.get(id) ?? store.find(id);
      apply(body.nodes.map((/** @type {any} */ task) => rowOfTask(task, find)), body.seq);
      const asked = intentsOf(body.intents, find);
      if (JSON.stringify(asked) !== JSON.stringify([...store.intents].map(([at, one]) => [at, one.action, one.number]))) takeIntents(asked);
      more = body.more === true;
    }
    return true;
  } catch {
    return false;
  }
}

/** Who asked for what; few, and only when something is asked. */
async function fetchControls() {
  try {
    const response = await fetch(`${page.dataset.controls}?trace_id=${encodeURIComponent(trace)}&limit=200`, { headers: { Accept: "application/json" }, credentials: "same-origin" });
    if (!response.ok) return;
    const { results } = await response.json();
    head.setAsked(new Map(results.filter((/** @type {any} */ one) => one.number != null).map((/** @type {any} */ one) => [one.number, one])));
    pane.setControls(results);
    waterfall.setBands(bands(results));
    if (results.some((/** @type {any} */ one) => one.delivered === false && (one.outcome ?? "taken") === "taken")) setTimeout(fetchControls, 2000);
  } catch {
    // It is asked for again with the next control.
  }
}

/** Times in which a pause stood, newest first in. @param {any[]} results */
function bands(results) {
  /** @type {Map<string, {from: number, to: number | null, label: string}>} */ const open = new Map();
  const all = [];
  for (const one of [...results].reverse()) {
    if ((one.outcome ?? "taken") !== "taken") continue;
    const place = one.task_id ?? "", at = Date.parse(one.created_at);
    if (one.action === "PAUSE" && !open.has(place)) {
      const band = { from: at, to: null, label: `${say("PAUSE")} · ${one.triggered_by}` };
      open.set(place, band);
      all.push(band);
    } else if (one.action !== "PAUSE") {
      const band = open.get(place);
      if (band) band.to = at;
      open.delete(place);
    }
  }
  const last = store.stillOpen(-1) ? null : store.to;
  for (const band of all) if (band.to === null) band.to = last;
  return all;
}

// -- what is shown

/** Something changed: the store is right at once, the page with the next frame. */
function changed() {
  if (document.hidden) return;
  rows.draw();
}

let drawn = "";
rows.afterDraw.push(() => {
  // Most frames are of scrolling: the rest of the page is as it was.
  const state = `${store.seq} ${store.epoch} ${store.shape} ${rows.selected} ${order.length} ${order.found} ${order.kept !== null}`;
  if (state === drawn) return;
  drawn = state;
  if (following) follow();
  grid.dataset.seq = String(store.seq);
  head.draw();
  loose.draw();
  pane.draw();
  controls.draw();
  part("[data-none]").hidden = order.length > 0;
  const filtered = order.kept !== null;
  part("[data-clear]").hidden = !filtered;
  part("[data-found]").textContent = filtered ? sayCount("found", order.found, count(order.found)) : "";
  speak();
});

everySecond(() => {
  if (!loaded) return;
  waterfall.tick(now());
  head.tick();
  pane.tick();
  rows.draw();
  if (state === "late" && lateSince && performance.now() - lateSince > 10_000) veil();
});
document.addEventListener("visibilitychange", () => document.hidden || changed());

const ended = () => store.total - store.stillOpen(-1);

/** At most one line each few seconds, of the kind "12 finished, 1 failed". */
function speak() {
  const at = performance.now();
  if (at - spoken.at < SPEAK_MS) return;
  const news = { ended: ended() - spoken.ended, failed: store.totals[FAILED] - spoken.failed };
  if (news.ended <= 0 && news.failed <= 0) return;
  spoken = { ended: ended(), failed: store.totals[FAILED], at };
  announce(say("news", { ended: count(Math.max(0, news.ended)), failed: count(Math.max(0, news.failed)) }));
}

/** @param {"live" | "late" | "off"} next @param {string} why */
function tell(next, why) {
  if (state !== next) {
    if (next === "late") lateSince = performance.now();
    if (next === "late" && state === "live" && why !== "catching_up") announce(say("connection_lost"), true);
    if (next === "live" && state === "late" && loaded && part("[data-veil]")) announce(say("connection_back"));
    state = next;
    grid.dataset.live = next;
  }
  if (next === "live") {
    part("[data-veil]")?.remove();
    const rest = store.stillOpen(-1) === 0 && Number.isFinite(store.to);
    const polling = why === "polling" || mode === "poll";
    badge(rest && !polling ? "rest" : "live", polling ? say("polling") : rest ? when(store.to) : "");
  } else badge(next, "");
  if (next === "off") toastOnce(why);
}

let toasted = "";
/** @param {string} why */
function toastOnce(why) {
  if (toasted === why) return;
  toasted = why;
  if (why === "signed_out") {
    const back = `${page.dataset.login}?next=${encodeURIComponent(location.pathname + location.search)}`;
    toast(say(why), { tone: "bad", undo: { label: say("sign_in"), act: () => location.assign(back) } });
  } else toast(say(why), { tone: "bad" });
}

/** One line over the tree, so that nobody takes old news for new. */
function veil() {
  if (part("[data-veil]")) return;
  const line = document.createElement("p");
  line.className = "veil";
  line.dataset.veil = "";
  line.textContent = say("offline_since", { time: when(Date.now() - (performance.now() - lateSince)) });
  part(".work").prepend(line);
}

// -- choosing

function chosenByUrl() {
  return new URLSearchParams(location.search).get("node") ?? undefined;
}

/** @param {number} n */
function select(n) {
  if (n < 0 || store.ids[n] === undefined) return;
  if (order.at(n) < 0) order.reveal(n);
  rows.selected = n;
  rows.current = n;
  pane.show(n);
  rows.show(n);
  rows.drawNow();
  const query = new URLSearchParams(location.search);
  query.set("node", store.ids[n] ?? "");
  query.delete("from");
  history.replaceState(null, "", `?${query}`);
}

function close() {
  rows.selected = -1;
  pane.show(-1);
  rows.draw();
  const query = new URLSearchParams(location.search);
  query.delete("node");
  query.delete("tab");
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}

/** @param {number} n @param {boolean} open */
function fold(n, open) {
  if (!store.children[n] || order.kept) return;
  order.set(n, open);
  keepFolds();
  rows.draw();
}

/** @param {1 | -1} way */
function failure(way) {
  const n = order.nextFailure(rows.current, way);
  if (n < 0) return announce(say("no_failure"));
  order.reveal(n);
  order.rebuild();
  select(n);
  rows.focus(n, "center");
  announce(say("failure_of", { n: count(order.failureNumber(n)), all: count(store.totals[FAILED]) }));
}

/** @param {string} query @param {number | null} status */
function filter(query, status) {
  order.filter(query, status);
  for (const chip of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-filter]"))) {
    const on = status !== null && chip.dataset.filter === STATUSES[status];
    if (chip.hasAttribute("aria-pressed")) chip.setAttribute("aria-pressed", String(on));
    else if (on) chip.setAttribute("aria-current", "true");
    else chip.removeAttribute("aria-current");
  }
  const url = new URLSearchParams(location.search);
  query ? url.set("q", query) : url.delete("q");
  status === null ? url.delete("status") : url.set("status", STATUSES[status]);
  url.delete("from");
  history.replaceState(null, "", url.size ? `?${url}` : location.pathname);
  rows.draw();
}

/** @type {ReturnType<typeof setTimeout> | undefined} */ let sifting;
/** A filter by status is looked at once a second, so that rows do not flicker in and out. */
function sift() {
  sifting ??= setTimeout(() => {
    sifting = undefined;
    order.dirty = true;
    rows.draw();
  }, 1000);
}

/** @param {1 | -1} way */
function nextMatch(way) {
  for (let step = 1; step <= order.length; step++) {
    const at = (order.at(rows.current) + way * step + order.length * 2) % order.length;
    if (order.matches(order.rows[at])) return select(order.rows[at]);
  }
}

function follow() {
  const n = order.newestRunning();
  if (n < 0 || n === followed) return;
  followed = n;
  order.reveal(n);
  rows.show(n, "center");
  rows.draw();
}
let followed = -1;

/** @param {boolean} on */
function setFollow(on) {
  following = on;
  followed = -1;
  part("[data-follow]").setAttribute("aria-pressed", String(on));
  if (on) follow();
}

// -- what is kept

/** @returns {Map<number, boolean>} */
function keptFolds() {
  try {
    return new Map(JSON.parse(sessionStorage.getItem(`folds ${trace}`) ?? "[]"));
  } catch {
    return new Map();
  }
}

/** @type {ReturnType<typeof setTimeout> | undefined} */ let keeping;
function keepFolds() {
  clearTimeout(keeping);
  keeping = setTimeout(() => {
    if (order.chosen.size <= MOST_FOLDS) sessionStorage.setItem(`folds ${trace}`, JSON.stringify([...order.chosen]));
  }, 500);
}

async function copyLink() {
  const link = new URL(location.href);
  if (rows.current >= 0) link.searchParams.set("node", store.ids[rows.current] ?? "");
  try {
    await navigator.clipboard.writeText(link.href);
    toast(say("link_copied"), { seconds: 3 });
  } catch {
    toast(link.href);
  }
}

// -- hands

grid.addEventListener("click", (event) => {
  const n = rows.of(event.target);
  if (n < 0 || !loaded || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const element = /** @type {Element} */ (event.target);
  if (element.closest(".tw") && store.children[n]) return fold(n, !order.isOpen(n));
  select(n);
  rows.focus(n);
});
grid.addEventListener("dblclick", (event) => {
  const n = rows.of(event.target);
  if (n >= 0) fold(n, !order.isOpen(n));
});
grid.addEventListener("focusin", (event) => {
  const n = rows.of(event.target);
  if (n >= 0 && n !== rows.current) {
    rows.current = n;
    rows.draw();
  }
});
for (const what of ["wheel", "pointerdown", "touchmove"]) grid.addEventListener(what, () => following && setFollow(false), { passive: true });

const step = (/** @type {number} */ by) => {
  const at = Math.max(0, Math.min(order.length - 1, order.at(rows.current) + by));
  const n = order.rows[at];
  rows.focus(n);
  if (pane.open) select(n);
};
const below = (/** @type {boolean} */ open) => {
  if (open) setWaiting();
  order.setBelow(rows.current, open);
  keepFolds();
  rows.drawNow();
  rows.focus(rows.current);
};
const setWaiting = () => { if (order.kept) filter("", null), (search.value = ""); };

bindKeys(grid, {
  up: () => step(-1),
  down: () => step(1),
  pageUp: () => step(-rows.page),
  pageDown: () => step(rows.page),
  home: () => rows.focus(order.rows[0]),
  end: () => rows.focus(order.rows[order.length - 1]),
  right: () => {
    const n = rows.current;
    if (!store.children[n]) return;
    order.isOpen(n) ? step(1) : fold(n, true);
  },
  left: () => {
    const n = rows.current;
    if (order.isOpen(n) && !order.kept) fold(n, false);
    else if (store.parent[n] >= 0) rows.focus(store.parent[n]);
  },
  openBelow: () => below(true),
  foldBelow: () => below(false),
  level: (level) => {
    setWaiting();
    order.foldTo(level === 0 ? Infinity : level);
    keepFolds();
    rows.drawNow();
    rows.focus(rows.current);
  },
  next: () => failure(1),
  previous: () => failure(-1),
  enter: () => {
    select(rows.current);
    pane.focus();
  },
  escape: () => (pane.open ? close() : order.kept && clear()),
  follow: () => setFollow(!following),
  pause: () => controls.ask(rows.current, PAUSE),
  resume: () => controls.ask(rows.current, RUN),
  cancel: () => controls.ask(rows.current, CANCEL),
  copy: copyLink,
  sheet: () => showKeys(part("[data-key-sheet]"), controls.allowed),
});

function clear() {
  search.value = "";
  filter("", null);
}

part("[data-pane]").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
  if (event.key !== "Escape" || event.defaultPrevented) return;
  event.preventDefault();
  rows.focus(rows.current);
});
page.addEventListener("click", (event) => {
  const at = /** @type {Element} */ (event.target);
  if (!loaded || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const chip = /** @type {HTMLElement | null} */ (at.closest("[data-filter]"));
  const show = /** @type {HTMLAnchorElement | null} */ (at.closest("[data-show]"));
  const jump = /** @type {HTMLElement | null} */ (at.closest("[data-step]"));
  const folds = /** @type {HTMLElement | null} */ (at.closest("[data-fold]"));
  if (chip) {
    event.preventDefault();
    const status = STATUSES.indexOf(chip.dataset.filter ?? "");
    filter(search.value, order.wanted === status ? null : status);
  } else if (show) {
    event.preventDefault();
    const n = store.find(new URL(show.href).searchParams.get("node") ?? "");
    if (n >= 0) select(n), rows.focus(n, "center");
  } else if (jump) failure(jump.dataset.step === "1" ? 1 : -1);
  else if (folds) {
    setWaiting();
    order.foldTo(folds.dataset.fold === "open" ? Infinity : 1);
    keepFolds();
    rows.draw();
  } else if (at.closest("[data-follow]")) setFollow(!following);
  else if (at.closest("[data-keys]")) showKeys(part("[data-key-sheet]"), controls.allowed);
  else if (at.closest("[data-link-copy]")) copyLink();
  else if (at.closest("[data-clear]")) {
    event.preventDefault();
    clear();
  }
});
search.addEventListener("input", () => loaded && filter(search.value, order.wanted));
search.form?.addEventListener("submit", (event) => loaded && event.preventDefault());
search.addEventListener("keydown", (event) => {
  if (!loaded) return;
  if (event.key === "Enter") {
    event.preventDefault();
    order.rebuild();
    nextMatch(event.shiftKey ? -1 : 1);
  } else if (event.key === "Escape") {
    clear();
    rows.focus(rows.current);
  } else if (event.key === "ArrowDown") {
    event.preventDefault();
    rows.focus(rows.current);
  }
});

tell("late", "connecting");
grid.dataset.live = state;
