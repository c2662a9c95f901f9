// The WebSocket to the chat server. It reconnects by itself, and hands frames to the page one after the other.

const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 5000;
// The code with which the server closes a connection that a newer one of the same user has replaced.
const REPLACED = 4001;

export class Connection {
  #url;
  #handlers;
  #socket;
  #pause = FIRST_PAUSE;
  #timer;
  #isEnded = false;

  // handlers.frame(frame, reply) may return a promise: the next frame waits for it. `reply` sends a frame on the connection on
  // which the frame came. handlers.state(state) gets "connecting", "online", "offline" or "replaced".
  constructor(user, handlers) {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.#url = `${scheme}://${location.host}/ws?user=${encodeURIComponent(user)}`;
    this.#handlers = handlers;
    addEventListener("online", () => this.#connectNow());
    // The browser may keep a page that was left, and its connection. A page that nobody sees must not hold messages back. If the
    // user returns to the page, it connects again.
    addEventListener("pagehide", () => this.#socket.close());
    this.#connect();
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  send(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  #connect() {
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#handlers.state("connecting");
    let handled = Promise.resolve();
    const reply = (frame) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
    };
    socket.onopen = () => {
      this.#pause = FIRST_PAUSE;
      this.#handlers.state("online");
    };
    socket.onmessage = ({ data }) => {
      // A frame that cannot be handled is not acknowledged, so the server sends it again later.
      handled = handled.then(() => this.#handlers.frame(JSON.parse(data), reply)).catch((error) => console.error(error));
    };
    socket.onclose = ({ code }) => {
      if (code === REPLACED) {
        this.#isEnded = true;
        this.#handlers.state("replaced");
        return;
      }
      this.#handlers.state("offline");
      // The random part spreads the connections of many pages after the server's restart.
      this.#timer = setTimeout(() => this.#connect(), this.#pause * (0.5 + Math.random() / 2));
      this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
    };
  }

  #connectNow() {
    if (this.#isEnded || this.#socket.readyState !== WebSocket.CLOSED) return;
    clearTimeout(this.#timer);
    this.#connect();
  }
}
