import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertAccessible, base, eventually, launch, open, openFleet, rowCount, signedIn, skip } from './page.mjs';

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
    const link = opened.page.locator('tbody a').first();
    await link.waitFor();
    await link.click();
    await opened.page.getByRole('heading', { name: 'Readings' }).waitFor();
    return opened;
  };

  await t.test('shows readings with ages, boards, pools and drawn charts', async () => {
    const { page, context, wrong } = await openFirst('?state=hashing&age=fresh');
    assert.match(await page.locator('.reading-main').first().innerText(), /Hashrate\s+[\d.,]+ TH\/s/);
    const readings = await page.locator('.reading:has(.value)').count();
    assert.ok(readings > 3, `only ${readings} readings`);
    assert.equal(await page.locator('.reading:has(.value) .reading-age').count(), readings, 'a reading without an age');
    await page.getByRole('heading', { name: 'Boards', exact: true }).waitFor();
    await page.getByRole('heading', { name: 'Pools', exact: true }).waitFor();
    await page.getByRole('button', { name: '1 hour' }).click();
    assert.equal(new URL(page.url()).searchParams.get('range'), '1h');
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
      60_000,
    );
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('gives each chart in words and as a table', async () => {
    const { page, context } = await openFirst('?state=hashing&age=fresh');
    const chart = page.locator('figure').filter({ hasText: 'Hashrate' }).first();
    await chart.locator('.chart-summary').filter({ hasText: /newest [\d.,]+ TH\/s/ }).waitFor({ timeout: 60_000 });
    await chart.getByRole('button', { name: 'Show as table' }).click();
    const cells = await chart.getByRole('cell').allInnerTexts();
    assert.ok(cells.some((c) => /TH\/s$/.test(c)), 'the table holds no rate');
    await context.close();
  });

  await t.test('draws a line for each board and each pool', async () => {
    const { page, context, wrong } = await openFirst('?state=hashing&age=fresh&q=S19');
    const id = new URL(page.url()).pathname.split('/').at(-1);
    const { boards } = await (await context.request.get(`${base}/api/miners/${id}`)).json();
    assert.ok(boards.length > 1, 'the miner reports no boards');
    await page.getByRole('button', { name: '1 hour' }).click();
    const chart = page.locator('figure').filter({ has: page.getByRole('heading', { name: 'Hashrate by board' }) });
    await chart.locator('canvas').waitFor({ timeout: 60_000 });
    assert.deepEqual(await chart.locator('.legend-name').allInnerTexts(), boards.map((b) => `Board ${b.index}`));
    await chart.getByRole('button', { name: 'Show as table' }).click();
    assert.ok((await chart.getByRole('cell').allInnerTexts()).some((c) => /TH\/s$/.test(c)), 'the table holds no rate of a board');
    const alive = page.locator('figure').filter({ has: page.getByRole('heading', { name: 'Polls that found the pool alive' }) });
    await alive.locator('.chart-summary').filter({ hasText: /newest 100\.0 %/ }).waitFor();
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('says why there is no answer, and shows no old readings', async () => {
    const { page, context } = await open(browser, { storageState });
    await openFleet(page, '?state=unknown');
    const silent = page.locator('tbody tr:has(.cell-why)').filter({ hasNotText: 'answered in part' });
    if ((await silent.count()) > 0) {
      await silent.first().locator('a').click();
      await page.getByRole('heading', { name: 'Readings' }).waitFor();
      await page.getByText('Last answer:').waitFor();
      assert.doesNotMatch(await page.locator('.readings').innerText(), /TH\/s/);
    }
    await context.close();
  });

  await t.test(`a pool user that is ${markup} is text`, async () => {
    const { page, context, wrong } = await open(browser, { storageState });
    await openFleet(page, `?q=${encodeURIComponent(markup)}&cols=address,worker,age`);
    assert.ok((await rowCount(page)) > 0, `no miner has the pool user ${markup}: let the simulator serve one`);
    const cell = page.locator('tbody tr[role=row]').first();
    assert.ok((await cell.innerText()).includes(markup));
    await cell.locator('a').first().click();
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
      await page.locator('.history-parts canvas').first().waitFor({ timeout: 60_000 });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(wide <= 0, `the page is ${wide} px too wide`);
      await assertAccessible(page, `miner, ${name}`);
      await context.close();
    });
  }
});
