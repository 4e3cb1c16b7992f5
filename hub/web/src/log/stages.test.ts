import { expect, it } from 'vitest';
import type { AnchorStatus } from '../api/types';
import { logEn } from '../text/log.en';
import { logZhCN } from '../text/log.zh-CN';
import { anchorStages, proofStages, wayOf } from './stages';

const states = (stages: readonly string[], state: string) => wayOf(stages, state).steps.map((s) => s.state[0]).join('');

it.each([
  ['built', 'nooooo', undefined],
  ['sent', 'ddnooo', undefined],
  ['safe', 'ddddno', undefined],
  ['finalized', 'dddddd', undefined],
  ['orphaned', 'dddooo', 'orphaned'],
  ['failed', 'dddooo', 'failed'],
  ['vanished', 'dddooo', 'vanished'],
  ['of a later hub', 'oooooo', 'of a later hub'],
])('an anchor that is %s', (state, steps, off) => {
  expect(states(anchorStages, state)).toBe(steps);
  expect(wayOf(anchorStages, state).off).toBe(off);
});

it('a statement that is not anchored here has come to its checkpoint, and no further', () => {
  expect(states(proofStages, 'not_anchored')).toBe('dddoooo');
});

it('has words for every state, in both languages', () => {
  const anchored: NonNullable<AnchorStatus['newest']>['state'][] = ['built', 'signed', 'sent', 'mined', 'safe', 'finalized', 'orphaned', 'failed', 'vanished'];
  for (const s of [...anchored, ...proofStages, 'not_anchored']) {
    for (const t of [logEn.stage, logZhCN.stage]) {
      expect(t.words[s], s).toBeTruthy();
      expect(t.means[s], s).toBeTruthy();
    }
  }
  expect(Object.keys(logZhCN.anchors.why)).toEqual(Object.keys(logEn.anchors.why));
});
