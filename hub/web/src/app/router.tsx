// The address bar as state: a path and a query, changed by links and by code, followed by the back button.
import { useSyncExternalStore, type AnchorHTMLAttributes, type MouseEvent } from 'react';

const changed = 'hsi:navigated';

function subscribe(listener: () => void): () => void {
  window.addEventListener('popstate', listener);
  window.addEventListener(changed, listener);
  return () => {
    window.removeEventListener('popstate', listener);
    window.removeEventListener(changed, listener);
  };
}

export function navigate(to: string, how: 'push' | 'replace' = 'push'): void {
  if (how === 'push') history.pushState(null, '', to);
  else history.replaceState(null, '', to);
  window.dispatchEvent(new Event(changed));
}

export const usePath = (): string => useSyncExternalStore(subscribe, () => location.pathname);
export const useSearch = (): string => useSyncExternalStore(subscribe, () => location.search);

export const minerPath = (id: string): string => `/miners/${encodeURIComponent(id)}`;

export const contractParts = ['sla', 'slots', 'miners', 'terms', 'statements'] as const;
export type ContractPart = (typeof contractParts)[number];

export const contractPath = (id: string, part: ContractPart = 'sla'): string => `/contracts/${encodeURIComponent(id)}${part === 'sla' ? '' : `/${part}`}`;
export const statementPath = (hash: string): string => `/statements/${encodeURIComponent(hash)}`;

export type Route =
  | { page: (typeof plain)[number] }
  | { page: 'miner'; id: string }
  | { page: 'contract'; id: string; part: ContractPart }
  | { page: 'statement'; hash: string }
  | { page: 'unknown' };

const plain = ['sites', 'fleet', 'keys', 'audit', 'contracts', 'customers', 'excuses', 'statements', 'disputes', 'log', 'anchors'] as const;

export function parseRoute(path: string): Route {
  const parts: string[] = [];
  try {
    for (const p of path.split('/')) if (p !== '') parts.push(decodeURIComponent(p));
  } catch {
    return { page: 'unknown' }; // a broken escape
  }
  const [area = 'sites', id, part = 'sla', ...more] = parts;
  if (id === undefined) {
    const page = plain.find((p) => p === area);
    return page === undefined ? { page: 'unknown' } : { page };
  }
  if (area === 'contracts' && more.length === 0) {
    const known = contractParts.find((p) => p === part);
    if (known !== undefined) return { page: 'contract', id, part: known };
  }
  if (parts.length === 2 && area === 'miners') return { page: 'miner', id };
  if (parts.length === 2 && area === 'statements') return { page: 'statement', hash: id };
  return { page: 'unknown' };
}

/** A link that changes the page without loading it again; with a modifier key it is an ordinary link. */
export function Link({ to, onClick, children, ...rest }: { to: string } & Omit<AnchorHTMLAttributes<HTMLAnchorElement>, 'href'>) {
  const click = (e: MouseEvent<HTMLAnchorElement>) => {
    onClick?.(e);
    if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    e.preventDefault();
    navigate(to);
  };
  return (
    <a href={to} onClick={click} {...rest}>
      {children}
    </a>
  );
}
