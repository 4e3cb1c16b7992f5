// What the reader gives beside the file, read strictly.
import { unhex } from './bytes';

const maxEndpoints = 5;

/** A contract's address, undefined for none, 'bad' for what is neither. */
export function readContract(s: string): Uint8Array | undefined | 'bad' {
  const text = s.trim();
  if (text === '') return undefined;
  return /^0x[0-9a-fA-F]{40}$/.test(text) ? unhex(text) : 'bad';
}

/** Endpoints, one a line, one for each host: paths and keys of one host are one witness. What the page's policy lets no one ask is named. */
export function readEndpoints(s: string): { readonly urls: readonly string[] } | { readonly bad: string } | 'too many' {
  const lines = s.split(/\s+/).filter((l) => l !== '');
  const urls = new Map<string, string>();
  for (const l of lines) {
    const u = URL.canParse(l) ? new URL(l) : undefined;
    const local = u?.protocol === 'http:' && (u.hostname === '127.0.0.1' || u.hostname === 'localhost');
    // Names and passwords in addresses are refused by fetch.
    if (u === undefined || !(u.protocol === 'https:' || local) || u.username !== '' || u.password !== '') return { bad: l.slice(0, 100) };
    const host = u.host.replace(/\.(?=$|:)/, '');
    if (!urls.has(host)) urls.set(host, l);
  }
  return urls.size > maxEndpoints ? 'too many' : { urls: [...urls.values()] };
}
