// What is on the screen. It is drawn from the state alone, as often as wanted: nodes are made once
// and then only changed, so that the focus and what a buyer has typed stay where they are.

const LINES_MAX = 16;

const byId = (id) => document.getElementById(id);

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

class View {
  #money;
  #rows = new Map();
  #section = null;

  constructor(sale, money) {
    this.#money = money;
    setText(byId("sale"), sale);
    document.title = `Tickets: sale ${sale}`;
  }

  /** The lines that are chosen, with the prices on show. */
  chosen() {
    const rows = [...this.#rows.values()];
    const lines = rows.map(({ item, price, input }) => {
      return { item, quantity: quantityIn(input), price };
    });
    return lines.filter(({ quantity }) => quantity > 0);
  }

  /** Sets every quantity to none. */
  clearChoice() {
    for (const { input } of this.#rows.values()) input.value = "0";
  }

  draw({ items, isStale, verdict, record, opens_at_ms }) {
    const isBusy = record.pending !== null;
    document.body.dataset.busy = isBusy;
    for (const id of ["hold", "confirm", "release", "again"]) {
      byId(id).setAttribute("aria-disabled", isBusy);
    }
    if (items) this.#drawItems(items);
    setText(byId("fresh"), isStale ? "Counts are old: no connection" : "");
    this.#drawOrder(record);
    this.#drawTotal();
    this.#drawSection(record, items, verdict, opens_at_ms);
    this.#drawVerdict(verdict, isBusy);
  }

  /** The part of the page that has the buyer's attention. The focus follows it. */
  #drawSection(record, items, verdict, opens_at_ms) {
    const order = record.order;
    let section = items || record.pending ? "choose" : null;
    if (order?.state === "held") section = "held";
    if (order?.state === "confirmed") section = "ticket";
    byId("opening").hidden = opens_at_ms === undefined || section !== "choose";
    for (const id of ["choose", "held", "ticket"]) byId(id).hidden = id !== section;
    byId("earlier").hidden = record.tickets.length === 0;
    byId("hold").classList.toggle("waits", opens_at_ms !== undefined);
    if (section === this.#section) return;
    const isFirst = this.#section === null;
    this.#section = section;
    if (!isFirst && section) byId(`${section}-title`).focus();
  }

  #drawVerdict(verdict, isBusy) {
    const { title, next } = verdict ? words(verdict.code) : { title: "", next: "" };
    const box = byId("verdict");
    const isNew = verdict && box.dataset.code !== verdict.code;
    box.hidden = !verdict;
    box.dataset.code = verdict?.code ?? "";
    box.dataset.waits = verdict?.waits ?? false;
    setText(byId("verdict-title"), title);
    setText(byId("verdict-next"), next);
    const canStop = isBusy && verdict?.waits && !["ASKING", "STOPPING"].includes(verdict.code);
    byId("stop-line").hidden = !canStop;
    // Whoever pressed a button below a long list has to see what came of it.
    if (isNew && verdict.code !== "ASKING") box.scrollIntoView({ block: "nearest" });
  }

  #drawItems(items) {
    for (const item of items) {
      const row = this.#rows.get(item.item) ?? this.#addRow(item.item);
      row.price = item.price;
      row.max = Math.min(item.available, item.account_limit ?? Infinity);
      setText(row.priceNode, this.#money(item.price));
      setText(row.count, item.available.toLocaleString());
      row.count.style.setProperty("--digits", Math.max(5, row.count.textContent.length));
      setText(row.unit, item.available === 0 && item.held === 0 ? "sold out" : "available");
      setText(row.note, noteOn(item));
      row.node.classList.toggle("gone", item.available === 0);
      const share = (units) => `${item.capacity ? (100 * units) / item.capacity : 0}%`;
      row.sold.style.width = share(item.sold);
      row.others.style.width = share(item.held);
    }
    for (const [item, row] of this.#rows) {
      if (!items.some((known) => known.item === item)) {
        row.node.remove();
        this.#rows.delete(item);
      }
    }
  }

  #addRow(item) {
    const node = byId("item").content.firstElementChild.cloneNode(true);
    const find = (selector) => node.querySelector(selector);
    const input = find("input");
    input.id = `quantity-${item}`;
    find("label").htmlFor = input.id;
    setText(find("label"), `How many of ${itemName(item)}`);
    find(".less").setAttribute("aria-label", `One less of ${itemName(item)}`);
    find(".more").setAttribute("aria-label", `One more of ${itemName(item)}`);
    setText(find("h2"), itemName(item));
    const row = {
      item, node, input, price: 0, max: 0,
      priceNode: find(".price"), count: find(".count"), unit: find(".unit"),
      note: find(".note"), sold: find(".sold"), others: find(".others"),
    };
    const step = (by) => {
      input.value = String(Math.max(0, quantityIn(input) + by));
      this.#drawTotal();
    };
    find(".less").addEventListener("click", () => step(-1));
    find(".more").addEventListener("click", () => step(quantityIn(input) < row.max ? 1 : 0));
    input.addEventListener("input", () => this.#drawTotal());
    input.addEventListener("focus", () => input.select());
    byId("items").append(node);
    this.#rows.set(item, row);
    return row;
  }

  #drawTotal() {
    let units = 0;
    let sum = 0;
    for (const row of this.#rows.values()) {
      const quantity = quantityIn(row.input);
      units += quantity;
      sum += quantity * row.price;
      row.node.classList.toggle("chosen", quantity > 0);
      row.node.querySelector(".less").setAttribute("aria-disabled", quantity === 0);
      row.node.querySelector(".more").setAttribute("aria-disabled", quantity >= row.max);
    }
    setText(byId("total-label"), units === 0 ? "Nothing chosen" : countOf(units));
    setText(byId("total"), units === 0 ? "" : this.#money(sum));
  }

  #drawOrder({ order, tickets }) {
    if (order?.state === "held") {
      this.#drawLines(byId("held-lines"), order.lines);
      const until = timeText(order.expires_at_ms);
      setText(byId("held-until"), `They go back on sale ${until}.`);
    } else if (order) {
      setText(byId("ticket-order"), String(order.number));
      this.#drawLines(byId("ticket-lines"), order.lines);
    }
    const rows = tickets.map(({ number, lines }) => {
      const units = lines.reduce((sum, { quantity }) => sum + quantity, 0);
      return [`Order ${number}`, countOf(units)];
    });
    drawList(byId("earlier-orders"), rows);
  }

