// @ts-check
/** The page of one run: brings its parts together. */
import { count, when } from "../js/marks.js";
import { announce, badge, toast } from "../js/voice.js";
import { everySecond, hear, now } from "./clock.js";
import { Controls } from "./controls.js";
import { DetailPane } from "./detail-pane.js";
import { chosen, folds } from "./folds.js";
import { FIRST_GROUP } from "./groups.js";
import { Head } from "./head.js";
import { bindKeys, showKeys } from "./keys.js";
import { LiveSocket } from "./live-socket.js";
import { Loose } from "./loose.js";
import { Order, SMALL } from "./order.js";
import { Rows } from "./rows.js";
import { CANCEL, FAILED, PAUSE, RUN, STATUSES, Store } from "./store.js";
import { Waterfall } from "./waterfall.js";
import { intentsOf, rowOfTask, rowsOfDelta, rowsOfSnapshot } from "./wire.js";
import { say, sayCount, setWords } from "./words.js";
import { bindZoom } from "./zoom.js";

/** Changes in the status of tasks are spoken at most so often. */
const SPEAK_MS = 5000;
/** Folds that are kept for when the page is loaded again. */
const MOST_FOLDS = 20_000;
/** The tower is asked once nothing more was typed for so long. */
const TYPING_MS = 200;

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
  const query = new URLSearchParams(location.search);
  if (!loaded && query.has("open")) order.chosen = linkedFolds(query.get("open") ?? "");
  order.reset();
  waterfall.tick(now());
  if (!loaded) {
    loaded = true;
    const way = selected ? store.find(selected) : store.total > SMALL ? order.next("failed", -1, 1).n : -1;
    if (way >= 0) order.lead(way, selected !== undefined);
    const status = STATUSES.indexOf(query.get("status") ?? "");
    if (search.value || status >= 0) filter(search.value, status < 0 ? null : status);
    const [from, to] = (query.get("t") ?? "").split("-").map(Number);
    if (to > from) waterfall.zoom(waterfall.begin + from, waterfall.begin + to);
    if (query.has("open")) address({ open: null });
    part("[data-fit]").hidden = !waterfall.zoomed;
  } else rows.slots.forEach((slot) => { slot.stamp = -1; });
  rows.selected = selected ? store.find(selected) : -1;
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

/** @type {any[]} */ let asked = [];
/** Who asked for what; few, and only when something is asked. */
async function fetchControls() {
  try {
    const response = await fetch(`${page.dataset.controls}?trace_id=${encodeURIComponent(trace)}&limit=200`, { headers: { Accept: "application/json" }, credentials: "same-origin" });
    if (!response.ok) return;
    const { results } = await response.json();
    head.setAsked(new Map(results.filter((/** @type {any} */ one) => one.number != null).map((/** @type {any} */ one) => [one.number, one])));
    pane.setControls(results);
    asked = results;
    waterfall.setBands(bands(asked));
    if (results.some((/** @type {any} */ one) => one.delivered === false && (one.outcome ?? "taken") === "taken")) setTimeout(fetchControls, 2000);
  } catch {
    // It is asked for again with the next control.
  }
}

/** Bands that are drawn, the newest. */
const MOST_BANDS = 40;

/** Times in which a pause stood or a cancel was under way, with who asked and why. @param {any[]} results the newest first */
function bands(results) {
  /** @type {Map<string, import("./waterfall.js").Band>} */ const open = new Map();
  /** @type {import("./waterfall.js").Band[]} */ const all = [];
  for (const one of [...results].reverse()) {
    if ((one.outcome ?? "taken") !== "taken") continue;
    const place = one.task_id ?? "", at = Date.parse(one.created_at), before = open.get(place);
    if (before && before.action === one.action) continue;
    if (before) before.to = at;
    open.delete(place);
    if (one.action === "RUN") continue;
    const band = { action: one.action, from: at, to: ends(place), label: bandLabel(one) };
    if (band.to !== null && band.to <= at) band.to = at;
    open.set(place, band);
    all.push(band);
  }
  return all.slice(-MOST_BANDS);
}

