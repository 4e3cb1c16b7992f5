// Keeps a FleetStore current: opens the hub's events stream, loads the snapshot, applies patches,
// reconnects for as long as it is not closed. fetch and not EventSource, because the latter hides the
// status of a refusal and the heartbeats, without which a dead connection looks alive for ever.
import { createParser } from 'eventsource-parser';
import type { Patch, Site, Snapshot } from '../api/types';
import type { FleetStore } from './store';

export type Link =
  | { state: 'connecting' }
  | { state: 'live' }
  | { state: 'lost'; sinceMs: number }
  | { state: 'signed-out' };

export interface StreamConfig {
  store: FleetStore;
  snapshot: (signal: AbortSignal) => Promise<Snapshot>;
  onSites: (sites: readonly Site[]) => void;
  /** Called with every timestamp of the hub, in ms, as it arrives. */
  onHubTime: (ms: number) => void;
  fetch?: typeof fetch;
  now?: () => number; // ms
}

/** The hub sends at least a heartbeat every 15 s; after three of them missed the connection is dead. */
const silenceMs = 45_000;
const firstRetryMs = 1_000;
const lastRetryMs = 15_000;
/** Patches kept while a snapshot is under way. Beyond it the snapshot is fetched again. */
const maxHeld = 120;

class SignedOut extends Error {}

export class FleetStream {
  #link: Link = { state: 'connecting' };
  #listeners = new Set<() => void>();
  #stop: AbortController | undefined;
  #running: Promise<void> | undefined;
  #loading: Promise<void> | undefined;
  #held: Patch[] = [];
  #overflow = false;

  constructor(private readonly c: StreamConfig) {}

  readonly link = (): Link => this.#link;
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Begins, once more after a close too. */
  start(): void {
    if (this.#stop) return;
    this.#stop = new AbortController();
    this.#set({ state: 'connecting' });
    this.#running = this.#run(this.#stop.signal);
  }

  /** Ends the stream and waits until it has ended. */
  async close(): Promise<void> {
    this.#stop?.abort();
    this.#stop = undefined;
    await this.#running;
  }

  #now(): number {
    return (this.c.now ?? Date.now)();
  }

  #set(link: Link): void {
    this.#link = link;
    for (const l of this.#listeners) l();
  }

  async #run(signal: AbortSignal): Promise<void> {
    let wait = firstRetryMs;
    while (!signal.aborted) {
      try {
        await this.#session(signal, () => {
          wait = firstRetryMs;
        });
      } catch (err) {
        if (signal.aborted) return;
        if (err instanceof SignedOut) {
          this.#set({ state: 'signed-out' });
          return;
        }
      }
      if (signal.aborted) return;
      if (this.#link.state !== 'lost') this.#set({ state: 'lost', sinceMs: this.#now() });
      await pause(wait + Math.random() * wait * 0.3, signal);
      wait = Math.min(wait * 2, lastRetryMs);
    }
  }

  /** One connection: from the request until it ends or falls silent. */
  async #session(outer: AbortSignal, onLive: () => void): Promise<void> {
    const own = new AbortController();
    const signal = AbortSignal.any([outer, own.signal]);
    let watchdog = setTimeout(() => own.abort(), silenceMs);
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => own.abort(), silenceMs);
    };
    try {
      const headers: Record<string, string> = { Accept: 'text/event-stream' };
      if (this.c.store.ready) headers['Last-Event-ID'] = String(this.c.store.version);
      const response = await (this.c.fetch ?? fetch)('/api/events', {
        headers,
        credentials: 'same-origin',
        cache: 'no-store',
        signal,
      });
      if (response.status === 401) throw new SignedOut();
      if (!response.ok || !response.body) throw new Error(`events stream: HTTP ${response.status}`);

      const parser = createParser({
        onEvent: (e) => {
          if (e.event === 'reset') this.#reload(signal);
          if (e.event === 'patch') this.#patch(JSON.parse(e.data) as Patch, signal);
        },
      });
      // The stream is open before the snapshot is asked for, so nothing falls between the two.
      await this.#loading; // of a session before this one
      if (!this.c.store.ready) this.#reload(signal);
      await this.#loading;
      if (!this.c.store.ready) throw new Error('the snapshot could not be loaded');
      this.#set({ state: 'live' });
      onLive();

      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        alive();
        parser.feed(value);
      }
    } finally {
      clearTimeout(watchdog);
      own.abort();
    }
  }

  #patch(p: Patch, signal: AbortSignal): void {
    this.c.onHubTime(Date.parse(p.at));
    if (p.sites && p.sites.length > 0) this.c.onSites(p.sites);
    if (this.#loading) {
      if (this.#held.length >= maxHeld) this.#overflow = true;
      else this.#held.push(p);
      return;
    }
    if (!this.c.store.apply(p)) this.#reload(signal);
  }

  /** Fetches the snapshot, one at a time; patches that arrive meanwhile are applied on top of it. */
  #reload(signal: AbortSignal): void {
    if (this.#loading) return;
    this.#held = [];
    this.#overflow = false;
    this.#loading = (async () => {
      let again = false;
      try {
        const s = await this.c.snapshot(signal);
        this.c.onHubTime(Date.parse(s.at));
        this.c.store.load(s);
        again = this.#overflow || !this.#held.every((p) => this.c.store.apply(p));
      } catch {
        // On the first load the session ends without a snapshot, and the loop tries again; later the
        // old rows stay, with their growing ages, until a new snapshot comes.
        again = this.c.store.ready;
      } finally {
        this.#held = [];
        this.#loading = undefined;
      }
      if (again && !signal.aborted) {
        await pause(firstRetryMs, signal);
        if (!signal.aborted) this.#reload(signal);
      }
    })();
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
}
