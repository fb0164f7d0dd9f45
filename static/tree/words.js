// @ts-check
/** The page's words, sent along by the server in the reader's language. */

/** @type {Record<string, string>} */
let words = {};

/** @param {Record<string, string>} given */
export function setWords(given) {
  words = given;
}

/** @param {string} key @param {Record<string, string | number>} [values] */
export function say(key, values) {
  const text = words[key] ?? key;
  return values ? text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole)) : text;
}

/** The form that fits a number. @param {string} key @param {number} n @param {string} [shown] */
export function sayCount(key, n, shown) {
  return say(`${key}_${n === 1 ? "1" : "n"}`, { n: shown ?? n });
}
