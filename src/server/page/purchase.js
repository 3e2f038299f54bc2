// One buyer's purchase in one sale, from the choice to the ticket.
//
// An intent gets its request id once and is stored, with its very bytes, before it is sent for the
// first time. From then on, through time-outs, reloads and lost connections, it is asked under that
// id alone, until there is one true answer. A refusal is final only if no earlier attempt may still
// arrive; where one may, the id is fenced first, which settles it for ever.

const QUICK_MS = 500;
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 15_000;

/** Refusals that say: certainly not executed, come back. */
const COMES_BACK = new Set(["OVERLOADED", "DEADLINE", "DRAINING", "RATE_LIMITED"]);

class Purchase {
  #wire;
  #account;
  #store;
  #key;
  #changed;
  #pursuing = false;
  #refreshing = false;
  #attempt = null;
  #wake = () => {};

  /** What the page is to say: `{code, …}`, or nothing. */
  verdict = null;
  /** The stored part: the intent being asked, the order, and tickets bought before. */
  record = { pending: null, order: null, tickets: [] };

  /** `account` is `undefined` where a token says who the buyer is; `changed` redraws. */
  constructor({ wire, sale, account, owner, store, changed }) {
    this.#wire = wire;
    this.#account = account;
    this.#store = store;
    this.#key = `boxoffice.purchase.${sale}.${owner}`;
    this.#changed = changed;
    this.#load();
  }

  /** Goes on with whatever was under way when the page was left. */
  resume() {
    return this.record.pending ? this.#pursue() : this.refresh();
  }

  /** Another tab of this buyer has changed the stored part. What is being asked, it asks. */
  adopt(key) {
    if (key !== this.#key) return;
    this.#load();
    this.#changed();
  }

  /** Holds lines of `{item, quantity, price}`. */
  hold(lines) {
    const body = { account: this.#account, action: "hold", lines };
    return this.#intend({ op: "hold", path: "orders", lines }, body);
  }

  /** Turns the hold into tickets. */
  confirm() {
    return this.#change("confirm");
  }

  /** Gives the hold back. */
  release() {
    return this.#change("release");
  }

  #change(op) {
    const { order } = this.record;
    if (order?.state !== "held") return undefined;
    const path = `orders/${order.number}/${op}`;
    return this.#intend({ op, path }, { account: this.#account });
  }

  /** Puts the ticket aside, to choose again. */
  again() {
    const { order } = this.record;
    if (order?.state !== "confirmed") return;
    this.record.tickets.unshift(order);
    this.record.order = null;
    this.#settle(null);
  }

  /** Says something that needs no server. */
  say(code) {
    this.verdict = code ? { code } : null;
    this.#changed();
  }

  /** Asks no longer. What is not known to be undone is settled with the server first. */
  stop() {
    const { pending } = this.record;
    if (!pending || pending.stopped) return;
    pending.stopped = { code: "STOPPED" };
    this.#save();
    this.verdict = { code: "STOPPING", waits: true };
    this.#changed();
    this.#attempt?.abort();
    this.#wake();
  }

  /** Connected or looked at again: does not wait any longer. */
  wake() {
    this.#wake();
  }

  /** Reads how the order stands. */
  async refresh() {
    const { order } = this.record;
    if (!order || this.#refreshing) return;
    this.#refreshing = true;
    try {
      const answer = await this.#wire.get(`orders/${order.number}`);
      const isStale = this.record.order?.number !== order.number || this.record.pending;
      if (!isStale) this.#judge(answer);
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error;
      // The hold stays on show with its time; whoever shows it asks again.
    } finally {
      this.#refreshing = false;
    }
  }

  #judge({ json, refusal }) {
    const { order } = this.record;
    if (refusal) {
      // A ticket stays on show, whatever has become of its sale.
      if (COMES_BACK.has(refusal.code) || order.state === "confirmed") return;
      if (refusal.code === "BAD_TOKEN") return this.#settle(refusal);
      this.record.order = null;
      return this.#settle({ code: "ORDER_GONE" });
    }
    const over = { expired: "HOLD_EXPIRED", released: "RELEASED", cancelled: "CANCELLED" };
    if (json.state !== "held" && this.verdict?.code === "PAYMENT_DUE") this.verdict = null;
    if (over[json.state]) {
      this.record.order = null;
      return this.#settle({ code: over[json.state] });
    }
    const prices = new Map(order.lines.map(({ item, price }) => [item, price]));
    order.state = json.state;
    order.expires_at_ms = json.expires_at_ms;
    order.lines = json.lines.map((line) => ({ ...line, price: prices.get(line.item) }));
    this.#save();
    this.#changed();
  }

  #intend(intent, body) {
    if (this.record.pending) return undefined;
    this.verdict = null;
    this.record.pending = { ...intent, id: randomText(), body: JSON.stringify(body) };
    this.#save();
    return this.#pursue();
  }

