// @ts-check
/** Links that other people's programs report: only plain http and https, and always with the host they lead to. */

/** Letters, digits and dots, or an address of IPv6, with a port: no host that reads as another one. */
const HOST = /^([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$/i;

/** The address where a text is nothing but one, else empty; as `instances.views.link_of`. @param {unknown} text */
export function linkOf(text) {
  if (typeof text !== "string" || /[\u0000-\u0020\\]/.test(text)) return "";
  const host = /^https?:\/\/([^/?#]*)/i.exec(text)?.[1];
  if (!host || !HOST.test(host)) return "";
  try {
    return new URL(text).href;
  } catch {
    return "";
  }
}

/** @param {string} href */
export const hostOf = (href) => new URL(href).host;

/** A link to another site: it learns nothing of this page, and can't reach into it. @param {string} href @param {string} text */
export function outward(href, text) {
  const link = document.createElement("a");
  link.className = "text";
  link.href = href;
  link.rel = "noopener noreferrer nofollow";
  link.textContent = text;
  return link;
}
