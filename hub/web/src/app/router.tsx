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

export type Route =
  | { page: 'sites' }
  | { page: 'fleet' }
  | { page: 'keys' }
  | { page: 'audit' }
  | { page: 'miner'; id: string }
  | { page: 'unknown' };

export function parseRoute(path: string): Route {
  const parts = path.split('/').filter(Boolean);
  if (parts.length === 0 || (parts.length === 1 && parts[0] === 'sites')) return { page: 'sites' };
  if (parts.length === 1 && (parts[0] === 'fleet' || parts[0] === 'keys' || parts[0] === 'audit')) return { page: parts[0] };
  if (parts.length === 2 && parts[0] === 'miners' && parts[1]) {
    try {
      return { page: 'miner', id: decodeURIComponent(parts[1]) };
    } catch {
      return { page: 'unknown' }; // a broken escape
    }
  }
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
