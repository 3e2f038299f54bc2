// What a buyer does with the page, case by case. Each is run by a test of tests/page.rs, which made
// the sales and judges afterwards what the server has.

import assert from "node:assert/strict";
import { Buyer } from "./browser.mjs";

/** A hold becomes a ticket, and the page stays with it. */
export async function hold_and_confirm({ buyer, page }) {
  await buyer.open();
  assert.equal(await page.locator(".item .count").first().innerText(), "100");
  await buyer.choose(1, 2);
  await buyer.choose(2, 1);
  assert.equal(await buyer.text("total"), "30.00");
  await buyer.press("Hold tickets");
  await buyer.sees("held");
  assert.match(await buyer.text("countdown"), /^(10:00|9:5\d)$/);
  assert.equal(await page.evaluate(() => document.activeElement.id), "held-title");
  await buyer.press("Confirm");
  await buyer.sees("ticket");
  assert.equal(await buyer.text("ticket-order"), "1");
  assert.match(await buyer.text("ticket-lines"), /2 × Ticket type 1\s+20\.00/);
  await page.reload();
  await buyer.sees("ticket");
  await buyer.press("Choose more tickets");
  await buyer.sees("choose");
  assert.match(await buyer.text("earlier-orders"), /Order 1\s+3 tickets/);
}

/** A hold is given back, and the next intent is another one. */
export async function give_back({ buyer, page }) {
  const ids = [];
  page.on("request", (request) => ids.push(request.headers()["idempotency-key"]));
  await buyer.open();
  for (let round = 0; round < 2; round++) {
    await buyer.hold(1, 3);
    await buyer.sees("held");
    await buyer.press("Give back");
    assert.match(await buyer.isTold("RELEASED"), /on sale again/);
  }
  const used = ids.filter((id) => id !== undefined);
  assert.equal(used.length, 4);
  assert.equal(new Set(used).size, 4, "each intent has an id of its own");
}

/** Everything is sold: so says the count, and so says the answer. */
export async function sold_out({ buyer, page }) {
  await buyer.open();
  assert.match(await page.locator(".item .left").innerText(), /^0\s+sold out$/);
  await buyer.hold(1, 1);
  assert.match(await buyer.isTold("SOLD_OUT"), /Choose another/);
  assert.equal((await buyer.record()).pending, null);
}

/** Nobody confirms in time. */
export async function hold_runs_out({ buyer }) {
  await buyer.open();
  await buyer.hold(1, 1);
  assert.match(await buyer.isTold("HOLD_EXPIRED"), /Choose again/);
  await buyer.sees("choose");
}

/** The answer is lost on its way: the page asks again, under the same id, by itself. */
export async function lost_answer({ buyer, page }) {
  const ids = [];
  page.on("request", (request) => {
    if (request.url().endsWith("/orders")) ids.push(request.headers()["idempotency-key"]);
  });
  await buyer.open();
  buyer.loseFirstOrder({ reachesServer: true });
  await buyer.hold(1, 2);
  assert.match(await buyer.isTold("NO_ANSWER"), /same number/);
  await buyer.sees("held");
  await buyer.isToldNothing();
  assert.equal(ids.length, 2);
  assert.equal(ids[0], ids[1]);
}

/** As above, with a browser that forgets in between: then there are two. */
export async function lost_answer_and_memory({ buyer, page, base }) {
  await buyer.open();
  const lost = buyer.loseFirstOrder({ reachesServer: true });
  await buyer.hold(1, 2);
  await lost;
  // Of the same origin, and without the page's script, which would remember again.
  const blank = { contentType: "text/html", body: '<link rel="icon" href="data:,">' };
  await page.route("**/blank", (route) => route.fulfill(blank));
  await page.goto(`${base}/blank`);
  await page.evaluate(() => {
    const account = localStorage.getItem("boxoffice.account");
    localStorage.clear();
    localStorage.setItem("boxoffice.account", account);
  });
  await buyer.open();
  await buyer.sees("choose");
  await buyer.hold(1, 2);
  await buyer.sees("held");
}

/** The page is closed before the answer is there; opened again, it goes on with the same intent. */
export async function reload_before_the_answer({ buyer, page }) {
  await buyer.open();
  let answered;
  const reached = new Promise((resolve) => (answered = resolve));
  await page.route("**/orders", async (route) => {
    await route.fetch();
    // Never fulfilled: the page is gone before.
    answered(route.request().headers()["idempotency-key"]);
  }, { times: 1 });
  await buyer.hold(1, 2);
  const id = await reached;
  assert.equal((await buyer.record()).pending.id, id);
  const again = page.waitForRequest("**/orders");
  await page.reload();
  assert.equal((await again).headers()["idempotency-key"], id);
  await buyer.sees("held");
}

