// Every code of the API has a sentence in each language, with its numbers and without; what has none stays the hub's own words.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { anchorProblem, gwei } from './anchor-problems';

interface Schema {
  components: { schemas: { AnchorProblem: { properties: { problem_code: { enum: string[] } } } } };
}
const api = JSON.parse(readFileSync(new URL('../../openapi.json', import.meta.url), 'utf8')) as Schema;
const codes = api.components.schemas.AnchorProblem.properties.problem_code.enum;
const all = {
  seq: 7, size: 1200, log_size: 1100, head_seq: 8, block: 77, latest_block: 70, chain_id: 31_337, contract: '0xc0', account: '0xac', tx_hash: '0x77', nonce: 0,
  fee_wei: '51500000000', ceiling_wei: '50000000000', endpoints: ['one.example', 'two.example'], need: 2, total: 3, interval_s: 60,
};

describe('what keeps a hub from anchoring', () => {
  test.each(['en', 'zh-CN'] as const)('each code has its sentence (%s)', (language) => {
    expect(codes.length).toBeGreaterThan(30);
    const said = new Set<string>();
    for (const code of codes) {
      for (const params of [all, undefined]) {
        const text = anchorProblem(language, code, params) ?? '';
        expect(text, code).toMatch(/[.。]$/);
        expect(text, code).not.toMatch(/undefined|NaN|object/);
      }
      said.add(anchorProblem(language, code, all) ?? '');
    }
    expect(said.size).toBe(codes.length);
  });
  test('numbers stand in it where they are given', () => {
    expect(anchorProblem('en', 'fee_above_ceiling', all)).toBe('Gas costs 51.5 gwei, and at most 50 gwei are allowed.');
    expect(anchorProblem('en', 'nonce_taken', all)).toMatch(/nonce 0 of 0xac/);
    expect(anchorProblem('zh-CN', 'too_few_endpoints', all)).toMatch(/3 个.*2 个.*one\.example, two\.example/);
  });
  test('a code that is not known has none', () => {
    for (const code of [undefined, 'new_case', 'toString', '__proto__']) expect(anchorProblem('en', code, all)).toBeUndefined();
  });
  test('prices of gas', () => {
    expect([gwei('1'), gwei('1000000000'), gwei('12345678901'), gwei('1e3')]).toEqual(['0.000000001 gwei', '1 gwei', '12.345678901 gwei', '1e3']);
  });
});
