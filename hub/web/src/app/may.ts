// What the signed-in key may do. The page shows nothing that the hub would refuse; the hub decides all the same.
import { useCallback } from 'react';
import { useSession } from './queries';

/** Permissions that the page asks for, as the hub names them. */
export type Permission =
  | 'agents:read'
  | 'apikeys:read'
  | 'apikeys:write'
  | 'audit:read'
  | 'certificates:read'
  | 'contracts:read'
  | 'contracts:write'
  | 'customers:read'
  | 'customers:write'
  | 'disputes:read'
  | 'excuses:write'
  | 'miners:read'
  | 'peers:read'
  | 'peers:write'
  | 'ratelimits:write'
  | 'sites:read'
  | 'sites:revoke'
  | 'sites:write'
  | 'sla:read'
  | 'statements:read'
  | 'statements:write';

export function useMay(): (p: Permission) => boolean {
  const held = useSession().data?.permissions;
  return useCallback((p) => held?.includes(p) ?? false, [held]);
}
