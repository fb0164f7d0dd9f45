// Keeps the rows and the badges of the list true. A status never moves a row; new runs wait for the reader.
import { keepOpen } from "./live-socket.js";
import { count, done, paintStack, paintTime, span, total } from "./marks.js";
import { now } from "./shell.js";
import { announce, badge } from "./voice.js";

const OPEN = new Set(["PENDING", "RUNNING"]);
const list = document.querySelector("[data-runs]");
const rows = list.querySelector("[data-rows]");
const bar = list.querySelector("[data-newrows]");
const fresh = new Set(); // ids of runs that began after this page was drawn
const wanted = new Set(); // those among them that the reader asked to see
const MOST_COUNTED = 1_000, MOST_WATCHED = 500, MOST_IN_PLACE = 100, MOST_LABELS = 3;
/** A filtered list asks the server which of the new runs belong, at most so often. */
const ASK_MS = 2_000;

const piece = (id, selector) => document.getElementById(id).content.querySelector(selector).cloneNode(true);
const rowOf = (id) => rows?.querySelector(`[data-trace="${CSS.escape(id)}"]`);

function write(part, text) {
  if (part.textContent !== text) part.textContent = text;
}

/** As instances.runs.sub */
function sub(run) {
  const version = run.job_version == null ? null : `v${run.job_version}`;
  return [run.job_id, version, run.trace_id].filter((part) => part && part !== run.name).join(" · ");
}

/** As instances.runs.needs_of: [key, number] */
function needsOf(run) {
  const found = [];
  for (const [action, key] of run.open ? [["CANCEL", "cancel"], ["PAUSE", "pause"]] : []) {
    const intents = run.intents.filter((intent) => intent.action === action);
    if (intents.some((intent) => intent.task_id === null)) found.push([key, 0]);
    else if (intents.length) found.push([`${key}_in`, 0]);
  }
  if (run.counts.FAILED) found.push(["failed", run.counts.FAILED]);
  return found;
}

/** Write a summary into its row; an older one than the row shows is late and changes nothing. */
export function paint(row, run) {
  if (run.seq < Number(row.dataset.seq)) return;
  row.dataset.trace = run.trace_id;
  row.dataset.seq = run.seq;
  paintName(row, run);
  paintWord(row, run);
  paintStack(row.querySelector(".stack"), run.counts);
  write(row.querySelector("[data-done]"), `${count(done(run.counts))} / ${count(total(run.counts))}`);
  paintSpan(row, run);
  paintNeeds(row.querySelector(".by"), run);
}

function paintName(row, run) {
  row.querySelector("[data-tick]").value = run.trace_id;
  write(row.querySelector("[data-tick-name]"), run.name);
  const link = row.querySelector(".n a");
  link.href = `/traces/${encodeURIComponent(run.trace_id)}/`;
  write(link.firstElementChild, run.name);
  write(row.querySelector(".n small"), sub(run));
  paintLabels(row.querySelector("[data-labels]"), Object.entries(run.labels));
}

function paintLabels(part, pairs) {
  const key = JSON.stringify(pairs);
  if (part.dataset.key === key) return;
  part.dataset.key = key;
  part.replaceChildren(...pairs.slice(0, MOST_LABELS).map(([name, value]) => {
    const link = piece("run-label", "a");
    link.href = withLabel(`${name}:${value}`);
    link.firstElementChild.textContent = `${name}:${value}`;
    return link;
  }));
  if (pairs.length <= MOST_LABELS) return;
  const more = document.createElement("span");
  more.className = "muted";
  more.textContent = `+${pairs.length - MOST_LABELS}`;
  part.append(more);
}

/** As instances.runs.Place.with_label */
function withLabel(label) {
  const query = new URLSearchParams(location.search);
  const others = query.getAll("label").filter((one) => one && one !== label);
  query.delete("cursor");
  query.delete("label");
  for (const one of [...others, label]) query.append("label", one);
  return `/?${query}`;
}

function paintWord(row, run) {
  if (row.dataset.status !== run.status || !row.querySelector(".word")) {
    row.dataset.status = run.status;
    row.querySelector("[data-word]").replaceChildren(piece("run-words", `[data-status=${run.status}]`));
  }
  const known = OPEN.has(run.status) && run.progress != null;
  write(row.querySelector("[data-progress]"), known ? `${Math.floor(run.progress)} %` : "");
  row.querySelector("[data-tally]").textContent = tally(run.counts);
  row.querySelector(".stack").title = tally(run.counts);
}

