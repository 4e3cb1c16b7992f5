// A large fleet must stay smooth. It is measured only where there is one: start the simulator with
// 10,000 miners.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { base, launch, open, openFleet, rowCount, signedIn, skip } from './page.mjs';

const least = 5_000; // miners
const watchMs = 30_000;
const longestTask = 100; // ms

test('a large fleet', { skip }, async (t) => {
  let browser;
  let storageState;
  before(async () => {
    browser = await launch();
    storageState = await signedIn(browser);
  });
  after(() => browser?.close());

  await t.test('has no task over 100 ms in 30 s of updates, and few rows', async (t) => {
    const { page, context } = await open(browser, { storageState });
    const begun = Date.now();
    await openFleet(page, '?sort=-hashrate');
    await page.locator('tbody tr[role=row]').first().waitFor();
    const readyMs = Date.now() - begun;
    const miners = await rowCount(page);
    if (miners < least) {
      t.skip(`${base} has ${miners} miners; this needs ${least}`);
      await context.close();
      return;
    }
    await page.evaluate(() => {
      window.longTasks = [];
      new PerformanceObserver((list) => {
        for (const e of list.getEntries()) window.longTasks.push(Math.round(e.duration));
      }).observe({ type: 'longtask' });
    });
    const end = Date.now() + watchMs;
    let most = 0;
    while (Date.now() < end) {
      await page.getByRole('grid').evaluate((grid) => grid.scrollBy(0, 900));
      most = Math.max(most, await page.locator('tr').count());
      await page.waitForTimeout(1_000);
    }
    const tasks = await page.evaluate(() => window.longTasks);
    t.diagnostic(`${miners} miners: first rows after ${readyMs} ms, ${tasks.length} tasks over 50 ms, longest ${Math.max(0, ...tasks)} ms, at most ${most} rows`);
    assert.ok(most <= 60, `${most} rows in the document`);
    assert.ok(Math.max(0, ...tasks) <= longestTask, `tasks of ${tasks.join(', ')} ms`);
    await context.close();
  });
});
