// @ts-check
/** The server's clock as this page knows it, and one tick a second for all that counts time. */

let ahead = 0;
/** @type {Set<() => void>} */ const listeners = new Set();

/** The server said what time it is there. @param {number} serverMs */
export function hear(serverMs) {
  ahead = serverMs - Date.now();
}

/** A moment at which the page stands still. */
let held = NaN;

/** @param {number} ms NaN lets the time go on */
export function hold(ms) {
  held = ms;
}

export const now = () => (Number.isNaN(held) ? Date.now() + ahead : held);

/** @param {() => void} listener */
export function everySecond(listener) {
  listeners.add(listener);
}

setInterval(() => {
  if (!document.hidden) for (const listener of listeners) listener();
}, 1000);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) for (const listener of listeners) listener();
});
