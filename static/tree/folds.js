// @ts-check
/** Folds as a few characters, so that a link can carry them: how many tasks in a row are folded, open, folded, … No DOM. */

/** A link with more than this is cut by mail programs and chats. */
const LONGEST = 1500;

/**
 * What is open, as text: "" where it is as the rule has it, null where it does not fit into a link.
 * @param {import("./order.js").Order} order @returns {string | null}
 */
export function folds(order) {
  const { store, open, groups } = order;
  /** @type {number[]} */ const runs = [];
  let state = 0, length = 0, same = true;
  for (let n = 0; n < store.size; n++) {
    // What has no children goes with those before it: long runs.
    if (store.children[n]) {
      if (open[n] !== (order.rule(n) ? 1 : 0)) same = false;
      if (open[n] !== state) {
        runs.push(length);
        [state, length] = [open[n], 0];
      }
    }
    length++;
  }
  runs.push(length);
  const opened = groups.list.filter((group) => group.open && group.members.length).map((group) => `${group.parent}/${group.name}`);
  if (same && !opened.length) return "";
  const text = [packed(runs), ...opened.map((key) => encodeURIComponent(key).replaceAll(".", "%2E"))].join(".");
  return text.length <= LONGEST ? text : null;
}

/** What was opened and folded, as keys of `Order.chosen`. @param {string} text @returns {Map<number | string, boolean>} */
export function chosen(text, size = Infinity) {
  /** @type {Map<number | string, boolean>} */ const found = new Map();
  const [runs, ...opened] = text.split(".");
  let at = 0, state = false;
  for (const length of unpacked(runs)) {
    for (const end = Math.min(at + length, size); at < end; at++) found.set(at, state);
    state = !state;
  }
  for (const key of opened) {
    try {
      found.set(decodeURIComponent(key), true);
    } catch {
      // Cut off somewhere on its way.
    }
  }
  return found;
}

/** Seven bits a byte. @param {number[]} numbers */
function packed(numbers) {
  let bytes = "";
  for (let number of numbers) {
    for (; number > 127; number >>>= 7) bytes += String.fromCharCode((number & 127) | 128);
    bytes += String.fromCharCode(number);
  }
  return btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** @param {string} text @returns {number[]} */
function unpacked(text) {
  const numbers = [];
  let number = 0, shift = 0, bytes = "";
  try {
    bytes = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  } catch {
    return [];
  }
  for (const byte of bytes) {
    number += (byte.charCodeAt(0) & 127) * 2 ** shift;
    shift += 7;
    if (byte.charCodeAt(0) < 128) {
      numbers.push(number);
      number = shift = 0;
    }
  }
  return numbers;
}
