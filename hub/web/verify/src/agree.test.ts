// Says the same as Go of a corpus that Go wrote (pkg/proof/prooftest, TestCorpus): files that hold and files that lie, with recorded answers of a chain.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { equal, unhex } from './bytes';
import { ChainError, type Chain } from './chain';
import { check } from './check';

const dir = process.env.HSI_PROOF_CORPUS ?? '';

interface RecordedEvent {
  at: string; seq: string; hour: string; prev_root: string; root: string; size: string; block_time: string; block: string; tx: string; finalized: boolean;
}
interface Recorded {
  kind: string;
  what: string;
  at: number;
  size: number;
  contract: string;
  chain: { id: string; contract: string; down: boolean; events: RecordedEvent[] };
  verdict: number;
  steps: Record<string, string>;
}

const chainOf = (c: Recorded['chain']): Chain => ({
  event: (a) => {
    const e = c.events.find((x) => BigInt(x.at) === a.seq);
    if (c.down) return Promise.reject(new ChainError('unreachable'));
    if (a.chainId !== BigInt(c.id)) return Promise.reject(new ChainError('wrong-chain'));
    if (!equal(a.contract, unhex(c.contract))) return Promise.reject(new ChainError('wrong-code'));
    if (e === undefined) return Promise.reject(new ChainError('no-event'));
    return Promise.resolve({
      seq: BigInt(e.seq), hour: BigInt(e.hour), prevRoot: unhex(e.prev_root), root: unhex(e.root), size: BigInt(e.size), blockTime: BigInt(e.block_time),
      block: BigInt(e.block), tx: unhex(e.tx), finalized: e.finalized,
    });
  },
});

const states: Record<string, string> = { ok: 'ok', wrong: 'wrong', 'not-yet': 'not yet', unknown: 'unknown', note: 'note' };

describe.skipIf(dir === '')('the corpus of HSI_PROOF_CORPUS', () => {
  test('both verifiers say the same of every file, step by step where it is not false, and see the same fault where it is', { timeout: 300_000 }, async () => {
    const files = readFileSync(join(dir, 'files.bin'));
    const cases = readFileSync(join(dir, 'cases.jsonl'), 'utf8').trim().split('\n').map((l) => JSON.parse(l) as Recorded);
    const seen: Record<string, number> = {};
    const differ: string[] = [];
    for (const c of cases) {
      const file = new Blob([files.subarray(c.at, c.at + c.size)]);
      const r = await check(file, { contract: c.contract === '' ? undefined : unhex(c.contract), chain: chainOf(c.chain) });
      const key = `${c.kind} ${r.verdict}`;
      seen[key] = (seen[key] ?? 0) + 1;
      const mine = r.steps.map((s) => `${s.id} ${states[s.state] ?? ''}`).sort().join(', ');
      const go = Object.entries(c.steps).filter(([id]) => !id.startsWith('note-')).map(([id, s]) => `${id} ${s}`).sort().join(', ');
      // Of a false file one fault leads to others, and how far each verifier looks behind the first is its own affair: they must share one.
      const shared = r.steps.some((x) => x.state === 'wrong' && c.steps[x.id] === 'wrong');
      if (r.verdict !== c.verdict || (r.verdict === 1 ? !shared : mine !== go)) differ.push(`${c.kind} at ${c.at}, ${c.what}: ${r.verdict}, Go ${c.verdict}\n  here: ${mine}\n  Go:   ${go}\n  ${r.steps.map((s) => s.detail).join(' ')}`);
    }
    console.info(`${cases.length} files, ${files.length} bytes:`, seen);
    expect(differ.slice(0, 20), `${differ.length} of ${cases.length} differ`).toEqual([]);
    expect(cases.length).toBeGreaterThanOrEqual(10_000);
  });
});