/** The page is opened again in the midst of a hold, and in a second tab. */
export async function reload_in_a_hold({ buyer, page, context, base, sale }) {
  await buyer.open();
  await buyer.hold(1, 2);
  await buyer.sees("held");
  const { order } = await buyer.record();
  await page.reload();
  await buyer.sees("held");
  assert.deepEqual((await buyer.record()).order, order);
  const other = new Buyer(await context.newPage(), base, sale);
  await other.open();
  await other.sees("held");
  await other.press("Confirm");
  await other.sees("ticket");
  await buyer.sees("ticket");
}

/** A refusal is only believed when the lost attempt before it can no longer arrive. */
export async function refused_after_a_lost_attempt({ buyer, page, base, sale }) {
  await buyer.open();
  const lost = buyer.loseFirstOrder({ reachesServer: false });
  const sent = page.waitForRequest("**/orders");
  await buyer.hold(1, 1);
  const id = await lost;
  await buyer.isTold("SOLD_OUT");
  // What was lost arrives late, and does nothing.
  const late = await fetch(`${base}/v1/sales/${sale}/orders`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": id },
    body: (await sent).postData(),
  });
  assert.equal((await late.json()).code, "KEY_CONFLICT");
}

/** The buyer stops asking, and learns that the request had arrived. */
export async function stop_asking({ buyer, page }) {
  await buyer.open();
  await page.route("**/orders", async (route) => {
    await route.fetch();
    await route.abort("timedout");
  });
  await buyer.hold(1, 2);
  await buyer.isTold("NO_ANSWER");
  await buyer.press("Stop asking");
  await buyer.sees("held");
  await buyer.isToldNothing();
}

/** The buyer stops asking, and nothing has arrived. */
export async function stop_in_time({ buyer, page }) {
  await buyer.open();
  await page.route("**/orders", (route) => route.abort("timedout"));
  await buyer.hold(1, 2);
  await buyer.isTold("NO_ANSWER");
  await buyer.press("Stop asking");
  assert.match(await buyer.isTold("STOPPED"), /Nothing was done/);
  await buyer.sees("choose");
}

/** No network: the page says so and goes on when there is one. */
export async function offline({ buyer, context }) {
  await buyer.open();
  await buyer.choose(1, 1);
  await context.setOffline(true);
  await buyer.press("Hold tickets");
  assert.match(await buyer.isTold("OFFLINE"), /connected again/);
  await context.setOffline(false);
  await buyer.sees("held");
}

/** A server that is too busy says when to come back, and the page does. */
export async function busy({ buyer, page }) {
  await buyer.open();
  await page.route("**/orders", (route) => {
    return route.fulfill({
      status: 503,
      contentType: "application/problem+json",
      headers: { "Retry-After": "2" },
      body: JSON.stringify({ status: 503, code: "OVERLOADED" }),
    });
  }, { times: 1 });
  await buyer.hold(1, 1);
  assert.match(await buyer.isTold("OVERLOADED"), /asks again by itself/);
  await buyer.sees("held");
}

/** The words of each state of a sale; `sale` is the first of a row of sales. */
export async function words_of_refusals({ page, base, sale }) {
  for (const [offset, code, advice] of [
    [0, "NOT_OPEN", /before it opens/],
    [1, "PAUSED", /try again in a few minutes/],
    [2, "CLOSED", /No more tickets/],
    [3, "NONE_NOW", /Choose fewer/],
    [4, "ACCOUNT_LIMIT", /Choose fewer/],
  ]) {
    const buyer = new Buyer(page, base, Number(sale) + offset);
    await buyer.open();
    await buyer.hold(1, 3);
    assert.match(await buyer.isTold(code), advice);
    if (code === "NOT_OPEN") {
      assert.match(await buyer.text("opening-clock"), /^(1:00:00|59:\d\d)$/);
      assert.notEqual(await buyer.text("opening-time"), "");
    }
  }
  const nowhere = new Buyer(page, base, Number(sale) + 99);
  await nowhere.open();
  assert.match(await nowhere.isTold("NOT_FOUND"), /Check the link/);
}

/** The buyer agrees to the price on show, or to none. */
export async function price_has_changed({ buyer, page }) {
  await page.route("**/availability", async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    json.items[0].price = 900;
    await route.fulfill({ response, json });
  }, { times: 1 });
  await buyer.open();
  await buyer.choose(1, 1);
  assert.equal(await buyer.text("total"), "9.00");
  await buyer.press("Hold tickets");
  await buyer.isTold("PRICE_MISMATCH");
  await page.locator("#total", { hasText: "10.00" }).waitFor();
  await buyer.press("Hold tickets");
  await buyer.sees("held");
}

/** A sale opens while the page is open, by the server's clock and not by that of the device. */
export async function opens_meanwhile({ buyer, page }) {
  await page.clock.install({ time: new Date("2001-01-01T00:00:00Z") });
  await page.clock.resume();
  await buyer.open();
  await page.route("**/orders", (route) => {
    return route.fulfill({
      status: 403,
      contentType: "application/problem+json",
      body: JSON.stringify({ status: 403, code: "NOT_OPEN", opens_at_ms: Date.now() + 4_000 }),
    });
  }, { times: 1 });
  await buyer.hold(1, 1);
  await buyer.isTold("NOT_OPEN");
  await buyer.isTold("OPEN_NOW");
  await buyer.press("Hold tickets");
  await buyer.sees("held");
  assert.match(await buyer.text("countdown"), /^(10:00|9:5\d)$/);
}

