// The page comes to life: who buys what, and what happens when.

const TICK_MS = 200;

/** How often an order is looked at that the shop has to confirm. */
const PAYMENT_LOOK_MS = 5_000;

/** What the link says behind its `#`; it is taken out of the address bar at once. */
function takeFragment() {
  const given = new URLSearchParams(location.hash.slice(1));
  const session = new Store(sessionStorageOrNone());
  for (const name of ["token", "currency"]) {
    if (given.has(name)) session.write(`boxoffice.${name}`, given.get(name));
  }
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  return { token: session.read("boxoffice.token"), currency: session.read("boxoffice.currency") };
}

/** The account that a token names. It only keeps buyers of one browser apart; the server judges. */
function subjectOf(token) {
  try {
    const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return String(JSON.parse(atob(claims)).sub);
  } catch {
    return "token";
  }
}

/** Storage can be switched off, so that touching it throws. */
function sessionStorageOrNone() {
  try {
    return sessionStorage;
  } catch {
    return null;
  }
}

function localStorageOrNone() {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

/** Without a token, as on a developer's own machine: a random account that this browser keeps. */
function localAccount(store) {
  const known = store.read("boxoffice.account");
  if (known) return known;
  const account = randomText();
  store.write("boxoffice.account", account);
  return account;
}

class Page {
  #clock = new ServerClock();
  #store = new Store(localStorageOrNone());
  #view;
  #stock;
  #purchase;
  #opens_at_ms;
  #lookedAt = -Infinity;

  constructor(sale) {
    const { token, currency } = takeFragment();
    const wire = new Wire(sale, token, this.#clock);
    const changed = () => this.#draw();
    const account = token ? undefined : localAccount(this.#store);
    const owner = token ? subjectOf(token) : account;
    this.#view = new View(sale, moneyFormat(currency));
    this.#stock = new Stock({ wire, changed });
    this.#purchase = new Purchase({ wire, sale, account, owner, store: this.#store, changed });
    this.#listen();
  }

  start() {
    this.#draw();
    this.#purchase.resume();
    this.#stock.ask();
    setInterval(() => this.#tick(), TICK_MS);
  }

  #listen() {
    const on = (id, act) => {
      byId(id).addEventListener("click", (event) => {
        if (event.currentTarget.getAttribute("aria-disabled") !== "true") act();
      });
    };
    byId("choice").addEventListener("submit", (event) => {
      event.preventDefault();
      if (byId("hold").getAttribute("aria-disabled") !== "true") this.#hold();
    });
    on("confirm", () => this.#then(this.#purchase.confirm()));
    on("release", () => this.#then(this.#purchase.release()));
    on("again", () => this.#again());
    on("stop", () => this.#purchase.stop());
    addEventListener("storage", (event) => this.#purchase.adopt(event.key));
    addEventListener("online", () => this.#purchase.wake());
    // The same page under a new link, with a new token: begun anew.
    addEventListener("hashchange", () => location.reload());
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) return;
      this.#clock.forget();
      this.#purchase.wake();
      this.#purchase.resume();
    });
  }

  async #hold() {
    if (this.#opens_at_ms !== undefined) return;
    const lines = this.#view.chosen();
    if (lines.length === 0) return this.#purchase.say("NOTHING_CHOSEN");
    if (lines.length > LINES_MAX) return this.#purchase.say("TOO_MANY_TYPES");
    await this.#then(this.#purchase.hold(lines));
    if (this.#purchase.record.order) this.#view.clearChoice();
  }

  #again() {
    this.#purchase.again();
    this.#stock.ask();
  }

  /** The counts have changed with the answer, or explain it. */
  async #then(answered) {
    await answered;
    await this.#stock.ask();
  }

  #tick() {
    const now = this.#clock.now();
    const { record } = this.#purchase;
    this.#view.drawClocks(now, record, this.#opens_at_ms);
    if (now === undefined) return;
    if (this.#opens_at_ms <= now.earliest) {
      this.#opens_at_ms = undefined;
      this.#purchase.say("OPEN_NOW");
    }
    // The server says when it is over, not this clock.
    const { order } = record;
    if (order?.state !== "held") return;
    if (order.expires_at_ms <= now.latest) this.#lookAgain(1_000);
    else if (this.#purchase.verdict?.code === "PAYMENT_DUE") this.#lookAgain(PAYMENT_LOOK_MS);
  }

  async #lookAgain(every_ms) {
    if (document.hidden || performance.now() - this.#lookedAt < every_ms) return;
    this.#lookedAt = performance.now();
    await this.#then(this.#purchase.refresh());
  }

  #draw() {
    const { record, verdict } = this.#purchase;
    const { items, isStale } = this.#stock;
    if (verdict?.code === "NOT_OPEN") this.#opens_at_ms = verdict.opens_at_ms;
    this.#stock.patience = record.order ? 4 : 1;
    const state = { items, isStale, record, opens_at_ms: this.#opens_at_ms };
    this.#view.draw({ ...state, verdict: verdict ?? this.#stock.verdict });
    this.#view.drawClocks(this.#clock.now(), record, this.#opens_at_ms);
  }
}

new Page(location.pathname.split("/").pop()).start();
