import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ask, assertAccessible, assertNotWide, base, eventually, launch, open, openFleet, rowCount, signedIn, skip } from './page.mjs';

const markup = '<script>alert(1)</script>';

test('one miner', { skip }, async (t) => {
  let browser;
  let storageState;
  before(async () => {
    browser = await launch();
    storageState = await signedIn(browser);
  });
  after(() => browser?.close());

  const openFirst = async (query, options = {}) => {
    const opened = await open(browser, { storageState, ...options });
    await openFleet(opened.page, query);
    await opened.page.locator('tbody a').first().click();
    await opened.page.waitForURL(/\/miners\/[^/]+$/);
    await opened.page.getByRole('heading', { name: 'Readings' }).waitFor();
    return opened;
  };
  const asTable = async (chart) => {
    await chart.getByRole('button', { name: 'Show as table' }).click();
    await chart.getByRole('cell', { name: /TH\/s$/ }).first().waitFor();
  };

  await t.test('shows readings with ages, boards, pools and drawn charts', async () => {
    const { page, context, wrong } = await openFirst('?state=hashing&age=fresh');
    // Each poll may bring other readings: all of them are read at one moment.
    const readings = () =>
      page.locator('.readings').evaluate((dl) =>
        [...dl.querySelectorAll('.reading')].filter((r) => r.querySelector('.value')).map((r) => ({ text: r.innerText, age: r.querySelector('.reading-age') !== null })),
      );
    let seen;
    await eventually(async () => {
      seen = await readings();
      return (seen.length > 3 && /^Hashrate\s+[\d.,]+ TH\/s/.test(seen[0].text)) || seen;
    }, 'the hashrate and other readings');
    assert.deepEqual(seen.filter((r) => !r.age), [], 'a reading without an age');
    await page.getByRole('heading', { name: 'Boards', exact: true }).waitFor();
    await page.getByRole('heading', { name: 'Pools', exact: true }).waitFor();
    await page.getByRole('button', { name: '1 hour' }).click();
    await page.waitForURL((u) => u.searchParams.get('range') === '1h');
    // Ink of the first line's colour on the canvas: the chart is not only there, it is drawn.
    await eventually(
      () =>
        page.evaluate(() => {
          const canvas = document.querySelector('.plot canvas');
          if (!canvas || canvas.width === 0) return 'no canvas';
          const colour = getComputedStyle(canvas).getPropertyValue('--chart-1').trim();
          const want = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
          const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          let ink = 0;
          for (let i = 0; i < data.length; i += 4) {
            if (data[i + 3] > 200 && want.every((w, k) => Math.abs(data[i + k] - w) < 24)) ink++;
          }
          return ink > 5 || `${ink} px of ink`;
        }),
      'the hashrate chart is drawn',
    );
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('gives each chart in words and as a table', async () => {
    const { page, context } = await openFirst('?state=hashing&age=fresh');
    const chart = page.locator('figure').filter({ hasText: 'Hashrate' }).first();
    await chart.locator('.chart-summary').filter({ hasText: /newest [\d.,]+ TH\/s/ }).waitFor();
    await asTable(chart);
    await context.close();
  });

  await t.test('draws a line for each board and each pool', async () => {
    const { page, context, wrong } = await openFirst('?state=hashing&age=fresh&q=S19');
    const id = new URL(page.url()).pathname.split('/').at(-1);
    await page.getByRole('button', { name: '1 hour' }).click();
    const chart = page.locator('figure').filter({ has: page.getByRole('heading', { name: 'Hashrate by board' }) });
    await chart.locator('canvas').waitFor();
    await eventually(async () => {
      const { boards } = await (await context.request.get(`${base}/api/miners/${id}`)).json();
      const [lines, want] = [await chart.locator('.legend-name').allInnerTexts(), boards.map((b) => `Board ${b.index}`)];
      return (want.length > 1 && lines.join() === want.join()) || { lines, want };
    }, 'a line for each board that the miner reports');
    await asTable(chart);
    const alive = page.locator('figure').filter({ has: page.getByRole('heading', { name: 'Polls that found the pool alive' }) });
    await alive.locator('.chart-summary').filter({ hasText: /newest 100\.0 %/ }).waitFor();
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('says why there is no answer, and shows no old readings', async () => {
    const { page, context } = await open(browser, { storageState });
    // One that never answered will hardly begin to while it is looked at.
    const { items } = await ask('GET', '/api/miners?state=unknown&limit=100');
    const failed = items.filter((m) => m.outcome !== 'ok' && m.outcome !== 'partial');
    const silent = failed.find((m) => !m.last_answer_at) ?? failed[0];
    if (silent) {
      await openFleet(page, `?q=${silent.id}`);
      await page.locator('tbody tr:has(.cell-why) a').click();
      await page.getByText('Last answer:').waitFor();
      await eventually(async () => {
        const text = await page.locator('.readings').innerText();
        return !/TH\/s/.test(text) || text;
      }, 'no old rate is shown');
    }
    await context.close();
  });

  await t.test(`a pool user that is ${markup} is text`, async () => {
    const { page, context, wrong } = await open(browser, { storageState });
    await openFleet(page, `?q=${encodeURIComponent(markup)}&cols=address,worker,age`);
    await eventually(async () => (await rowCount(page)) > 0, `a miner has the pool user ${markup}, as the simulator serves one`);
    const row = page.locator('tbody tr[role=row]').filter({ hasText: markup }).first();
    await row.locator('a').first().click();
    await page.getByRole('heading', { name: 'Pools', exact: true }).waitFor();
    await page.locator('.text-cell', { hasText: markup }).first().waitFor();
    const inline = await page.evaluate(() => [...document.scripts].filter((s) => !s.src).length);
    assert.equal(inline, 0, 'the page holds a script element without a source');
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('an unknown miner is said to be unknown', async () => {
    const { page, context } = await open(browser, { storageState });
    await page.goto(`${base}/miners/00000000-0000-4000-8000-000000000000`);
    await page.getByText('This hub knows no such miner.').waitFor();
    await context.close();
  });

  for (const [name, options] of [
    ['light', { colorScheme: 'light' }],
    ['dark', { colorScheme: 'dark' }],
    ['on a phone', { viewport: { width: 390, height: 844 } }],
  ]) {
    await t.test(`axe finds nothing serious (${name})`, async () => {
      const { page, context } = await openFirst('?state=hashing', options);
      await page.locator('.history-parts canvas').first().waitFor();
      await assertNotWide(page, `miner, ${name}`);
      await assertAccessible(page, `miner, ${name}`);
      await context.close();
    });
  }
});
