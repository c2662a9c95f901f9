// The messages of one user, kept in the browser's IndexedDB. The page acknowledges a message only after the message is stored in IndexedDB,
// and recognises a repeated message by its id, so each message is shown exactly once.
//
// A message has: id, peer, own (whether this user sent it), text, at (ms), state. The state of an own message is "sending", "sent",
// "delivered" or "refused" (with a reason); the state of any other message is "unread" or "read".

const STORE_NAME = "messages";

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function committed(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error("the browser aborted the transaction"));
  });
}

export class History {
  #database;
  #messages = new Map();

  static async open(user) {
    const request = indexedDB.open(`chat-${user}`, 1);
    request.onupgradeneeded = () => {
      const store = request.result.createObjectStore(STORE_NAME, { keyPath: "place", autoIncrement: true });
      store.createIndex("id", "id", { unique: true });
    };
    const history = new History();
    history.#database = await result(request);
    for (const message of await result(history.#database.transaction(STORE_NAME).objectStore(STORE_NAME).getAll())) {
      history.#messages.set(message.id, message);
    }
    return history;
  }

  // Returns all messages, in the order in which they were added.
  all() {
    return [...this.#messages.values()];
  }

  get(id) {
    return this.#messages.get(id);
  }

  // Adds a message. Returns false if a message with its id was added before, even by another tab.
  async add(message) {
    if (this.#messages.has(message.id)) return false;
    const transaction = this.#write();
    const request = transaction.objectStore(STORE_NAME).add(message);
    try {
      await committed(transaction);
    } catch (error) {
      if (error.name === "ConstraintError") return false;
      throw error;
    }
    this.#messages.set(message.id, { ...message, place: request.result });
    return true;
  }

  // Changes fields of a stored message.
  async change(id, fields) {
    const message = { ...this.#messages.get(id), ...fields };
    const transaction = this.#write();
    transaction.objectStore(STORE_NAME).put(message);
    await committed(transaction);
    this.#messages.set(id, message);
  }

  #write() {
    // The durability "strict" makes a message survive a power failure, because after the acknowledgement only this browser has the message.
    return this.#database.transaction(STORE_NAME, "readwrite", { durability: "strict" });
  }
}
