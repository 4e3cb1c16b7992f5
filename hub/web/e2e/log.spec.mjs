// The transparency log and its anchors on the page: what the hub recorded when it was set up is there within seconds, whether it anchors or not.
// States of anchors that do not come about in a short run are answers put in the hub's place.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { ask, assertAccessible, assertFits, base, eventually, launch, looks, open, signedIn, skip } from './page.mjs';

const markup = '<img src=x onerror=alert(1)>';

const words = {
  'en-US': { title: /Transparency log/, kind: 'Kind', hubKey: 'Key of the hub', entry: /^Entry \d/, file: 'Download its proof file', saved: /^Saved as entry-\d+\.hsproof/, leads: /to the root of the log of/, anchors: 'Anchors', log: 'Log', refused: 'The fee was above the limit.', problem: 'Gas costs 51.5 gwei, and at most 50 gwei are allowed.', gone: /Was final, is gone/, none: /anchors none of them/ },
  'zh-CN': { title: /透明日志/, kind: '类别', hubKey: '中心密钥', entry: /^条目 \d/, file: '下载其证明文件', saved: /^已保存为 entry-\d+\.hsproof/, leads: /日志的根/, anchors: '锚定', log: '日志', refused: '费用超过上限。', problem: 'Gas 价格为 51.5 gwei，上限为 50 gwei。', gone: /曾为最终，现已消失/, none: /不作锚定/ },
};

const hash = (c) => c.repeat(64).slice(0, 64);
const anchor = (seq, state, more = {}) => ({
  chain_id: 31337, contract: `0x${'ab'.repeat(20)}`, seq, state, hour: '2026-11-27T00:00:00Z', size: 10 + seq, root: hash('a1'), prev_root: hash('b2'), built_at: '2026-11-27T00:00:01Z', due_at: '2026-11-27T00:00:00Z', ...more,
});
const anchors = [anchor(3, 'sent', { late_reason: 'fee', tx_hash: `0x${hash('c3')}` }), anchor(2, 'vanished', { vanished: 1 }), anchor(1, 'finalized', { late_reason: markup, block_number: 7, block_time: '2026-11-27T00:00:09Z' })];
const status = {
  driver: 'log-contract', network: markup, chain_id: 31337, contract: anchors[0].contract, account: `0x${'cd'.repeat(20)}`, endpoints: 1, interval_s: 3600, log_size: 13, overdue: true, vanished: 1,
  newest: anchors[0], last: anchors[2], problem: { code: 'fee', problem_code: 'fee_above_ceiling', params: { fee_wei: '51500000000', ceiling_wei: '50000000000' }, text: `Raise it ${markup}` }, problem_since: '2026-11-27T00:01:00Z',
};

