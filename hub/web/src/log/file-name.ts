/** The name that the hub gives a proof file; of anything that is not one, a plain one. */
export function fileName(disposition: string | null): string {
  return /filename="([A-Za-z0-9][A-Za-z0-9._-]{0,120}\.hsproof)"/.exec(disposition ?? '')?.[1] ?? 'proof.hsproof';
}
