// The server's time, from the Date header of its answers. The clock of the buyer's device is not
// asked: it may be wrong by hours, and a hold ends by the server's clock.

class ServerClock {
  // Bounds on the server's time minus performance.now(), in milliseconds.
  #from = -Infinity;
  #to = Infinity;

  /** Learns from an answer's Date. Both times are of performance.now(). */
  observe(header, sentAt, receivedAt) {
    const date = Date.parse(header ?? "");
    if (Number.isNaN(date)) return;
    // The header drops the fraction of its second, and was written between the two times. Each
    // answer narrows the bounds, until they are much tighter than a second.
    const from = date - receivedAt;
    const to = date + 1000 - sentAt;
    this.#from = Math.max(this.#from, from);
    this.#to = Math.min(this.#to, to);
    // One of the clocks was set: what was known before is void.
    if (this.#from > this.#to) [this.#from, this.#to] = [from, to];
  }

  /** Forgets what it learnt: a device that slept may have stopped performance.now(). */
  forget() {
    [this.#from, this.#to] = [-Infinity, Infinity];
  }

  /**
   * The earliest and the latest that the server's time can be now, in milliseconds since the Unix
   * epoch; `undefined` before any answer. Who must not be late asks for the latest.
   */
  now() {
    if (this.#from === -Infinity) return undefined;
    const now = performance.now();
    return { earliest: now + this.#from, latest: now + this.#to };
  }
}

/** Between half and one and a half of `ms`: a crowd that waits does not come back at once. */
function jittered(ms) {
  return ms * (0.5 + Math.random());
}