/** From the first key to the ticket without a pointer. */
export async function keyboard_only({ buyer, page }) {
  await buyer.open();
  const { keyboard } = page;
  const seen = [];
  const reach = async (name) => {
    for (let presses = 0; presses < 20; presses++) {
      await keyboard.press("Tab");
      const focused = await page.evaluate(() => {
        const { activeElement: node } = document;
        const label = node.labels?.[0]?.textContent ?? node.getAttribute("aria-label");
        const shown = getComputedStyle(node).outlineStyle !== "none";
        return { name: label || node.textContent, shown };
      });
      seen.push(focused.name);
      assert.ok(focused.shown, `the focus on ${focused.name} can be seen`);
      if (focused.name === name) return;
    }
    assert.fail(`${name} is not in ${seen}`);
  };
  await reach("How many of Ticket type 1");
  await keyboard.type("2");
  await reach("One more of Ticket type 1");
  await keyboard.press("Space");
  await reach("Hold tickets");
  await keyboard.press("Enter");
  await buyer.sees("held");
  await reach("Confirm");
  await keyboard.press("Enter");
  await buyer.sees("ticket");
  assert.match(await buyer.text("ticket-lines"), /3 × Ticket type 1/);
}

/** Nobody looks: nobody asks. */
export async function hidden_is_quiet({ buyer, page }) {
  let polls = 0;
  page.on("request", (request) => (polls += request.url().endsWith("/availability") ? 1 : 0));
  await page.clock.install();
  await buyer.open();
  await buyer.sees("choose");
  const look = (hidden) => page.evaluate((hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await look(true);
  const before = polls;
  await page.clock.runFor(300_000);
  assert.equal(polls, before, "no request while hidden");
  const next = page.waitForRequest("**/availability");
  await look(false);
  await next;
  await page.locator(".item .count").first().waitFor();
  await page.waitForLoadState("networkidle");
  const another = page.waitForRequest("**/availability");
  await page.clock.runFor(60_000);
  await another;
}

/** With a buyer's token in the link; `TOKEN` has it. */
export async function token_in_the_link({ buyer, page }) {
  const { TOKEN: token } = process.env;
  await buyer.open();
  assert.match(await buyer.isTold("BAD_TOKEN"), /Go back to the shop/);
  await page.goto("about:blank");
  await buyer.open(`#token=${token}&currency=JPY`);
  await buyer.sees("choose");
  assert.equal(page.url(), buyer.url, "the token is out of the address bar");
  assert.match(await page.locator(".price").first().innerText(), /1,000/);
  await buyer.hold(1, 1);
  await buyer.sees("held");
  await page.reload();
  await buyer.sees("held");
  const local = await page.evaluate(() => JSON.stringify(localStorage));
  assert.ok(!local.includes(token), "the token ends with the session");
  await buyer.press("Confirm");
  await buyer.sees("ticket");
}

/** What costs money is for the shop to confirm, and the page notices by itself. */
export async function paid_in_the_shop({ buyer, page, base, sale }) {
  const { TOKEN: token } = process.env;
  await buyer.open(`#token=${token}`);
  await buyer.hold(1, 2);
  await buyer.sees("held");
  await buyer.press("Confirm");
  assert.match(await buyer.isTold("PAYMENT_DUE"), /Go back to the shop and pay/);
  await buyer.sees("held");
  assert.equal((await buyer.record()).pending, null);
  const { order } = await buyer.record();
  const paid = await fetch(`${base}/v1/sales/${sale}/orders/${order.number}/confirm`, {
    method: "POST",
    headers: {
      "Authorization": "Bearer k",
      "Content-Type": "application/json",
      "Idempotency-Key": "paid",
    },
    body: JSON.stringify({ account: "ann", payment_ref: "81" }),
  });
  assert.equal(paid.status, 200);
  await buyer.sees("ticket");
  await buyer.isToldNothing();
  assert.match(await buyer.text("ticket-lines"), /2 × Ticket type 1\s+20\.00/);
}

/** Not a case of the page but of those who watch it: each planted fault is seen. */
export async function planted_faults({ buyer, page, context }) {
  await buyer.open();
  const thrown = context.waitForEvent("weberror");
  await page.evaluate(() => {
    const image = new Image();
    image.src = "http://127.0.0.1:9/elsewhere.png";
    try {
      const script = document.createElement("script");
      script.textContent = "window.planted = true";
      document.head.append(script);
    } catch {
      // The policy forbids it, and reports that.
    }
    console.error("planted");
    setTimeout(() => {
      throw new Error("planted");
    });
  });
  await thrown;
  assert.equal(await page.evaluate(() => window.planted), undefined);
}