  /** Asks until there is an answer. */
  async #pursue() {
    if (this.#pursuing) return;
    this.#pursuing = true;
    try {
      for (let failures = 0; this.record.pending; ) {
        const wait = await this.#ask(this.record.pending);
        if (wait === undefined) continue;
        if (wait === Infinity) return;
        const backoff = Math.min(RETRY_MS_MIN * 2 ** failures, RETRY_MS_MAX);
        failures += 1;
        await this.#sleep(Math.max(wait, jittered(backoff)));
      }
    } finally {
      this.#pursuing = false;
      this.#changed();
    }
  }

  /** One attempt. How long to wait before the next, in ms; `undefined`: it is settled. */
  async #ask(pending) {
    // Stored before the bytes leave: a page that is closed now knows later that they may have.
    const { mayArrive = false } = pending;
    pending.mayArrive = true;
    this.#save();
    this.#changed();
    // Most answers come before anybody would read this.
    const patience = setTimeout(() => {
      this.verdict ??= { code: "ASKING", waits: true };
      this.#changed();
    }, QUICK_MS);
    this.#attempt = new AbortController();
    const { signal } = this.#attempt;
    try {
      if (pending.stopped) {
        if (!mayArrive) return void this.#settle(pending.stopped);
        return this.#fenced(pending, await this.#wire.get(this.#fencePath(pending), signal));
      }
      const answer = await this.#wire.post(pending.path, pending.id, pending.body, signal);
      return this.#answered(pending, answer, mayArrive);
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error;
      if (signal.aborted) return undefined;
      this.verdict = { code: navigator.onLine ? "NO_ANSWER" : "OFFLINE", waits: true };
      this.#changed();
      return 0;
    } finally {
      clearTimeout(patience);
      this.#attempt = null;
    }
  }

  #fencePath({ id }) {
    const account = this.#account ? `account=${encodeURIComponent(this.#account)}&` : "";
    return `requests/${id}?${account}fence=true`;
  }

  #answered(pending, { json, replayed, refusal }, mayArrive) {
    if (this.record.pending?.id !== pending.id) return undefined;
    if (json) return this.#succeed(pending, json, replayed);
    // This attempt did nothing; whether an earlier one did is as unknown as before.
    pending.mayArrive = mayArrive;
    this.#save();
    if (COMES_BACK.has(refusal.code)) {
      this.verdict = { ...refusal, waits: true };
      this.#changed();
      return refusal.retry_ms ?? 0;
    }
    // The order is the buyer's own; it is for the shop to confirm.
    if (pending.op === "confirm" && refusal.code === "FORBIDDEN") refusal.code = "PAYMENT_DUE";
    if (!mayArrive) return void this.#settle(refusal);
    if (refusal.code === "BAD_TOKEN") {
      // Kept: with a new token the page goes on with this very intent.
      this.verdict = refusal;
      this.#changed();
      return Infinity;
    }
    pending.stopped = refusal;
    this.#save();
    return undefined;
  }

  #fenced(pending, { json, refusal }) {
    if (this.record.pending?.id !== pending.id) return undefined;
    if (json?.state === "fenced") return void this.#settle(pending.stopped);
    if (json) return this.#succeed(pending, json, true);
    if (COMES_BACK.has(refusal.code)) return refusal.retry_ms ?? 0;
    if (refusal.code === "BAD_TOKEN") {
      this.verdict = refusal;
      this.#changed();
      return Infinity;
    }
    // It cannot be fenced: the server's last word on the intent itself stands.
    return void this.#settle(pending.stopped);
  }

  #succeed(pending, json, replayed) {
    const { op } = pending;
    if (op === "hold") {
      const { order: number, state, expires_at_ms } = json;
      this.record.order = { number, state, expires_at_ms, lines: pending.lines };
    } else if (op === "confirm") {
      const lines = this.record.order?.lines ?? [];
      this.record.order = { number: json.order, state: "confirmed", lines };
    } else {
      this.record.order = null;
    }
    this.#settle(op === "release" ? { code: "RELEASED" } : null);
    // The first answer may be old: the order may have moved on since.
    if (replayed) this.refresh();
    return undefined;
  }

  #settle(verdict) {
    this.record.pending = null;
    this.#save();
    this.verdict = verdict;
    this.#changed();
    // The order itself says more than the refusal does.
    if (["WRONG_STATE", "KEY_CONFLICT"].includes(verdict?.code)) this.refresh();
    if (verdict?.code === "HOLD_EXPIRED" && this.record.order) {
      this.record.order = null;
      this.#save();
      this.#changed();
    }
  }

  #sleep(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #load() {
    const stored = this.#store.read(this.#key);
    this.record = { pending: null, order: null, tickets: [], ...stored };
  }

  #save() {
    this.#store.write(this.#key, this.record);
  }
}

/** 128 bits that nobody guesses, as a text. */
function randomText() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A browser's storage, or memory alone where the browser has none for this page. */
class Store {
  #storage;
  #memory = new Map();

  constructor(storage) {
    this.#storage = storage;
  }

  read(key) {
    try {
      return JSON.parse(this.#storage.getItem(key) ?? "null") ?? undefined;
    } catch {
      return this.#memory.get(key);
    }
  }

  write(key, value) {
    this.#memory.set(key, value);
    try {
      this.#storage.setItem(key, JSON.stringify(value));
    } catch {
      // Full, or forbidden: this page goes on in memory.
    }
  }
}