/** When the work at and below a place was over; null while it is not. @param {string} place */
function ends(place) {
  const n = place ? store.find(place) : -1;
  if (store.stillOpen(n) > 0) return null;
  return n < 0 ? store.to : store.spanTo[n];
}

/** @param {any} one */
function bandLabel(one) {
  const place = one.task_id ? store.find(one.task_id) : -1;
  const what = place >= 0 ? `${say(one.action)} ${store.name(place)}` : say(one.action);
  return [what, one.triggered_by, one.reason ? `“${one.reason}”` : ""].filter(Boolean).join(" · ");
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
  const state = `${store.seq} ${store.epoch} ${store.shape} ${rows.selected} ${order.length} ${order.found} ${order.kept !== null} ${waiting}`;
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
  told(filtered ? (waiting ? say("searching") : sayCount("found", order.found, count(order.found) + (cutOff ? "+" : ""))) : "");
  speak();
});

/** How much was found; spoken to those who are searching. @param {string} text */
function told(text) {
  const place = part("[data-found]");
  if (place.textContent === text) return;
  place.textContent = text;
  if (text && document.activeElement === search) announce(text);
}

everySecond(() => {
  if (!loaded) return;
  waterfall.tick(now());
  if (waterfall.bands.some((band) => band.to === null)) closeBands();
  head.tick();
  pane.tick();
  rows.draw();
  if (state === "late" && lateSince && performance.now() - lateSince > 10_000) veil();
});
document.addEventListener("visibilitychange", () => document.hidden || changed());

/** A band ends with the work that it stands over. */
function closeBands() {
  const next = bands(asked), drawn = waterfall.bands;
  if (next.some((band, at) => band.to !== drawn[at]?.to)) waterfall.setBands(next);
}

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

/** What the address says besides; null takes away. @param {Record<string, string | null>} changes */
function address(changes) {
  const query = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries({ from: null, ...changes })) value ? query.set(key, value) : query.delete(key);
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
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
  address({ node: store.ids[n] ?? "" });
}

function close() {
  rows.selected = -1;
  pane.show(-1);
  rows.draw();
  address({ node: null, tab: null });
}

/** @param {number} row @param {boolean} open */
function fold(row, open) {
  if (!order.folds(row) || order.kept) return;
  order.set(row, open);
  keepFolds();
  // Not with the next frame: another key may come before it.
  rows.drawNow();
}

/**
 * The next that failed, runs or does not obey; `inside` keeps to a branch.
 * @param {"failed" | "running" | "stuck"} kind @param {1 | -1} way @param {number} [inside]
 */
function jump(kind, way, inside = -1) {
  const { n, number, all } = order.next(kind, rows.current, way, inside);
  if (n < 0) return announce(say(`no_${kind}`));
  go(n);
  announce(say(`${kind}_of`, { n: count(number), all: count(all) }));
}

/** Through folds to a task, chosen and in the middle. @param {number} n */
function go(n) {
  const shown = order.at(n) >= 0;
  order.reveal(n);
  order.rebuild();
  if (!shown) keepFolds();
  select(n);
  rows.focus(n, "center");
}

/** Nothing of the answer of the tower is known yet; it found more than it says. */
let waiting = false, cutOff = false;
/** @type {ReturnType<typeof setTimeout> | undefined} */ let typing;

/** @param {string} text @param {number | null} status */
function filter(text, status) {
  order.filter(text, status);
  for (const chip of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-filter]"))) {
    const on = status !== null && chip.dataset.filter === STATUSES[status];
    if (chip.hasAttribute("aria-pressed")) chip.setAttribute("aria-pressed", String(on));
    else if (on) chip.setAttribute("aria-current", "true");
    else chip.removeAttribute("aria-current");
  }
  address({ q: text || null, status: status === null ? null : STATUSES[status] });
  clearTimeout(typing);
  waiting = order.query.asks !== "";
  cutOff = false;
  if (waiting) typing = setTimeout(lookUp, TYPING_MS);
  rows.draw();
}

