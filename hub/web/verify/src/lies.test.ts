// Checks the files that a lying hub has made (deploy/e2e, TestAHubThatLies) against a real chain: each must be called what the program calls it.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { unhex } from './bytes';
import { chainOf } from './chain';
import { check } from './check';

const path = process.env.HSI_PROOF_CASES ?? '';

interface Case {
  name: string;
  file: string;
  rpc: string;
  contract: string;
  verdict: number;
}

describe.skipIf(path === '')('the files of HSI_PROOF_CASES', () => {
  test('are called what the program calls them', { timeout: 60_000 }, async () => {
    const cases = JSON.parse(readFileSync(path, 'utf8')) as Case[];
    const said: Record<string, number> = {};
    for (const c of cases) {
      const file = new Blob([readFileSync(c.file)]);
      said[c.name] = (await check(file, { contract: c.contract === '' ? undefined : unhex(c.contract.slice(2)), chain: chainOf([c.rpc]) })).verdict;
    }
    console.info(`${cases.length} files`);
    expect(said).toEqual(Object.fromEntries(cases.map((c) => [c.name, c.verdict])));
  });
});
