// Requests and answers. Whatever is not clearly an answer of the server, such as silence or some
// proxy's own page, is "unanswered": nobody knows what became of the request.

const ANSWER_MS_MAX = 10_000;

/** No answer: the request may have been executed, or not. */
class Unanswered extends Error {}

class Wire {
  #root;
  #token;
  #clock;

  constructor(sale, token, clock) {
    this.#root = `/v1/sales/${sale}/`;
    this.#token = token;
    this.#clock = clock;
  }

  /** Reads. */
  get(path, signal) {
    return this.#ask("GET", path, {}, undefined, signal);
  }

  /** Changes something, under a request id. */
  post(path, id, body, signal) {
    const headers = { "Content-Type": "application/json", "Idempotency-Key": id };
    return this.#ask("POST", path, headers, body, signal);
  }

  async #ask(method, path, headers, body, signal) {
    if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
    const limits = new AbortController();
    const timer = setTimeout(() => limits.abort(), ANSWER_MS_MAX);
    const stop = () => limits.abort();
    signal?.addEventListener("abort", stop);
    try {
      const sentAt = performance.now();
      const response = await fetch(this.#root + path, {
        method,
        headers,
        body,
        signal: limits.signal,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
      });
      const receivedAt = performance.now();
      const answer = await this.#read(response);
      this.#clock.observe(response.headers.get("Date"), sentAt, receivedAt);
      return answer;
    } catch (error) {
      throw error instanceof Unanswered ? error : new Unanswered(String(error));
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
    }
  }

  async #read(response) {
    const type = response.headers.get("Content-Type") ?? "";
    const expected = response.ok ? "application/json" : "application/problem+json";
    if (!type.startsWith(expected)) throw new Unanswered(`${response.status} ${type}`);
    const json = await response.json();
    if (response.ok) {
      return { json, replayed: response.headers.get("Idempotency-Replayed") === "true" };
    }
    if (typeof json.code !== "string") throw new Unanswered("a problem without its code");
    const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
    return {
      refusal: {
        code: json.code,
        opens_at_ms: json.opens_at_ms,
        retry_ms: Number.isNaN(seconds) ? undefined : seconds * 1000,
      },
    };
  }
}
