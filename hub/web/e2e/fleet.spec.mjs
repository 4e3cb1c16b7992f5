import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { assertAccessible, assertNotWide, base, eventually, launch, open, openFleet, rowCount, signedIn, skip } from './page.mjs';

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
  // These columns of all rows in the document, read at one moment: between two the rows change.
  const columns = async (page, ...names) => {
    const { headers, rows } = await page.getByRole('grid').evaluate((grid) => ({
      headers: [...grid.querySelectorAll('th')].map((h) => h.innerText.trim()),
      rows: [...grid.querySelectorAll('tbody tr[role=row]')].map((r) => [...r.cells].map((c) => c.innerText.trim())),
    }));
    const indices = names.map((name) => {
      const index = headers.findIndex((h) => h.startsWith(name));
      assert.ok(index >= 0, `no column ${name} in ${headers.join(', ')}`);
      return index;
    });
    return rows.map((r) => indices.map((i) => r[i]));
  };
  // A rate as a number; unknown is null.
  const rateOf = (s) => (s.startsWith('—') ? null : Number(s.replace(/,/g, '').replace(' TH/s', '')));
  const rates = async (page) => (await columns(page, 'Hashrate')).map(([s]) => rateOf(s));
  // Miners that have never answered may come to the hub later than the others.
  const showsAll = ({ page, context }, what) =>
    eventually(async () => {
      const { count } = await (await context.request.get(`${base}/api/miners?limit=1`)).json();
      const shown = await rowCount(page);
      return (count > 0 && shown === count) || `${shown} rows for ${count} miners`;
    }, what);

  await t.test('shows as many miners as the API counts, with few rows in the document', async () => {
    const { page, context, wrong } = await fleet();
    await showsAll({ page, context }, 'a row for each miner');
    assert.ok((await page.locator('tr').count()) <= 60, 'more than 60 rows in the document');
    await page.getByRole('grid').focus();
    await page.keyboard.press('End');
    // The last of the rows that there are now: when a miner has come meanwhile, End is pressed again.
    await eventually(async () => {
      const [last, all] = await page.getByRole('grid').evaluate((grid) => [[...grid.querySelectorAll('tbody tr[role=row]')].at(-1)?.ariaRowIndex, grid.ariaRowCount]);
      if (last !== all) await page.keyboard.press('End');
      return last === all || { last, all };
    }, 'the last row is reached');
    assert.ok((await page.locator('tr').count()) <= 60, 'more than 60 rows in the document at the end');
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('keeps ages current, and brings new samples by itself', async () => {
    const { page, context } = await fleet('?age=fresh&state=hashing');
    await bodyRows(page).first().waitFor();
    const href = await bodyRows(page).first().locator('a').getAttribute('href');
    // Alone, and whatever becomes of it: the filter above would take it away once it is not fresh.
    await openFleet(page, `?q=${href.split('/').at(-1)}`);
    const age = async () => {
      const text = (await page.locator(`tr:has(a[href="${href}"]) td .age`).first().innerText()).trim();
      const m = /^(\d+) (s|min)/.exec(text);
      return m ? Number(m[1]) * (m[2] === 'min' ? 60 : 1) : null;
    };
    const seen = [];
    await eventually(async () => {
      const now = await age();
      if (now !== null && now !== seen.at(-1)) seen.push(now);
      const grew = seen.some((s, i) => i > 0 && s > seen[i - 1]);
      const renewed = seen.some((s, i) => i > 0 && s < seen[i - 1]);
      return (grew && renewed) || seen;
    }, 'the age grows each second and starts again with a new sample', 150_000);
    await context.close();
  });

  await t.test('filters, puts the filter into the address, and goes back', async () => {
    const { page, context } = await fleet();
    await page.getByRole('button', { name: /^Hashing/ }).click();
    await eventually(() => new URL(page.url()).searchParams.get('state') === 'hashing', 'the address names the state');
    // The table follows the address a moment later, and a row that changes its state stays until the next sorting.
    await eventually(async () => {
      const states = [...new Set((await columns(page, 'State')).map(([s]) => s.split(/\s/)[0]))];
      return (states.length === 1 && states[0] === 'Hashing') || states;
    }, 'only hashing miners are shown');
    await page.goBack();
    await showsAll({ page, context }, 'the back button shows all again');

    await page.getByRole('searchbox').fill('no miner is called this');
    await page.getByText('No miner matches these filters.').waitFor();
    await page.getByRole('group', { name: /^0 of \d/ }).waitFor();
    await page.getByRole('button', { name: 'Clear filters' }).first().click();
    await showsAll({ page, context }, 'cleared filters show all again');
    await page.waitForURL((u) => u.search === '');
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
    await page.waitForURL((u) => u.searchParams.get('sort') === '-hashrate');
    await header.getByRole('button').click();
    await eventually(async () => (await header.getAttribute('aria-sort')) === 'ascending', 'aria-sort says ascending');
    await eventually(async () => {
      const list = await rates(page);
      return (known(list).length > 1 && ordered(known(list), 1) && list[0] !== null) || list;
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
    // The active row is told to screen readers, and it is the one that is marked.
    let href;
    await eventually(async () => {
      const seen = await page.getByRole('grid').evaluate((grid) => {
        const row = document.getElementById(grid.getAttribute('aria-activedescendant'));
        return row && { index: row.ariaRowIndex, selected: row.ariaSelected, href: row.querySelector('a').getAttribute('href') };
      });
      href = seen?.href;
      return (seen?.index === '3' && seen.selected === 'true') || seen;
    }, 'the second miner is the active one');
    await page.keyboard.press('Enter');
    await page.waitForURL((u) => u.pathname === href);
    await page.goBack();
    await page.getByRole('grid').waitFor();
    await context.close();
  });

  await t.test('says what is unknown and never shows it as zero', async () => {
    const { page, context } = await fleet('?state=unknown');
    // A miner may answer without telling its state; those that did not answer are the ones with a reason.
    let shown;
    await eventually(async () => {
      shown = (await columns(page, 'State', 'Hashrate')).filter(([s]) => /answered (\d|in)|never answered/.test(s) && !/answered in part/.test(s));
      const { items } = await (await context.request.get(`${base}/api/miners?state=unknown&limit=100`)).json();
      const failed = items.filter((m) => m.outcome !== 'ok' && m.outcome !== 'partial').length;
      return failed === 0 || shown.length > 0 || `${failed} miners give no answer, and none of the rows says why`;
    }, 'rows of miners without an answer say why');
    for (const [state, rate] of shown) assert.equal(rateOf(rate), null, `${state}: a miner without an answer shows a rate`);
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
    await assertNotWide(page, 'fleet on a phone');
    await assertAccessible(page, 'fleet on a phone');
    await context.close();
  });
});
