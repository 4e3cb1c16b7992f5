// One clock for every age on the page: the hub's, estimated from its own timestamps, so that a wrong
// clock on the operator's computer does not make fresh values look old. It ticks once a second.

type Listener = () => void;

export class Clock {
  #offset = 0; // hub's time minus this computer's, in ms
  #known = false;
  #now: number;
  #timer: ReturnType<typeof setInterval> | undefined;
  readonly #listeners = new Set<Listener>();

  constructor(private readonly local: () => number = Date.now) {
    this.#now = local();
  }

  /** Learns from a timestamp that the hub put into an answer just received. */
  observe(hubMs: number): void {
    if (!Number.isFinite(hubMs)) return;
    const offset = hubMs - this.local();
    // An answer's way here makes the hub look behind, never ahead: the largest offset is the best
    // estimate. Anything more than 5 s smaller means that a clock was set, and counts at once.
    if (!this.#known || offset > this.#offset || this.#offset - offset > 5_000) {
      this.#offset = offset;
      this.#known = true;
    }
  }

  /** The hub's time in ms since 1970, as it was at the last tick. Between ticks it stands still, so
   * that all ages of one painting agree. */
  readonly now = (): number => this.#now;

  /** The hub's time in ms right now. */
  readonly exact = (): number => this.local() + this.#offset;

  readonly subscribe = (listener: Listener): (() => void) => {
    this.#listeners.add(listener);
    if (this.#timer === undefined) {
      this.#now = this.exact();
      this.#timer = setInterval(() => this.tick(), 1_000);
    }
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) {
        clearInterval(this.#timer);
        this.#timer = undefined;
      }
    };
  };

  tick(): void {
    this.#now = this.exact();
    for (const l of this.#listeners) l();
  }
}
