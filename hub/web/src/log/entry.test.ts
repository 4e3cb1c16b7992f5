import { describe, expect, it } from 'vitest';
import type { LogEntry } from '../api/types';
import { logEn } from '../text/log.en';
import { logZhCN } from '../text/log.zh-CN';
import { entryKinds, parseKind, subjectOf } from './entry';
import { fileName } from './file-name';
import { hourProofPath } from './hour-proof';

const site = (id: string) => (id === 'aaaa' ? 'North' : id.slice(0, 8));
const entry = (e: Partial<LogEntry>): LogEntry => ({ index: 7, kind: 'hour', at: '2026-11-27T00:00:00Z', leaf_hash: '00', bytes: '', ...e });

describe('an entry in one line', () => {
  it.each([
    [{ kind: 'hour', site_id: 'aaaa', hour: '2026-11-26T23:00:00Z', leaves: 1 }, 'North, 2026-11-26 23:00–00:00 UTC, 1 miner'],
    [{ kind: 'site_key', site_id: 'aaaa', event: 'retired' }, 'A key of North has ended'],
    [{ kind: 'hub_key', role: 'checkpoint', event: 'added' }, 'The key that signs checkpoints counts from here on'],
    [{ kind: 'hub_key', role: 'evidence', event: 'added' }, 'The key that signs statements counts from here on'],
    [{ kind: 'terms', contract_id: '0123456789', version: 3 }, 'Contract 01234567, version 3'],
    [{ kind: 'restatement', contract_id: '0123456789', month: '2026-11', seq: 2, supersedes: 'fedcba9876' }, 'Contract 01234567, 2026-11, number 2, in place of fedcba98'],
    [{ kind: 'audit_head', seq: 1234 }, 'Head after audited entry 1,234'],
    [{ kind: 'hour', site_id: 'aaaa' }, logEn.subject.unknown],
    [{ kind: 'of a later hub' as LogEntry['kind'] }, logEn.subject.unknown],
  ] satisfies [Partial<LogEntry>, string][])('%j', (e, want) => {
    expect(subjectOf(entry(e), logEn, site)).toBe(want);
  });

  it('has a name for every kind, in both languages', () => {
    for (const k of entryKinds) {
      expect(logEn.kinds[k], k).toBeTruthy();
      expect(logZhCN.kinds[k], k).toBeTruthy();
    }
  });
});

it('takes the kind from the address, and nothing else', () => {
  expect(parseKind('?kind=excuse')).toBe('excuse');
  expect(parseKind('?kind=%3Cb%3E')).toBeUndefined();
  expect(parseKind('')).toBeUndefined();
});

it('names a file as the hub does, and never as a path', () => {
  expect(fileName('attachment; filename="entry-7.hsproof"')).toBe('entry-7.hsproof');
  expect(fileName('attachment; filename="../x.hsproof"')).toBe('proof.hsproof');
  expect(fileName('attachment; filename="x.exe"')).toBe('proof.hsproof');
  expect(fileName(null)).toBe('proof.hsproof');
});

it('asks for the hour that a slot is of', () => {
  const at = Date.parse('2026-11-26T10:55:00Z');
  expect(hourProofPath('s', 'm/1', at, undefined)).toBe(`/api/proofs/hours/s/m%2F1/${Date.parse('2026-11-26T10:00:00Z') / 3_600_000}`);
  expect(hourProofPath('s', 'm', at, 'c d')).toMatch(/\?spool_id=c%20d$/);
});
