// @ts-check
/** From what crosses the wire (docs/live.md) to rows of the store. Unknown bits and columns are skipped. */
import { ACTIONS, DIFFERS, HEARD, HOLDS, KINDS, PLACEHOLDER, STATUSES, UNATTACHED } from "./store.js";

/** Bit i of a mask names column i. */
const COLUMNS = ["id", "parent", "kind", "name", "status", "progress", "start", "end", "attempt", "split", "done", "over", "def"];

/**
 * @typedef {import("./store.js").Row} Row
 * @typedef {import("./store.js").Intent} Intent
 */

/** @param {any} body @returns {Generator<Row>} */
export function* rowsOfSnapshot(body) {
  const { cols, names, t0 } = body;
  const count = cols.id.length;
  for (let at = 0; at < count; at++) {
    const start = cols.start[at], end = cols.end[at];
    yield {
      n: cols.n ? cols.n[at] : at, id: cols.id[at], parent: cols.parent[at], kind: cols.kind[at], name: names[cols.name[at]] ?? "",
      status: cols.status[at], progress: cols.progress[at], start: start === null ? null : start + t0, end: end === null ? null : end + t0,
      attempt: cols.attempt[at], split: cols.split[at], over: cols.over[at],
    };
  }
}

/** New rows first, then what changed of known ones. @param {any} frame @param {number} t0 @returns {Row[]} */
export function rowsOfDelta(frame, t0) {
  /** @type {Row[]} */ const rows = [];
  for (const [n, ...cells] of frame.new ?? []) rows.push(rowOf(n, COLUMNS, cells, frame.names, t0));
  for (const [n, mask, ...cells] of frame.up ?? []) {
    rows.push(rowOf(n, COLUMNS.filter((_, bit) => (mask >> bit) & 1), cells, frame.names, t0));
  }
  return rows;
}

/** @param {number} n @param {string[]} columns @param {any[]} cells @param {string[]} names @param {number} t0 @returns {Row} */
function rowOf(n, columns, cells, names, t0) {
  /** @type {any} */ const row = { n };
  columns.forEach((column, at) => {
    const value = cells[at];
    if (column === "name") row.name = names[value] ?? "";
    else if (column === "start" || column === "end") row[column] = value === null ? null : value + t0;
    else if (column !== "done" && column !== "def") row[column] = value;
  });
  return row;
}

/**
 * A task as the API shows it, from `changes/`.
 * @param {any} task @param {(id: string) => number} find @returns {Row}
 */
export function rowOfTask(task, find) {
  const differs = task.reported_status !== null && task.reported_status !== task.status;
  return {
    n: task.n, id: task.id, parent: task.parent_id === null ? -1 : find(task.parent_id), kind: KINDS.indexOf(task.actor_type),
    name: task.name, status: STATUSES.indexOf(task.status), progress: task.progress,
    start: task.started_at && Date.parse(task.started_at), end: task.finished_at && Date.parse(task.finished_at),
    attempt: task.attempt, split: task.split_count,
    over: (task.holds ? HOLDS : 0) | (differs ? DIFFERS : 0) | (task.attached ? 0 : UNATTACHED) | (task.registered ? 0 : PLACEHOLDER) | (task.reported_status === null ? 0 : HEARD),
  };
}

/** Intents as the API shows them. @param {any[]} intents @param {(id: string) => number} find @returns {Intent[]} */
export function intentsOf(intents, find) {
  return intents
    .map((one) => /** @type {Intent} */ ([one.task_id === null ? -1 : find(one.task_id), ACTIONS.indexOf(one.action), one.number]))
    .filter(([place], at) => place >= 0 || intents[at].task_id === null);
}
