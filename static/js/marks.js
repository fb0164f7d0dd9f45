// Draws in the browser the marks that tower/marks.py draws on the server.

export const BAR_ORDER = ["SUCCESS", "RUNNING", "FAILED", "CANCELLED", "SKIPPED", "PENDING"];
const OPEN = new Set(["PENDING", "RUNNING"]);
const SVG = "http://www.w3.org/2000/svg";
// Plain "en" would mean the United States, with the month before the day.
const language = document.documentElement.lang.replace(/^en$/, "en-GB") || "en-GB";
const whole = new Intl.NumberFormat(language);
const hour = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const date = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", year: "numeric" });
/** A unit as short as the language has it: d, s or 天, 秒. */
const unit = (name) => new Intl.NumberFormat(language, { style: "unit", unit: name, unitDisplay: "narrow" }).formatToParts(1).find((part) => part.type === "unit").value.trim();
const DAY = unit("day"), SECOND = unit("second");
const exact = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "long" });

/** 1204 → 1,204 */
export const count = (n) => whole.format(n);

export const total = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);

export const done = (counts) => Object.entries(counts).reduce((sum, [status, n]) => (OPEN.has(status) ? sum : sum + n), 0);

/** 4:12 · 2:52:33 · 3 d 04:11, as tower.marks.span */
export function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  const two = (n) => String(n).padStart(2, "0");
  if (days && !(hours || minutes)) return `${days} ${DAY}`;
  if (days) return `${days} ${DAY} ${two(hours)}:${two(minutes)}`;
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/** 3.2 s · 4:12, for what is mostly short. */
export const brief = (ms) => (ms < 60_000 ? `${(ms / 1000).toFixed(1)} ${SECOND}` : span(ms));

const UNITS = [["day", 86_400], ["hour", 3600], ["minute", 60], ["second", 1]].map(([name, seconds]) => ({
  // Here plain "en" is the shorter one: 10 min instead of 10 mins.
  seconds, format: new Intl.NumberFormat(document.documentElement.lang || "en", { style: "unit", unit: name, unitDisplay: "short", maximumFractionDigits: 1 }),
}));

/** 12 min 40 sec · 3 days 4 hr: the two largest units. */
export function inWords(ms) {
  if (ms < 10_000) return UNITS[3].format.format(Math.floor(ms / 100) / 10);
  const seconds = Math.floor(ms / 1000), at = UNITS.findIndex((one) => seconds >= one.seconds);
  const parts = [Math.floor(seconds / UNITS[at].seconds), at < 3 ? Math.floor((seconds % UNITS[at].seconds) / UNITS[at + 1].seconds) : 0];
  return parts.map((n, k) => (n ? UNITS[at + k].format.format(n) : "")).filter(Boolean).join(" ");
}

/** The hour of today, the day and hour of this year, else the day, in the reader's own time zone. */
export function when(ms) {
  const at = new Date(ms), today = new Date();
  if (at.toDateString() === today.toDateString()) return hour.format(at);
  return (at.getFullYear() === today.getFullYear() ? day : date).format(at);
}

/** Fill a `<time>` with an instant; nothing for none. */
export function paintTime(part, ms) {
  if (ms == null) {
    part.removeAttribute("datetime");
    part.removeAttribute("title");
    part.textContent = "";
    return;
  }
  part.dateTime = new Date(ms).toISOString();
  part.title = exact.format(ms);
  part.textContent = when(ms);
}

/** Give the parts of a `.stack` their widths; parts that stay are kept, so that nothing flickers. */
export function paintStack(stack, counts, planned = 0) {
  const all = total(counts) + planned;
  const wanted = BAR_ORDER.filter((status) => counts[status]).map((status) => [status, counts[status]]);
  if (planned) wanted.push(["", planned]);
  wanted.forEach(([status, n], at) => {
    const part = stack.children[at] ?? stack.appendChild(document.createElementNS(SVG, "svg"));
    if (status) part.dataset.status = status;
    else delete part.dataset.status;
    part.classList.toggle("planned", !status);
    part.setAttribute("width", `${((100 * n) / all).toFixed(2)}%`);
  });
  while (stack.children.length > wanted.length) stack.lastElementChild.remove();
}
