// One websocket that keeps itself up: backs off, says how it is, stops where it is not welcome.

const FIRST_MS = 500, LONGEST_MS = 30_000;
/** The tower says something every 5 s; a line that is silent for so long is dead, whatever the browser thinks. */
const SILENT_MS = 12_000;
const NOT_WELCOME = new Set([4401, 4403, 4404]);

/**
 * @param {string} path
 * @param {{onFrame: (frame: any) => void, onState: (state: "live"|"late"|"off", code?: number) => void, hello?: () => any}} does
 * @returns {{send: (frame: any) => void}} `send` drops what cannot be sent now
 */
export function keepOpen(path, { onFrame, onState, hello }) {
  let socket = null, wait = FIRST_MS, timer = 0, silence = 0, gone = false;

  function listen() {
    clearTimeout(silence);
    silence = setTimeout(() => { socket?.close(); lost(0); }, SILENT_MS);
  }

  /** A dead line takes long to close, so nobody waits for that. */
  function lost(code) {
    clearTimeout(silence);
    if (gone || !socket) return;
    socket = null;
    if (NOT_WELCOME.has(code)) return onState("off", code);
    onState("late");
    timer = setTimeout(open, wait * (0.75 + Math.random() / 2));
    wait = Math.min(LONGEST_MS, wait * 2);
  }

  function open() {
    clearTimeout(timer);
    const opened = new WebSocket(new URL(path, location.href.replace(/^http/, "ws")));
    socket = opened;
    listen();
    opened.addEventListener("open", () => hello && send(hello()));
    opened.addEventListener("message", (message) => {
      if (socket !== opened) return;
      listen();
      wait = FIRST_MS;
      onState("live");
      onFrame(JSON.parse(message.data));
    });
    opened.addEventListener("close", (event) => socket === opened && lost(event.code));
  }

  function send(frame) {
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
  }

  // A page that Back may bring to life again must not hold a socket.
  addEventListener("pagehide", () => {
    gone = true;
    clearTimeout(timer);
    clearTimeout(silence);
    socket?.close();
    socket = null;
  });
  addEventListener("pageshow", (event) => event.persisted && again());
  addEventListener("online", () => socket || gone || again());
  function again() {
    gone = false;
    wait = FIRST_MS;
    open();
  }
  open();
  return { send };
}
