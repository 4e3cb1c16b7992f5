import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertAccessible, base, eventually, launch, open, openFleet, rowCount, signedIn, skip } from './page.mjs';

test('the fleet', { skip }, async (t) => {
  let browser;
  let storageState;
  before(async () => {
    browser = await launch();
    storageState = await signedIn(browser);
  });
  after(() => browser?.close());

  const fleet = async (query = '', options = {}) => {
    const opened = await open(browser, { storageState, ...options });
    await openFleet(opened.page, query);
    return opened;
  };
  const bodyRows = (page) => page.locator('tbody tr[role=row]');
  const column = async (page, name) => {
    const headers = await page.getByRole('columnheader').allInnerTexts();
    const index = headers.findIndex((h) => h.trim().startsWith(name));
    assert.ok(index >= 0, `no column ${name} in ${headers.join(', ')}`);
    return (await bodyRows(page).locator(`td:nth-child(${index + 1})`).allInnerTexts()).map((s) => s.trim());
  };
  // Rates as numbers; unknown is null.
  const rates = async (page) =>
    (await column(page, 'Hashrate')).map((s) => (s.startsWith('—') ? null : Number(s.replace(/,/g, '').replace(' TH/s', ''))));

  await t.test('shows as many miners as the API counts, with few rows in the document', async () => {
    const { page, context, wrong } = await fleet();
    const api = await (await context.request.get(`${base}/api/miners?limit=1`)).json();
    assert.ok(api.count > 0, 'the hub has no miners');
    assert.equal(await rowCount(page), api.count);
    assert.ok((await page.locator('tr').count()) <= 60, 'more than 60 rows in the document');
    await page.getByRole('grid').focus();
    await page.keyboard.press('End');
    await eventually(
      async () => (await bodyRows(page).last().getAttribute('aria-rowindex')) === String(api.count + 1),
      'the last row is reached',
    );
    assert.ok((await page.locator('tr').count()) <= 60, 'more than 60 rows in the document at the end');
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('keeps ages current, and brings new samples by itself', async () => {
    const { page, context } = await fleet('?age=fresh&state=hashing');
    await eventually(async () => (await bodyRows(page).count()) > 0, 'a fresh miner is shown');
    const row = bodyRows(page).first();
    const id = await row.locator('a').getAttribute('href');
    const age = async () => {
      const text = (await page.locator(`tr:has(a[href="${id}"]) td .age`).first().innerText()).trim();
      const m = /^(\d+) (s|min)/.exec(text);
      return m ? Number(m[1]) * (m[2] === 'min' ? 60 : 1) : null;
    };
    const seen = [await age()];
    await eventually(async () => {
      const now = await age();
      if (now !== seen.at(-1)) seen.push(now);
      const grew = seen.some((s, i) => i > 0 && s > seen[i - 1]);
      const renewed = seen.some((s, i) => i > 0 && s < seen[i - 1]);
      return (grew && renewed) || seen;
    }, 'the age grows each second and starts again with a new sample', 150_000);
    await context.close();
  });

  await t.test('filters, puts the filter into the address, and goes back', async () => {
    const { page, context } = await fleet();
    const all = await rowCount(page);
    await page.getByRole('button', { name: /^Hashing/ }).click();
    await eventually(() => new URL(page.url()).searchParams.get('state') === 'hashing', 'the address names the state');
    // The table follows the address a moment later, and a row that changes its state stays until the next sorting.
    await eventually(async () => {
      const states = [...new Set((await column(page, 'State')).map((s) => s.split(/\s/)[0]))];
      return (states.length === 1 && states[0] === 'Hashing') || states;
    }, 'only hashing miners are shown');
    await page.goBack();
    await eventually(async () => (await rowCount(page)) === all, 'the back button shows all again');

    await page.getByRole('searchbox').fill('no miner is called this');
    await page.getByText('No miner matches these filters.').waitFor();
    await page.getByRole('group', { name: /of/ }).getByText(`0 of`).waitFor();
    await page.getByRole('button', { name: 'Clear filters' }).first().click();
    await eventually(async () => (await rowCount(page)) === all, 'cleared filters show all again');
    assert.equal(new URL(page.url()).search, '');
    await context.close();
  });

  await t.test('sorts by a column both ways, unknown always last', async () => {
    const { page, context } = await fleet();
    const header = page.getByRole('columnheader', { name: 'Hashrate' });
    await header.getByRole('button').click();
    await eventually(async () => (await header.getAttribute('aria-sort')) === 'descending', 'aria-sort says descending');
    const known = (list) => list.filter((r) => r !== null);
    // Values are patched in place between two sortings, so the order is asked for with some slack.
    const ordered = (list, sign) => list.every((r, i) => i === 0 || sign * (r - list[i - 1]) >= -0.1 * Math.max(r, list[i - 1]));
    await eventually(async () => {
      const list = await rates(page);
      return (known(list).length > 1 && ordered(known(list), -1) && list[0] !== null) || list;
    }, 'largest rate first');
    assert.equal(new URL(page.url()).searchParams.get('sort'), '-hashrate');
    await header.getByRole('button').click();
    await eventually(async () => (await header.getAttribute('aria-sort')) === 'ascending', 'aria-sort says ascending');
    await eventually(async () => {
      const list = await rates(page);
      return (ordered(known(list), 1) && list[0] !== null) || list;
    }, 'smallest rate first');
    await context.close();
  });

  await t.test('opens a shared address as it was', async () => {
    const { page, context } = await fleet('?state=hashing&sort=-power&cols=address,age,power');
    assert.deepEqual(
      (await page.getByRole('columnheader').allInnerTexts()).map((s) => s.trim().replace(/\s.*$/, '')),
      ['Address', 'Age', 'Power'],
    );
    assert.equal(await page.getByRole('columnheader', { name: 'Power' }).getAttribute('aria-sort'), 'descending');
    assert.equal(await page.getByRole('button', { name: /^Hashing/ }).getAttribute('aria-pressed'), 'true');
    await context.close();
  });

  await t.test('is used by keyboard alone', async () => {
    const { page, context } = await fleet();
    await page.getByRole('grid').focus();
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowDown');
    const active = await page.getByRole('grid').getAttribute('aria-activedescendant');
    const row = page.locator(`[id="${active}"]`);
    assert.equal(await row.getAttribute('aria-rowindex'), '3');
    const href = await row.locator('a').getAttribute('href');
    await page.keyboard.press('Enter');
    await eventually(() => new URL(page.url()).pathname === href, 'Enter opens the active miner');
    await page.goBack();
    await page.getByRole('grid').waitFor();
    await context.close();
  });

  await t.test('says what is unknown and never shows it as zero', async () => {
    const { page, context } = await fleet('?state=unknown');
    // A miner may answer without telling its state; those that did not answer are the ones with a reason.
    const [list, states] = [await rates(page), await column(page, 'State')];
    let silent = 0;
    states.forEach((s, i) => {
      if (!/answered (\d|in)|never answered/.test(s) || /answered in part/.test(s)) return;
      silent++;
      assert.equal(list[i], null, `${s}: a miner without an answer shows a rate`);
    });
    const { items } = await (await context.request.get(`${base}/api/miners?state=unknown&limit=100`)).json();
    const failed = items.filter((m) => m.outcome !== 'ok' && m.outcome !== 'partial').length;
    if (failed > 0) assert.ok(silent > 0, `${failed} miners give no answer, and none of the rows says why`);
    await context.close();
  });

  for (const scheme of ['light', 'dark']) {
    await t.test(`axe finds nothing serious (${scheme})`, async () => {
      const { page, context } = await fleet('', { colorScheme: scheme });
      await eventually(async () => (await bodyRows(page).count()) > 0, 'rows are shown');
      await assertAccessible(page, `fleet, ${scheme}`);
      await context.close();
    });
  }

  await t.test('fits a phone', async () => {
    const { page, context } = await fleet('', { viewport: { width: 390, height: 844 } });
    await eventually(async () => (await bodyRows(page).count()) > 0, 'rows are shown');
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(wide <= 0, `the page is ${wide} px too wide`);
    await assertAccessible(page, 'fleet on a phone');
    await context.close();
  });
});
