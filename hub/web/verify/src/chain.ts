// What a check asks of a chain, and how it asks JSON-RPC endpoints: for blocks, the contract's code and its events, by block number, address and topic.
// Nothing of the file that is checked is sent. An endpoint is believed what it says of its chain; several must say the same.
import { Fields, concat, equal, hex, unhex } from './bytes';
import { sha256 } from './hash';

/** Where a file says that its checkpoint is anchored. */
export interface Anchor {
  readonly chainId: bigint;
  readonly contract: Uint8Array;
  readonly seq: bigint;
  readonly block: bigint;
  readonly tx: Uint8Array;
}

/** HeadAnchored as the chain has it. */
export interface ChainEvent {
  readonly seq: bigint;
  readonly hour: bigint;
  readonly prevRoot: Uint8Array;
  readonly root: Uint8Array;
  readonly size: bigint;
  readonly blockTime: bigint; // s since 1970 UTC
  readonly block: bigint;
  readonly tx: Uint8Array;
  readonly finalized: boolean;
}

/** Why there is no event. no-event, wrong-chain and wrong-code show that the file is false, not-final that it is early; the rest shows nothing. */
export type NoEvent = 'no-event' | 'wrong-chain' | 'wrong-code' | 'not-final' | 'unreachable' | 'disagree';

export class ChainError extends Error {
  constructor(
    readonly why: NoEvent,
    readonly detail = '',
  ) {
    super(`${why} ${detail}`);
  }
}

export interface Chain {
  event(a: Anchor): Promise<ChainEvent>;
}

/** keccak256("HeadAnchored(uint64,uint64,bytes32,bytes32,uint64)"): the event's first topic. */
export const headAnchoredTopic = '0x208da491ab95e0f6410d80976eda128ff8c81a76c6cc0349241164cd49a7144c';
/** SHA-256 of the contract's runtime code, the same for every deployment: it has no immutables. */
export const anchorLogCode = 'a215a4ee0523372d219dc956807951e76b4862c4ad1538f0539b978153268b64';

const timeoutMS = 15_000; // of one question to one endpoint
const maxAnswer = 1 << 20; // bytes

/** Asks one endpoint one question. */
export type Ask = (url: string, method: string, params: readonly unknown[]) => Promise<unknown>;

export const askByFetch: Ask = async (url, method, params) => {
  let answer: unknown;
  try {
    const res = await fetch(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
      referrerPolicy: 'no-referrer',
      signal: AbortSignal.timeout(timeoutMS),
    });
    if (!res.ok) throw new ChainError('unreachable', `HTTP ${res.status}`);
    answer = JSON.parse(await bounded(res));
  } catch (err) {
    throw err instanceof ChainError ? err : new ChainError('unreachable', err instanceof Error ? err.message : '');
  }
  if (typeof answer !== 'object' || answer === null || !('result' in answer) || 'error' in answer) {
    throw new ChainError('unreachable', `${method}: ${JSON.stringify(answer).slice(0, 200)}`);
  }
  return answer.result;
};

async function bounded(res: Response): Promise<string> {
  const reader = res.body?.getReader();
  const parts: Uint8Array[] = [];
  let n = 0;
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
    if (done) return new TextDecoder().decode(concat(...parts));
    parts.push(value);
    n += value.length;
    if (n > maxAnswer) {
      await reader?.cancel();
      throw new ChainError('unreachable', `an answer of more than ${maxAnswer} bytes`);
    }
  }
}

const quantity = (n: bigint): string => `0x${n.toString(16)}`;
const data = (b: Uint8Array): string => `0x${hex(b)}`;

/** Fields of an answer, or the word that the endpoint does not speak the protocol. */
const broken = (what: string): ChainError => new ChainError('unreachable', `an answer that is none: ${what}`);

function field(o: unknown, key: string): unknown {
  return typeof o === 'object' && o !== null ? (o as Readonly<Record<string, unknown>>)[key] : undefined;
}

function number(v: unknown, what: string): bigint {
  if (typeof v !== 'string' || !/^0x[0-9a-f]{1,16}$/i.test(v)) throw broken(what);
  return BigInt(v);
}

function bytes(v: unknown, what: string, size?: number): Uint8Array {
  if (typeof v !== 'string' || !/^0x([0-9a-f]{2})*$/i.test(v)) throw broken(what);
  const b = unhex(v);
  if (size !== undefined && b.length !== size) throw broken(what);
  return b;
}

/** The 32-byte word that a uint64 is in the ABI. */
function abiUint64(w: Uint8Array): bigint {
  const f = new Fields(w);
  if (!f.bytes(24).every((x) => x === 0)) throw broken('a number beyond 64 bits');
  return f.u64();
}

