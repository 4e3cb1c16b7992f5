import { expect, it } from 'vitest';
import { allPages } from './pages';

const lists = (...all: number[][]) => {
  const asked: (string | undefined)[] = [];
  const load = (cursor: string | undefined) => {
    asked.push(cursor);
    const at = Number(cursor ?? '0');
    return Promise.resolve({ items: all[at] ?? [], ...(at + 1 < all.length ? { next: String(at + 1) } : {}) });
  };
  return { load, asked };
};

it('reads to the last page and no further', async () => {
  const { load, asked } = lists([1, 2], [3], [4]);
  expect(await allPages<number, { items: number[]; next?: string }>(load, 10)).toMatchObject({ items: [1, 2, 3, 4], more: false });
  expect(asked).toEqual([undefined, '1', '2']);
});

it('stops where the rest is of no interest', async () => {
  const { load, asked } = lists([9, 8], [7], [6]);
  const got = await allPages<number, { items: number[]; next?: string }>(load, 10, (n) => n <= 7);
  expect(got).toMatchObject({ items: [9, 8, 7], more: false });
  expect(asked).toHaveLength(2);
});

it('never asks without end, and says that there is more', async () => {
  const endless = () => Promise.resolve({ items: [1], next: 'again' });
  expect(await allPages<number, { items: number[]; next?: string }>(endless, 3)).toMatchObject({ items: [1, 1, 1], more: true });
  const empty = () => Promise.resolve({ items: [], next: 'again' });
  expect(await allPages<number, { items: number[]; next?: string }>(empty, 3)).toMatchObject({ items: [], more: false });
});