test('the log and its anchors', { skip }, async (t) => {
  let browser;
  let storageState;
  before(async () => {
    browser = await launch();
    storageState = await signedIn(browser);
    await eventually(async () => (await ask('GET', '/api/log/entries?kind=hub_key')).items.length > 0 && (await ask('GET', '/api/log/checkpoint')).size > 0, 'the hub has logged its keys');
  });
  after(() => browser?.close());

  const at = async (path, options) => {
    const opened = await open(browser, { storageState, ...options });
    await opened.page.goto(`${base}${path}`);
    await opened.page.getByRole('heading', { level: 1 }).waitFor();
    return opened;
  };
  const put = (page, path, body, code = 200) => page.route(path, (r) => r.fulfill({ status: code, contentType: 'application/json', body: JSON.stringify(body) }));

  for (const locale of Object.keys(words)) {
    const w = words[locale];
    await t.test(`an entry is found, shown with its proof, and taken away (${locale})`, async () => {
      const { page, context, wrong } = await at('/', { locale });
      await page.getByRole('link', { name: w.log, exact: true }).click();
      await page.getByRole('heading', { level: 1, name: w.title }).waitFor();
      await page.getByLabel(w.kind, { exact: true }).selectOption({ label: w.hubKey });
      await page.waitForURL(/kind=hub_key/);
      // By its name: the first row is another one when an entry comes.
      const name = await page.getByRole('button', { name: w.entry }).first().getAttribute('aria-label');
      const row = page.getByRole('button', { name, exact: true });
      await row.focus();
      await page.keyboard.press('Enter');
      await eventually(async () => (await row.getAttribute('aria-expanded')) === 'true' || 'closed', 'the entry opens');
      await page.getByText(w.leads).waitFor();
      await assertAccessible(page, `an open entry, ${locale}`);
      const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: w.file }).click()]);
      await page.getByText(w.saved).waitFor();
      assert.equal(readFileSync(await file.path()).subarray(0, 13).toString('latin1'), 'hsi/proof/v1\0', 'it is no proof file');
      await page.goBack();
      await page.waitForURL((u) => u.search === '');
      assert.deepEqual(wrong, []);
      await context.close();
    });

    await t.test(`anchors say how far they are and what keeps them, and their texts stay text (${locale})`, async () => {
      const { page, context, wrong } = await open(browser, { storageState, locale });
      await put(page, '**/api/anchors/status', status);
      await put(page, '**/api/anchors?*', { items: anchors });
      await page.goto(`${base}/anchors`);
      await page.getByText(w.refused).first().waitFor();
      // In the reader's language, and in the hub's own words, which say what to do.
      await page.getByRole('alert').getByText(w.problem, { exact: true }).waitFor();
      await page.getByRole('alert').getByText(`Raise it ${markup}`).waitFor();
      // State and list are two answers.
      await eventually(async () => {
        const seen = [await page.locator('.stage[aria-current="step"]').count(), await page.getByText(w.gone).count()];
        return seen.join() === '1,1' || seen;
      }, 'one stage is the present one, and one anchor is gone');
      await page.getByRole('button', { name: / 1$/ }).click();
      await page.locator('.log-detail').waitFor();
      assert.equal(await page.locator('img[src="x"]').count(), 0, 'a text became markup');
      await assertAccessible(page, `anchors, ${locale}`);
      assert.deepEqual(wrong, []);
      await context.close();
    });
  }

  await t.test('a problem that this page has no words for is told in the hub’s', async () => {
    const { page, context } = await open(browser, { storageState, locale: 'zh-CN' });
    await put(page, '**/api/anchors/status', { ...status, problem: { code: 'BLOCKCHAIN_001', problem_code: 'of_another_day', text: 'the moon is full' } });
    await put(page, '**/api/anchors?*', { items: [] });
    await page.goto(`${base}/anchors`);
    await page.getByRole('alert').getByText('the moon is full').waitFor();
    await page.getByRole('alert').getByText('BLOCKCHAIN_001').waitFor();
    assert.equal(await page.locator('.anchor-problem').count(), 0);
    await context.close();
  });

  await t.test('a hub that anchors nothing says so', async () => {
    const { page, context } = await open(browser, { storageState });
    await put(page, '**/api/anchors/status', { driver: 'none', overdue: false, endpoints: 0, interval_s: 0, log_size: 3, vanished: 0 });
    await page.goto(`${base}/anchors`);
    await page.getByText(words['en-US'].none).waitFor();
    await context.close();
  });

  await t.test('the state that the hub itself gives is shown', async () => {
    const real = await ask('GET', '/api/anchors/status');
    const { page, context, wrong } = await at('/anchors');
    if (real.driver === 'none') await page.getByText(words['en-US'].none).waitFor();
    else await page.getByText(real.contract, { exact: true }).first().waitFor();
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('older entries come when asked for, each once', async () => {
    const { page, context } = await open(browser, { storageState });
    await page.route('**/api/log/entries?*', (r) => r.continue({ url: r.request().url().replace('limit=50', 'limit=1') }));
    await page.goto(`${base}/log`);
    const rows = page.getByRole('button', { name: /^Entry \d/ });
    await rows.first().waitFor();
    await page.getByRole('button', { name: 'Show more' }).click();
    await rows.nth(1).waitFor();
    const places = await rows.evaluateAll((all) => all.map((b) => Number(b.getAttribute('aria-label').replace(/\D/g, ''))));
    assert.deepEqual(places, [...new Set(places)].sort((a, b) => b - a));
    await page.unrouteAll({ behavior: 'ignoreErrors' });
    await context.close();
  });

  await t.test('a refused proof file says what it waits for', async () => {
    const { page, context } = await at('/log');
    await page.route('**/api/proofs/entries/*', (r) => r.fulfill({ status: 409, contentType: 'application/problem+json', body: JSON.stringify({ status: 409, code: 'PROOF_001', detail: 'it waits <b>here</b>' }) }));
    await page.getByRole('button', { name: /^Entry \d/ }).last().click();
    await page.getByRole('link', { name: 'Download its proof file' }).click();
    await page.getByRole('alert').getByText('it waits <b>here</b>').waitFor();
    await context.close();
  });

  await t.test('without a key the log is shown where it is public, and the key is asked for where it is not', async () => {
    const { public: isPublic } = await ask('GET', '/api/log/checkpoint');
    const { page, context, wrong } = await open(browser);
    await page.goto(`${base}/`);
    await page.getByRole('link', { name: /^Public log/ }).click();
    if (isPublic) {
      await page.getByRole('heading', { level: 1, name: /Transparency log/ }).waitFor();
      await page.getByRole('button', { name: /^Entry \d/ }).first().waitFor();
      await page.locator('.tabs').getByRole('link', { name: 'Verify', exact: true }).and(page.locator('[href="/verify/"]')).waitFor();
      await assertAccessible(page, 'the public log');
      await page.getByRole('link', { name: 'Anchors', exact: true }).click();
      await page.waitForURL(/\/anchors$/);
    }
    await put(page, '**/api/log/checkpoint', { status: 401, code: 'AUTH_001' }, 401);
    await page.goto(`${base}/log`);
    await page.getByLabel('API key').waitFor();
    assert.deepEqual(wrong, []);
    await context.close();
  });

  for (const [name, options] of looks) {
    await t.test(`axe finds nothing serious (${name})`, async () => {
      for (const path of ['/log', '/anchors']) {
        const { page, context } = await at(path, options);
        await page.locator('.panel').first().waitFor();
        await assertFits(page, `${path}, ${name}`);
        await assertAccessible(page, `${path}, ${name}`);
        await context.close();
      }
    });
  }
});
