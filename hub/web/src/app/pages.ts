// Lists that the hub gives out page by page.

export interface Page<T> {
  items: T[];
  next?: string;
}

/** Reads page after page until the last, until enough says so of what was read last, or until there are max pages. */
export async function allPages<T, P extends Page<T>>(
  load: (cursor: string | undefined) => Promise<P>,
  max: number,
  enough: (last: T) => boolean = () => false,
): Promise<{ items: T[]; first: P; more: boolean }> {
  const first = await load(undefined);
  const items = [...first.items];
  let next = first.next;
  for (let n = 1; next; n++) {
    const last = items.at(-1);
    if (last === undefined || enough(last)) return { items, first, more: false };
    if (n >= max) return { items, first, more: true };
    const page = await load(next);
    items.push(...page.items);
    next = page.next;
  }
  return { items, first, more: false };
}