/** 312 success, 41 running, as tower.marks.in_words; the words are those of the page. */
function tally(counts) {
  const { content, dataset } = document.getElementById("run-words");
  const word = (status) => content.querySelector(`[data-status=${status}] b`).textContent.toLowerCase();
  return ["SUCCESS", "RUNNING", "FAILED", "CANCELLED", "SKIPPED", "PENDING"]
    .filter((status) => counts[status])
    .map((status) => dataset.one.replace("{n}", count(counts[status])).replace("{word}", word(status)))
    .join(dataset.and);
}

function paintSpan(row, run) {
  const started = run.started_at && Date.parse(run.started_at);
  const finished = run.finished_at && Date.parse(run.finished_at);
  const ticks = OPEN.has(run.status) && started != null;
  paintTime(row.querySelector("time"), started);
  const took = row.querySelector(".took");
  if (ticks) took.dataset.since = started;
  else delete took.dataset.since;
  const end = ticks ? now() : finished;
  write(took, started == null || end == null ? "—" : span(end - started));
}

function paintNeeds(cell, run) {
  const needs = needsOf(run);
  const key = JSON.stringify(needs);
  if (cell.dataset.key === key) return;
  cell.dataset.key = key;
  if (!needs.length) {
    const by = document.createElement("span");
    by.textContent = run.started_by ?? "";
    return cell.replaceChildren(by);
  }
  cell.replaceChildren(...needs.map(([name, n]) => {
    const tag = piece("run-needs", `[data-need=${name}]`);
    const number = tag.querySelector("[data-n]");
    if (number) number.textContent = count(n);
    return tag;
  }));
}

/** New runs wait behind one line above the list, so that nothing moves under the pointer. */
function offer(ids) {
  for (const id of ids) if (!rowOf(id)) fresh.add(id);
  if (!fresh.size || list.dataset.first !== "true") return;
  if (list.dataset.filtered === "true") askWhichBelong();
  else say(fresh.size);
}

function say(n) {
  const label = bar.firstElementChild;
  const text = n > MOST_IN_PLACE ? `${count(MOST_IN_PLACE)}+` : count(n);
  write(label, (n === 1 ? label.dataset.one : label.dataset.many).replace("{n}", text));
  if (bar.hidden) announce(label.textContent);
  bar.hidden = false;
}

let asking = 0;
/** Of a filtered list only the server knows which runs belong. */
function askWhichBelong() {
  asking ||= setTimeout(async () => {
    const query = new URLSearchParams(location.search);
    query.set("after", shown()[0] ?? "");
    const answer = await fetch(`${list.dataset.new}?${query}`).catch(() => null);
    asking = 0;
    const n = answer?.ok ? (await answer.json()).n : 0;
    if (n) say(n);
  }, ASK_MS);
}

/** In place where the list shows everything; of a filtered one only the server knows which of them belong. */
bar?.addEventListener("click", (event) => {
  if (!rows || list.dataset.filtered === "true" || fresh.size > MOST_IN_PLACE) return;
  event.preventDefault();
  for (const id of fresh) wanted.add(id);
  fresh.clear();
  bar.hidden = true;
  watch();
});

// -- choosing several

const form = document.querySelector("[data-chosen]");
/** Above that the server refuses. */
const MOST_CHOSEN = 100;
const ticks = () => [...(rows?.querySelectorAll("[data-tick]") ?? [])];
/** Where a range begins. */
let lastTick = null;

/** All that match, on all pages: offered where all of this page are ticked. */
const every = form?.querySelector("[data-all]");

async function countAll() {
  const answer = await fetch(`${every.dataset.count}?${new URLSearchParams(form.elements.query.value)}`).catch(() => null);
  if (!answer?.ok) return;
  const { n, most } = await answer.json(), words = every.dataset;
  const text = !n ? words.none : n > most ? words.over.replace("{n}", count(most)) : words.many.replace("{n}", count(n));
  write(every.lastElementChild, text);
  const box = every.firstElementChild;
  box.disabled = !n || n > most;
  if (box.disabled) box.checked = false;
  if (!every.hidden) announce(text);
  drawChosen();
}

/** Whether all pages are chosen. */
function drawAll(whole) {
  if (!every) return false;
  if (whole && every.hidden) countAll();
  every.hidden = !whole;
  if (!whole) every.firstElementChild.checked = false;
  return every.firstElementChild.checked;
}

