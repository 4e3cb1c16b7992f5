// What is said of a key at a glance, and who may decide about it.
import type { ApiKey } from '../api/types';

const day = 24 * 3_600_000; // ms

/** revoked and expired keys have ended; ends3 and ends14 end within that many days; old ones should be replaced. */
export type KeyMark = 'revoked' | 'expired' | 'ends3' | 'ends14' | 'old';

export function keyMarks(key: Pick<ApiKey, 'state' | 'old' | 'expires_at'>, nowMs: number): KeyMark[] {
  if (key.state === 'revoked') return ['revoked'];
  const end = key.expires_at ? Date.parse(key.expires_at) : null;
  if (key.state === 'expired' || (end !== null && end <= nowMs)) return ['expired'];
  const marks: KeyMark[] = [];
  if (end !== null && end - nowMs <= 3 * day) marks.push('ends3');
  else if (key.state === 'expiring' || (end !== null && end - nowMs <= 14 * day)) marks.push('ends14');
  if (key.old) marks.push('old');
  return marks;
}

export const hasEnded = (marks: readonly KeyMark[]): boolean => marks[0] === 'revoked' || marks[0] === 'expired';

/** Whether who holds these permissions may copy or end a key with those: the hub lets nobody decide about more than they hold. */
export function covers(held: readonly string[], isOwner: boolean, permissions: readonly string[]): boolean {
  return isOwner || permissions.every((p) => p !== 'owner' && held.includes(p));
}
