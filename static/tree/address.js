// @ts-check
/** What the address of the page says: of the task, the filter, the part of the time. */

/** @param {string} name */
export const said = (name) => new URLSearchParams(location.search).get(name);

/** Null takes away. @param {Record<string, string | null>} changes */
export function address(changes) {
  const query = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries({ from: null, ...changes })) value ? query.set(key, value) : query.delete(key);
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}
