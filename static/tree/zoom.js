// @ts-check
/** A closer look at a part of the time: drawn over the axis, Ctrl with the wheel, and the way back. Keys do the same (keys.js). */

/** A shorter way than this is a click. */
const DRAG = 4;

/**
 * @param {HTMLElement} grid @param {import("./waterfall.js").Waterfall} waterfall @param {() => void} changed
 */
export function bindZoom(grid, waterfall, changed) {
  const axis = /** @type {HTMLElement} */ (grid.querySelector(".axis"));
  const brush = /** @type {HTMLElement} */ (axis.querySelector(".brush"));
  /** Of the axis. @param {number} x in the window */
  const share = (x) => Math.max(0, Math.min(1, (x - axis.getBoundingClientRect().left) / axis.clientWidth));
  let began = NaN;
  axis.addEventListener("pointerdown", (event) => {
    // In playback the cursor follows the pointer (playback.js).
    if (waterfall.present || event.button || /** @type {Element} */ (event.target).closest("button")) return;
    began = event.clientX;
    axis.setPointerCapture(event.pointerId);
  });
  axis.addEventListener("pointermove", (event) => {
    if (Number.isNaN(began)) return;
    const left = Math.min(began, event.clientX) - axis.getBoundingClientRect().left, width = Math.abs(event.clientX - began);
    brush.hidden = width < DRAG;
    brush.style.left = `${left}px`;
    brush.style.width = `${width}px`;
  });
  const stop = (/** @type {PointerEvent} */ event, /** @type {boolean} */ take) => {
    if (Number.isNaN(began)) return;
    const [from, to] = [began, event.clientX].sort((a, b) => a - b);
    began = NaN;
    brush.hidden = true;
    if (!take || to - from < DRAG) return;
    waterfall.zoom(waterfall.places.moment(share(from)), waterfall.places.moment(share(to)));
    changed();
  };
  axis.addEventListener("pointerup", (event) => stop(event, true));
  axis.addEventListener("pointercancel", (event) => stop(event, false));
  grid.addEventListener("wheel", (event) => {
    if (!event.ctrlKey || !(event.target instanceof Element) || !event.target.closest(".wf, .axis")) return;
    event.preventDefault();
    waterfall.scale(event.deltaY < 0 ? 1.25 : 0.8, share(event.clientX));
    changed();
  }, { passive: false });
  axis.addEventListener("dblclick", () => {
    waterfall.zoom();
    changed();
  });
}
