// The connection to the chat server, which reconnects by itself, and passes frames to the page one after the other.

const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 5000;
// The WebSocket close code for a connection that was replaced by a newer connection of the same user.
const CLOSE_CODE_REPLACED = 4001;

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
    // The browser may keep a page that the user has left, together with its connection. A hidden page must not hold messages back, so the
    // page closes its connection, and connects again when the user returns.
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
      if (code === CLOSE_CODE_REPLACED) {
        this.#isEnded = true;
        this.#handlers.state("replaced");
        return;
      }
      this.#handlers.state("offline");
      // The random part of the pause spreads the connections of many pages after a restart of the server.
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
