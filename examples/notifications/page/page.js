// Logs in as a user, and shows the user's notifications as they arrive.

const form = document.getElementById("login");
const input = document.getElementById("user");
const logout = document.getElementById("logout");
const status = document.getElementById("status");
const list = document.getElementById("notifications");

// The user who is logged in, with the acknowledgement for the next request and the ids of the shown notifications; null if nobody is logged
// in.
let session = null;

const url = (session, path) => {
  const seen = session.seen ? `?seen=${encodeURIComponent(session.seen)}` : "";
  return `/users/${encodeURIComponent(session.user)}/${path}${seen}`;
};

// The page gives up a request to a server that hangs. A working server answers each request within 20 s, even if no notification has
// arrived.
const patience = 30_000;
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function show({ data, created_at }) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.dateTime = created_at;
  time.textContent = new Date(created_at).toLocaleString();
  item.append(time, typeof data === "string" ? data : JSON.stringify(data));
  list.prepend(item);
}

async function poll(own) {
  while (session === own) {
    try {
      const answer = await fetch(url(own, "next"), { cache: "no-store", signal: AbortSignal.any([own.abort.signal, AbortSignal.timeout(patience)]) });
      if (session !== own) return;
      if (!answer.ok) throw new Error((await answer.json()).error);
      status.textContent = `Logged in as ${own.user}`;
      own.seen = null;
      if (answer.status === 204) continue;
      const notification = await answer.json();
      // A notification whose acknowledgement was lost arrives again.
      if (!own.shown.has(notification.id)) show(notification);
      own.shown.add(notification.id);
      own.seen = notification.seen;
    } catch (error) {
      if (session !== own) return;
      status.textContent = `Trying again: ${error.message}`;
      await pause(1000);
    }
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (session) return;
  session = { user: input.value, seen: null, shown: new Set(), abort: new AbortController() };
  list.replaceChildren();
  input.disabled = true;
  logout.hidden = false;
  status.textContent = "Logging in";
  poll(session);
});

logout.addEventListener("click", async () => {
  const own = session;
  session = null;
  own.abort.abort();
  input.disabled = false;
  logout.hidden = true;
  status.textContent = "Logged out";
  try {
    await fetch(url(own, "logout"), { method: "POST" });
  } catch {
    // A lost logout request does no harm, because the server logs out a user who sends no request for a while.
  }
});