  #drawLines(list, lines) {
    const rows = lines.map(({ item, quantity, price }) => {
      const amount = price === undefined ? "" : this.#money(price * quantity);
      return [`${quantity} \u00d7 ${itemName(item)}`, amount];
    });
    const isPriced = lines.length > 1 && lines.every(({ price }) => price !== undefined);
    if (isPriced) {
      const sum = lines.reduce((sum, { quantity, price }) => sum + quantity * price, 0);
      rows.push(["Total", this.#money(sum)]);
    }
    drawList(list, rows);
  }

  /** The clocks; called several times a second. */
  drawClocks(now, { order }, opens_at_ms) {
    if (now === undefined) return;
    if (order?.state === "held") {
      const rest = order.expires_at_ms - now.latest;
      setText(byId("countdown"), countdownText(rest));
      byId("held").classList.toggle("short", rest < 60_000);
      this.#speak(rest);
    }
    if (opens_at_ms !== undefined) {
      setText(byId("opening-clock"), countdownText(opens_at_ms - now.earliest));
      setText(byId("opening-time"), `The sale opens ${timeText(opens_at_ms)}.`);
    }
  }

  /** Says aloud how much time is left, a few times only. */
  #speak(rest) {
    const marks = [
      [300_000, "5 minutes left"],
      [60_000, "1 minute left"],
      [20_000, "20 seconds left"],
    ];
    const mark = marks.find(([ms]) => rest <= ms && rest > ms - 5_000);
    setText(byId("spoken"), mark ? mark[1] : "");
  }
}

/** The whole number in a field; none where it has no sense. */
function quantityIn(input) {
  const number = Number(input.value);
  return Number.isInteger(number) && number > 0 ? Math.min(number, 0xffff_ffff) : 0;
}

function countOf(units) {
  return `${units.toLocaleString()} ticket${units === 1 ? "" : "s"}`;
}

function noteOn({ available, held, account_limit }) {
  const parts = [];
  if (held > 0) {
    const back = available === 0 ? "they may come back" : "not sold yet";
    parts.push(`${held.toLocaleString()} in holds, ${back}`);
  }
  if (account_limit !== undefined) {
    parts.push(`${account_limit.toLocaleString()} at most for each buyer`);
  }
  return parts.join(" \u00b7 ");
}

function drawList(list, rows) {
  while (list.children.length > rows.length) list.lastElementChild.remove();
  rows.forEach(([name, amount], index) => {
    const row = list.children[index] ?? byId("line").content.firstElementChild.cloneNode(true);
    if (!row.parentNode) list.append(row);
    setText(row.querySelector(".name"), name);
    setText(row.querySelector(".amount"), amount);
  });
}
