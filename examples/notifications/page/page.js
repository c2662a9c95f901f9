// Logs in as a user, and shows the user's notifications as they arrive.

const form = document.getElementById("login");
const input = document.getElementById("user");
const logout = document.getElementById("logout");
const status = document.getElementById("status");
const list = document.getElementById("notifications");

// The user that is logged in, with what to acknowledge next and the ids that were shown; or null.
let session = null;

const url = (session, path) => {
  const seen = session.seen ? `?seen=${encodeURIComponent(session.seen)}` : "";
  return `/users/${encodeURIComponent(session.user)}/${path}${seen}`;
};

// A server that hangs must not end the page: the server answers each request within 20 s, even if nothing has arrived.
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
    // Without a request for a while, the server logs the user out by itself.
  }
});