/** Asks one endpoint for an anchor's event. */
async function eventOf(url: string, a: Anchor, ask: Ask): Promise<ChainEvent> {
  if (number(await ask(url, 'eth_chainId', []), 'chain id') !== a.chainId) throw new ChainError('wrong-chain');
  const head = field(await ask(url, 'eth_getBlockByNumber', ['latest', false]), 'number');
  if (number(head, 'latest block') < a.block) throw new ChainError('unreachable', 'the endpoint is behind the anchor’s block');
  const code = bytes(await ask(url, 'eth_getCode', [data(a.contract), 'latest']), 'code');
  if (hex(sha256(code)) !== anchorLogCode) throw new ChainError('wrong-code');
  const block = await ask(url, 'eth_getBlockByNumber', [quantity(a.block), false]);
  if (block === null) throw new ChainError('unreachable', 'the endpoint does not have the anchor’s block');
  const blockHash = bytes(field(block, 'hash'), 'block hash', 32);
  const logs = await ask(url, 'eth_getLogs', [
    { fromBlock: quantity(a.block), toBlock: quantity(a.block), address: data(a.contract), topics: [headAnchoredTopic, data(concat(new Uint8Array(24), seqBytes(a.seq)))] },
  ]);
  if (!Array.isArray(logs)) throw broken('logs');
  const found = logs.map((l: unknown) => parseLog(l)).filter((l) => !l.removed && equal(l.address, a.contract) && l.event.seq === a.seq && l.event.block === a.block);
  const [log] = found;
  if (log === undefined) throw new ChainError('no-event');
  if (found.length > 1) throw broken('two events of one number');
  if (!equal(log.blockHash, blockHash)) throw new ChainError('disagree', 'the event’s block is another than the chain’s');
  const finalized = await ask(url, 'eth_getBlockByNumber', ['finalized', false]);
  return {
    ...log.event,
    blockTime: number(field(block, 'timestamp'), 'block time'),
    finalized: finalized !== null && number(field(finalized, 'number'), 'finalized block') >= a.block,
  };
}

function seqBytes(n: bigint): Uint8Array {
  const b = new Uint8Array(8);
  new DataView(b.buffer).setBigUint64(0, n);
  return b;
}

function parseLog(l: unknown) {
  const topics = field(l, 'topics');
  if (!Array.isArray(topics) || topics.length !== 2 || topics[0] !== headAnchoredTopic) throw broken('topics');
  const words = new Fields(bytes(field(l, 'data'), 'data', 128));
  const hour = abiUint64(words.bytes(32));
  const prevRoot = words.bytes(32);
  const root = words.bytes(32);
  const size = abiUint64(words.bytes(32));
  return {
    removed: field(l, 'removed') === true,
    address: bytes(field(l, 'address'), 'address', 20),
    blockHash: bytes(field(l, 'blockHash'), 'block hash', 32),
    event: {
      seq: abiUint64(bytes(topics[1], 'seq', 32)),
      hour,
      prevRoot,
      root,
      size,
      block: number(field(l, 'blockNumber'), 'block number'),
      tx: bytes(field(l, 'transactionHash'), 'transaction hash', 32),
    },
  };
}

const sameEvent = (x: ChainEvent, y: ChainEvent): boolean =>
  x.seq === y.seq && x.hour === y.hour && x.size === y.size && x.blockTime === y.blockTime && x.block === y.block &&
  equal(x.root, y.root) && equal(x.prevRoot, y.prevRoot) && equal(x.tx, y.tx);

/** Asks every endpoint; those that answer must say the same, and all must answer. */
export function chainOf(urls: readonly string[], ask: Ask = askByFetch): Chain {
  return {
    async event(a) {
      const answers = await Promise.all(
        urls.map((url) => eventOf(url, a, ask).catch((err: unknown) => (err instanceof ChainError ? err : new ChainError('unreachable', String(err))))),
      );
      const [first, ...others] = answers;
      if (first === undefined) throw new ChainError('unreachable', 'no endpoint');
      for (const other of answers) if (other instanceof ChainError && other.why === 'unreachable') throw other;
      let finalized = true;
      for (const other of others) {
        const alike =
          first instanceof ChainError || other instanceof ChainError
            ? first instanceof ChainError && other instanceof ChainError && first.why === other.why
            : sameEvent(first, other);
        if (!alike) throw new ChainError('disagree');
      }
      if (first instanceof ChainError) throw first;
      for (const x of answers) finalized &&= !(x instanceof ChainError) && x.finalized;
      return { ...first, finalized };
    },
  };
}