function drawChosen() {
  const all = ticks(), n = all.filter((tick) => tick.checked).length;
  const pages = drawAll(n > 0 && n === all.length);
  form.hidden = !n;
  write(form.querySelector("[data-n]"), pages ? form.dataset.pages : n > MOST_CHOSEN ? form.dataset.most.replace("{n}", count(MOST_CHOSEN))
    : n === 1 ? form.dataset.one : form.dataset.many.replace("{n}", count(n)));
  for (const button of form.querySelectorAll("[formaction]")) {
    const off = button.matches("[data-compare]") ? pages || n !== 2 : !pages && n > MOST_CHOSEN;
    button.setAttribute("aria-disabled", String(off));
    button.title = off ? (button.matches("[data-compare]") ? form.dataset.two : form.dataset.most.replace("{n}", count(MOST_CHOSEN))) : "";
  }
  const head = list.querySelector("[data-tick-all] input");
  head.checked = n > 0 && n === all.length;
  head.indeterminate = n > 0 && n < all.length;
}

function tickAll(checked) {
  for (const tick of ticks()) tick.checked = checked;
  drawChosen();
}

/** Shift takes all between this one and the one before along. */
function tickRange(tick) {
  const all = ticks(), from = all.indexOf(lastTick), to = all.indexOf(tick);
  if (from < 0) return;
  for (const one of all.slice(Math.min(from, to), Math.max(from, to) + 1)) one.checked = tick.checked;
}

if (form) {
  form.dataset.live = "";
  form.querySelector("[data-clear]").hidden = false;
  if (every) every.hidden = true;
  every?.addEventListener("change", drawChosen);
  list.querySelector("[data-tick-all]").hidden = false;
  rows.addEventListener("click", (event) => {
    if (!event.target.matches("[data-tick]")) return;
    if (event.shiftKey) tickRange(event.target);
    lastTick = event.target;
    drawChosen();
    announce(form.querySelector("[data-n]").textContent);
  });
  // A range is chosen, not the text between.
  rows.addEventListener("mousedown", (event) => event.shiftKey && event.target.closest(".tick") && event.preventDefault());
  list.querySelector("[data-tick-all] input").addEventListener("change", (event) => tickAll(event.target.checked));
  form.querySelector("[data-clear]").addEventListener("click", () => {
    tickAll(false);
    rows.querySelector("[data-tick]")?.focus();
  });
  form.addEventListener("submit", (event) => {
    if (event.submitter?.getAttribute("aria-disabled") === "true") {
      event.preventDefault();
      announce(event.submitter.title);
    }
  });
  addEventListener("pageshow", drawChosen);
  drawChosen();
}

function insert(summaries) {
  const newest = summaries.filter((run) => wanted.delete(run.trace_id) && !rowOf(run.trace_id));
  newest.sort((a, b) => b.created_at.localeCompare(a.created_at));
  rows.prepend(...newest.map(newRow));
  rows.querySelector("a")?.focus({ preventScroll: true });
}

function newRow(run) {
  const row = piece("run-row", ".row");
  row.dataset.seq = -1;
  row.dataset.fresh = "";
  paint(row, run);
  return row;
}

function paintCounts(counts) {
  for (const tab of document.querySelectorAll("[data-segment]")) {
    const n = counts[tab.dataset.segment];
    if (n === undefined) continue;
    write(tab.querySelector("em"), n > MOST_COUNTED ? `${count(MOST_COUNTED)}+` : count(n));
    tab.classList.toggle("alert", tab.dataset.segment === "attention" && n > 0);
  }
}

const takes = {
  runs(frame) {
    // The page said that there is no run at all; now there is one, and the server draws the list.
    if ("none" in list.dataset && total(frame.counts ?? {})) return location.reload();
    if (frame.segments) paintCounts(frame.segments);
    for (const run of frame.rows ?? []) {
      const row = rowOf(run.trace_id);
      if (row) paint(row, run);
    }
    if (wanted.size) insert(frame.rows ?? []);
    offer((frame.new ?? []).filter((id) => !wanted.has(id)));
  },
};

const shown = () => [...(rows?.children ?? [])].map((row) => row.dataset.trace);
// Only the plain first page can say which run is the newest; what began behind it meanwhile is named at once.
const plain = list.dataset.first === "true" && list.dataset.filtered !== "true";
const view = () => ({
  v: 1,
  op: "sub",
  traces: [...shown(), ...wanted].slice(0, MOST_WATCHED),
  after: plain ? (shown()[0] ?? null) : null,
});
const watch = () => line.send(view());

const line = keepOpen(list.dataset.socket, {
  hello: view,
  onFrame: (frame) => takes[frame.op]?.(frame),
  onState(state, code) {
    badge(state, "", state === "late" ? "lost" : state);
    list.dataset.live = state;
    if (code === 4401) location.reload(); // to the sign-in, and back here
  },
});
