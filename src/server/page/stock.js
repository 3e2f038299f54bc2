// What is left, asked for gently: with jitter, not at all while nobody looks, less often while
// nothing can be chosen or the server is busy.

const POLL_MS = 4_000;
const POLL_MS_MAX = 60_000;

class Stock {
  #wire;
  #changed;
  #timer;
  #asking = false;
  #failures = 0;
  #patience = 1;

  /** Items as the server lists them; `null` before the first answer. */
  items = null;
  #refusal = null;

  constructor({ wire, changed }) {
    this.#wire = wire;
    this.#changed = changed;
    document.addEventListener("visibilitychange", () => this.ask());
  }

  /** How many times more seldom than usual to ask. */
  set patience(times) {
    this.#patience = times;
  }

  /** Asks now, if anybody looks, and from then on again and again. */
  async ask() {
    clearTimeout(this.#timer);
    if (document.hidden || this.#asking) return;
    this.#asking = true;
    let retry_ms = 0;
    try {
      const { json, refusal } = await this.#wire.get("availability");
      this.#failures = refusal ? this.#failures + 1 : 0;
      if (json) this.items = json.items;
      this.#refusal = refusal ?? null;
      retry_ms = refusal?.retry_ms ?? 0;
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error;
      this.#failures += 1;
    } finally {
      this.#asking = false;
    }
    const pause = Math.min(POLL_MS * this.#patience * 2 ** this.#failures, POLL_MS_MAX);
    if (!document.hidden) {
      this.#timer = setTimeout(() => this.ask(), Math.max(jittered(pause), retry_ms));
    }
    this.#changed();
  }

  /** Why there are no counts, where that has to be said. */
  get verdict() {
    const passes = !this.#refusal || COMES_BACK.has(this.#refusal.code);
    if (!passes) return this.#refusal;
    return this.items || this.#failures === 0 ? null : { code: "NO_COUNTS" };
  }

  /** Whether the counts on show are old. */
  get isStale() {
    return this.#failures > 1;
  }
}
