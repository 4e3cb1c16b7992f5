import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FleetStore } from './store';
import { FleetStream } from './stream';
import { now, patch, raw, snapshot } from './testdata';

/** A hub's side of one events connection. */
class Connection {
  readonly headers: Headers;
  readonly response: Response;
  aborted = false;
  #out!: ReadableStreamDefaultController<Uint8Array>;

  constructor(init: RequestInit, status: number) {
    this.headers = new Headers(init.headers);
    const body = new ReadableStream<Uint8Array>({ start: (c) => void (this.#out = c) });
    this.response = new Response(status === 200 ? body : null, { status });
    init.signal?.addEventListener('abort', () => {
      this.aborted = true;
      if (status === 200) this.#out.error(new DOMException('aborted', 'AbortError'));
    });
  }
  send(text: string) {
    this.#out.enqueue(new TextEncoder().encode(text));
  }
  event(name: string, data: unknown) {
    this.send(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  }
  end() {
    this.#out.close();
  }
}

function world(status = () => 200) {
  const store = new FleetStore();
  const connections: Connection[] = [];
  const asked: { answer: (s: ReturnType<typeof snapshot>) => void; fail: () => void }[] = [];
  const sites = vi.fn();
  const stream = new FleetStream({
    store,
    snapshot: () =>
      new Promise((resolve, reject) => {
        asked.push({ answer: resolve, fail: () => reject(new Error('no')) });
      }),
    onSites: sites,
    onHubTime: () => undefined,
    now: () => now,
    fetch: (_, init) => {
      const c = new Connection(init ?? {}, status());
      connections.push(c);
      return Promise.resolve(c.response);
    },
  });
  return { store, stream, connections, asked, sites };
}

const settle = () => vi.advanceTimersByTimeAsync(0);

describe('the events stream', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('is open before the snapshot is asked for, so that no change falls between', async () => {
    const w = world();
    w.stream.start();
    await settle();
    expect([w.connections.length, w.asked.length]).toEqual([1, 1]);
    w.connections[0]?.event('patch', patch(101, [raw('m1', { hashrate_hs: 2e12 })]));
    await settle();
    w.asked[0]?.answer(snapshot([raw('m1', { hashrate_hs: 1e12 })], 100));
    await settle();
    expect(w.store.get('m1')?.hashrate).toBe(2e12);
    expect(w.stream.link()).toEqual({ state: 'live' });
    await w.stream.close();
  });

  it('reads an event that arrives in pieces, and heartbeats between events', async () => {
    const w = world();
    w.stream.start();
    await settle();
    w.asked[0]?.answer(snapshot([raw('m1')]));
    await settle();
    const text = `event: patch\ndata: ${JSON.stringify(patch(101, [raw('m1', { worker: 'é' })]))}\n\n`;
    w.connections[0]?.send(': heartbeat\n\n' + text.slice(0, 40));
    w.connections[0]?.send(text.slice(40));
    await settle();
    expect(w.store.get('m1')?.worker).toBe('é');
    await w.stream.close();
  });

  it('loads the snapshot again on a reset and applies what came meanwhile on top of it', async () => {
    const w = world();
    w.stream.start();
    await settle();
    w.asked[0]?.answer(snapshot([raw('m1')], 100));
    await settle();
    w.connections[0]?.event('reset', {});
    w.connections[0]?.event('patch', patch(7, [raw('m1', { power_w: 1 })]));
    await settle();
    expect(w.asked.length).toBe(2);
    w.asked[1]?.answer(snapshot([raw('m1', { power_w: 9 })], 6));
    await settle();
    expect([w.store.version, w.store.get('m1')?.power]).toEqual([7, 1]);
    await w.stream.close();
  });

  it('says since when it is lost, comes back, and asks for what it missed', async () => {
    const w = world();
    w.stream.start();
    await settle();
    w.asked[0]?.answer(snapshot([raw('m1')], 100));
    await settle();
    w.connections[0]?.end();
    await settle();
    expect(w.stream.link()).toEqual({ state: 'lost', sinceMs: now });
    await vi.advanceTimersByTimeAsync(2_000);
    expect(w.connections[1]?.headers.get('Last-Event-ID')).toBe('100');
    expect(w.stream.link()).toEqual({ state: 'live' });
    await w.stream.close();
  });

  it('gives a silent connection up', async () => {
    const w = world();
    w.stream.start();
    await settle();
    w.asked[0]?.answer(snapshot([raw('m1')], 100));
    await settle();
    await vi.advanceTimersByTimeAsync(46_000);
    expect(w.connections[0]?.aborted).toBe(true);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(w.connections.length).toBe(2);
    await w.stream.close();
  });

  it('tries again when the first snapshot fails', async () => {
    const w = world();
    w.stream.start();
    await settle();
    w.asked[0]?.fail();
    await settle();
    expect(w.stream.link().state).toBe('lost');
    await vi.advanceTimersByTimeAsync(2_000);
    w.asked[1]?.answer(snapshot([raw('m1')], 100));
    await settle();
    expect(w.stream.link().state).toBe('live');
    await w.stream.close();
  });

  it('stops when the hub no longer knows the session', async () => {
    const w = world(() => 401);
    w.stream.start();
    await settle();
    await vi.advanceTimersByTimeAsync(60_000);
    expect([w.stream.link().state, w.connections.length]).toEqual(['signed-out', 1]);
    await w.stream.close();
  });

  it('keeps trying while the hub is away, ever more slowly', async () => {
    const w = world(() => 503);
    w.stream.start();
    await vi.advanceTimersByTimeAsync(120_000);
    expect(w.connections.length).toBeGreaterThan(6);
    expect(w.connections.length).toBeLessThan(16);
    await w.stream.close();
  });

  it('hands changed sites on', async () => {
    const w = world();
    w.stream.start();
    await settle();
    w.asked[0]?.answer(snapshot([raw('m1')], 100));
    await settle();
    w.connections[0]?.event('patch', { ...patch(101, []), sites: [{ id: 'site-a', name: 'North' }] });
    await settle();
    expect(w.sites).toHaveBeenCalledWith([{ id: 'site-a', name: 'North' }]);
    await w.stream.close();
  });
});