/** What only the tower knows: labels, errors, messages. */
async function lookUp() {
  const { query } = order;
  let found = { found: /** @type {number[]} */ ([]), more: false };
  try {
    const response = await fetch(`${page.dataset.find}?q=${encodeURIComponent(query.asks)}`, { headers: { Accept: "application/json" }, credentials: "same-origin" });
    if (!response.ok) throw new Error(String(response.status));
    found = await response.json();
  } catch {
    if (query === order.query) toast(say("not_searched"), { tone: "bad" });
  }
  if (query !== order.query) return; // overtaken by what was typed since
  order.answer = new Set(found.found);
  order.dirty = true;
  waiting = false;
  cutOff = found.more;
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
  order.rebuild();
  const hits = Array.from(order.rows.subarray(0, order.length)).filter((n) => order.matches(n));
  if (!hits.length) return announce(say("found_n", { n: 0 }));
  const from = order.at(rows.current);
  const later = hits.findIndex((n) => order.at(n) > from), earlier = hits.findLastIndex((n) => order.at(n) < from);
  // The first press goes to the first match, also where the current row is it.
  const unseen = rows.selected < 0 || !order.matches(rows.selected);
  const at = way > 0 ? (unseen && order.matches(rows.current) ? hits.indexOf(rows.current) : Math.max(0, later)) : earlier < 0 ? hits.length - 1 : earlier;
  select(hits[at]);
  announce(say("match_of", { n: count(at + 1), all: count(hits.length) }));
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

/** @returns {Map<number | string, boolean>} */
function keptFolds() {
  try {
    return new Map(JSON.parse(sessionStorage.getItem(`folds ${trace}`) ?? "[]"));
  } catch {
    return new Map();
  }
}

/** What a link opened and folded, without what is so by itself. @param {string} text */
function linkedFolds(text) {
  return new Map([...chosen(text, store.size)].filter(([key, open]) => typeof key === "string" || (store.children[key] > 0 && open !== order.rule(key))));
}

/** @type {ReturnType<typeof setTimeout> | undefined} */ let keeping;
function keepFolds() {
  clearTimeout(keeping);
  keeping = setTimeout(() => {
    if (order.chosen.size <= MOST_FOLDS) sessionStorage.setItem(`folds ${trace}`, JSON.stringify([...order.chosen]));
  }, 500);
}

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

// -- hands

grid.addEventListener("click", (event) => {
  const n = rows.of(event.target);
  if (n < 0 || !loaded || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const element = /** @type {Element} */ (event.target);
  if (element.closest(".fails")) return go(order.firstFailure(n));
  if (element.closest(".tw") && order.folds(n)) return fold(n, !order.isOpen(n));
  if (n >= FIRST_GROUP) fold(n, !order.isOpen(n));
  else select(n);
  rows.focus(n);
});
grid.addEventListener("dblclick", (event) => {
  const n = rows.of(event.target);
  if (n >= 0 && n < FIRST_GROUP) fold(n, !order.isOpen(n));
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
const walkTo = (/** @type {number} */ row) => {
  if (row < 0) return;
  rows.focus(row);
  if (pane.open) select(row);
};
const below = (/** @type {boolean} */ open) => {
  if (open) clearFilter();
  order.setBelow(rows.current, open);
  refolded();
};
/** Many folds changed at once. */
const refolded = () => {
  keepFolds();
  rows.drawNow();
  rows.focus(rows.current);
};
const clearFilter = () => { if (order.kept) clear(); };
const ask = (/** @type {number} */ action) => { if (rows.current < FIRST_GROUP) controls.ask(rows.current, action); };

bindKeys(grid, {
  up: () => step(-1),
  down: () => step(1),
  pageUp: () => step(-rows.page),
  pageDown: () => step(rows.page),
  home: () => rows.focus(order.rows[0]),
  end: () => rows.focus(order.rows[order.length - 1]),
  right: () => {
    const row = rows.current;
    if (order.folds(row)) order.isOpen(row) ? step(1) : fold(row, true);
  },
  left: () => {
    const row = rows.current;
    if (order.isOpen(row) && !order.kept) fold(row, false);
    else walkTo(order.up(row));
  },
  later: () => walkTo(order.sibling(rows.current, 1)),
  earlier: () => walkTo(order.sibling(rows.current, -1)),
  parent: () => walkTo(order.up(rows.current)),
  openBelow: () => below(true),
  foldBelow: () => below(false),
  openSiblings: () => {
    clearFilter();
    order.rebuild();
    let row = rows.current;
    for (let at = row; at >= 0; at = order.sibling(at, -1)) row = at;
    /** @type {number[]} */ const all = [];
    for (; row >= 0; row = order.sibling(row, 1)) all.push(row);
    for (const one of all) if (order.folds(one)) order.set(one, true);
    refolded();
  },
  level: (key) => {
    clearFilter();
    order.foldTo(key === "0" ? Infinity : Number(key));
    refolded();
  },
  nextFailed: () => jump("failed", 1),
  lastFailed: () => jump("failed", -1),
  nextRunning: () => jump("running", 1),
  lastRunning: () => jump("running", -1),
  nextStuck: () => jump("stuck", 1),
  lastStuck: () => jump("stuck", -1),
  enter: () => {
    if (rows.current >= FIRST_GROUP) return fold(rows.current, !order.isOpen(rows.current));
    select(rows.current);
    pane.focus();
  },
  escape: () => (pane.open ? close() : order.kept && clear()),
  follow: () => setFollow(!following),
  closer: () => look(() => waterfall.scale(2)),
  wider: () => look(() => waterfall.scale(0.5)),
  fit: () => look(() => waterfall.zoom()),
  before: () => look(() => waterfall.pan(-0.2)),
  after: () => look(() => waterfall.pan(0.2)),
  pause: () => ask(PAUSE),
  resume: () => ask(RUN),
  cancel: () => ask(CANCEL),
  commands: () => {
    if (rows.current >= FIRST_GROUP) return;
    select(rows.current);
    /** @type {HTMLElement | null} */ (part("[data-pane] footer button[name=action]:not([hidden])"))?.focus();
  },
  copy: copyLink,
  log: () => location.assign(page.dataset.log ?? ""),
  newerRun: () => page.dataset.newer && location.assign(page.dataset.newer),
  olderRun: () => page.dataset.older && location.assign(page.dataset.older),
  sheet: () => showKeys(part("[data-key-sheet]"), controls.allowed),
});

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
  const button = /** @type {HTMLElement | null} */ (at.closest("[data-step]"));
  const foldAll = /** @type {HTMLElement | null} */ (at.closest("[data-fold]"));
  if (chip) {
    event.preventDefault();
    const status = STATUSES.indexOf(chip.dataset.filter ?? "");
    filter(search.value, order.wanted === status ? null : status);
  } else if (show) {
    event.preventDefault();
    const n = store.find(new URL(show.href).searchParams.get("node") ?? "");
    if (n >= 0) go(n);
  } else if (button) {
    const place = button.dataset.inside === undefined ? -1 : store.find(button.dataset.inside);
    jump(/** @type {any} */ (button.dataset.kind ?? "failed"), button.dataset.step === "1" ? 1 : -1, place);
  } else if (foldAll) {
    clearFilter();
    order.foldTo(foldAll.dataset.fold === "open" ? Infinity : 1);
    keepFolds();
    rows.draw();
  } else if (at.closest("[data-follow]")) setFollow(!following);
  else if (at.closest("[data-keys]")) showKeys(part("[data-key-sheet]"), controls.allowed);
  else if (at.closest("[data-link-copy]")) copyLink();
  else if (at.closest("[data-fit]")) look(() => waterfall.zoom());
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
