// What the page says: each outcome in plain words, and what to do next.

const WORDS = {
  SOLD_OUT: [
    "Sold out",
    "Nothing is left of a ticket type that you chose, and nobody holds any that could come " +
      "back. Choose another one.",
  ],
  NONE_NOW: [
    "Fewer are free right now than you chose",
    "Choose fewer, or wait a little: what others hold and do not buy comes back.",
  ],
  ACCOUNT_LIMIT: [
    "That is more than one buyer may have",
    "Tickets that you hold or have bought count too. Choose fewer.",
  ],
  NOT_OPEN: [
    "The sale has not opened yet",
    "Nothing is lost by waiting: nobody can buy before it opens.",
  ],
  PAUSED: [
    "The sale is paused",
    "No new holds for the moment. Keep this page open and try again in a few minutes. A hold " +
      "that you have can still be confirmed.",
  ],
  CLOSED: [
    "The sale is closed",
    "No more tickets are sold here. Orders that were confirmed stay valid.",
  ],
  HOLD_EXPIRED: [
    "Your time ran out",
    "The tickets went back on sale, and nothing was bought. Choose again: they may still be there.",
  ],
  WRONG_STATE: ["This order has changed in the meantime", "Here is how it stands now."],
  KEY_CONFLICT: ["This request cannot be used again", "Nothing was done. Please choose again."],
  PRICE_MISMATCH: [
    "A price has changed",
    "Nothing was held. The new prices are shown: look at the total, then hold again.",
  ],
  NOT_FOUND: ["There is no such sale", "Check the link that brought you here."],
  BAD_REQUEST: [
    "The server did not accept this request",
    "Nothing was done. Reload the page and choose again.",
  ],
  BAD_TOKEN: [
    "We do not know who you are",
    "Your link has run out or is not complete. Go back to the shop and open this page from " +
      "there again; what you hold stays yours.",
  ],
  FORBIDDEN: [
    "This is not open to you",
    "It belongs to another buyer. Go back to the shop and sign in again.",
  ],
  PAYMENT_DUE: [
    "Not paid yet",
    "Your tickets stay held until the time runs out. Go back to the shop and pay there: it " +
      "confirms them, and this page then shows your ticket by itself.",
  ],
  NOT_ADMITTED: ["It is not your turn yet", "Go back to the waiting room and come from there."],
  BLOCKED: ["This account may not buy here", "Ask the shop's support."],
  CHALLENGE_REQUIRED: [
    "The shop has to check that you are a person",
    "Go back to the shop and come from there.",
  ],
  RATE_LIMITED: ["Too many requests", "Nothing was done. This page asks again by itself."],
  OVERLOADED: ["Very busy", "Nothing was done yet. This page asks again by itself."],
  DEADLINE: ["Very busy", "Nothing was done yet. This page asks again by itself."],
  DRAINING: ["The server is restarting", "Nothing was done yet. This page asks again by itself."],
  DISK_FULL: [
    "No new holds for the moment",
    "A hold that you have can still be confirmed or given back.",
  ],

  // What no server says, but this page finds out.
  NO_ANSWER: [
    "No answer yet",
    "Your request may have arrived. The page asks again under the same number, so it counts " +
      "only once.",
  ],
  OFFLINE: [
    "You are offline",
    "As soon as you are connected again, the page asks under the same number, so it counts " +
      "only once.",
  ],
  NO_COUNTS: ["The server does not answer", "This page asks again by itself."],
  STOPPED: ["Stopped", "Nothing was done, and this request can no longer arrive late."],
  STOPPING: ["Stopping", "Finding out whether your request had arrived already."],
  ASKING: ["One moment", "Waiting for the answer."],
  NOTHING_CHOSEN: ["Nothing chosen yet", "Choose how many tickets you would like."],
  TOO_MANY_TYPES: [
    "Too many ticket types at once",
    "At most 16 types fit into one order. Leave some for the next one.",
  ],
  OPEN_NOW: ["The sale is open", "You can hold your tickets now."],
  RELEASED: ["Given back", "The tickets are on sale again. Nothing was bought."],
  ORDER_GONE: ["Your hold is no longer there", "Nothing was bought. Choose again."],
  CANCELLED: ["This order was cancelled", "The tickets are on sale again."],
  UNKNOWN: ["That did not work", "Nothing was done. Reload the page and try again."],
};

/** Title and advice for a code. */
function words(code) {
  const [title, next] = WORDS[code] ?? WORDS.UNKNOWN;
  return { title, next };
}

/** A span of time as a clock shows it: 1:02:03 or 9:59. Rounded up, so that it ends at 0:00. */
function countdownText(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours > 0
    ? `${hours}:${two(minutes)}:${two(seconds % 60)}`
    : `${minutes}:${two(seconds % 60)}`;
}

/** When, for people: "at 20:15", with the date where that is another day than today. */
function timeText(ms, now = Date.now()) {
  const time = new Date(ms);
  const clock = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (time.toDateString() === new Date(now).toDateString()) return `at ${clock}`;
  const date = time.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });
  return `on ${date}, at ${clock}`;
}

/** Amounts in the smallest unit of a currency. Without its code: two decimals and no sign. */
function moneyFormat(currency) {
  let format;
  try {
    format = new Intl.NumberFormat([], { style: "currency", currency });
  } catch {
    format = new Intl.NumberFormat([], { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  }
  const unit = 10 ** format.resolvedOptions().maximumFractionDigits;
  return (amount) => format.format(amount / unit);
}

/** How the page calls an item. */
function itemName(item) {
  return `Ticket type ${item}`;
}
