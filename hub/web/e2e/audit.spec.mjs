import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { ask, assertAccessible, assertFits, base, launch, looks, open, signedIn, skip } from './page.mjs';

const markup = '<img src=x onerror=alert(1)>';
const run = Math.random().toString(36).slice(2, 8);

const words = {
  'en-US': { action: 'Action', category: 'Category', apiKeys: 'API keys', level: 'Level', security: 'Security', since: 'Since', show: 'Show', clear: 'Clear', json: 'Export JSON lines', csv: 'Export CSV', exported: /entries exported/, none: 'No entry matches.' },
  'zh-CN': { action: '操作', category: '类别', apiKeys: 'API 密钥', level: '级别', security: '安全', since: '起始时间', show: '显示', clear: '清除', json: '导出 JSON 行', csv: '导出 CSV', exported: /已导出/, none: '没有符合条件的条目。' },
};

test('the audit log', { skip }, async (t) => {
  let browser;
  let storageState;
  before(async () => {
    browser = await launch();
    storageState = await signedIn(browser);
    const made = await ask('POST', '/api/apikeys', { name: `${run} ${markup}`, permissions: ['sites:read'], expires_in_days: 1 });
    await ask('DELETE', `/api/apikeys/${made.id}?why=${encodeURIComponent(`=cmd ${markup}`)}`);
  });
  after(() => browser?.close());

  const auditPage = async (options, query = '') => {
    const opened = await open(browser, { storageState, ...options });
    await opened.page.goto(`${base}/audit${query}`);
    await opened.page.getByRole('table').waitFor();
    return opened;
  };
  const rows = (page) => page.getByRole('table').getByRole('row');

  for (const locale of Object.keys(words)) {
    const w = words[locale];
    await t.test(`entries are filtered, and their texts stay text (${locale})`, async () => {
      const { page, context, wrong } = await auditPage({ locale });
      await page.getByLabel(w.category, { exact: true }).selectOption({ label: w.apiKeys });
      await page.getByLabel(w.level, { exact: true }).selectOption({ label: w.security });
      await page.getByLabel(w.action, { exact: true }).fill('apikey_revoke');
      await page.getByRole('button', { name: w.show, exact: true }).click();
      await page.waitForURL(/level=SECURITY/);
      const row = rows(page).filter({ hasText: run });
      await row.getByText(`=cmd ${markup}`, { exact: false }).first().waitFor();
      assert.equal(await page.locator('img[src="x"]').count(), 0, 'an entry became markup');
      for (const code of await page.locator('.audit-list code').allInnerTexts()) assert.equal(code, 'apikey_revoke');
      await row.locator('summary').click();
      await row.getByText('event_id').waitFor();
      await assertAccessible(page, `an open entry, ${locale}`);
      await page.getByLabel(w.since, { exact: true }).fill('2099-01-01T00:00');
      await page.getByRole('button', { name: w.show, exact: true }).click();
      await page.getByText(w.none).waitFor();
      await page.goBack();
      await row.first().waitFor();
      await page.getByRole('button', { name: w.clear, exact: true }).click();
      await rows(page).filter({ hasText: 'login' }).first().waitFor();
      await page.waitForURL((u) => u.search === '');
      assert.deepEqual(wrong, []);
      await context.close();
    });

    await t.test(`what is shown can be taken away as a file (${locale})`, async () => {
      const { page, context, wrong } = await auditPage({ locale }, '?action=apikey_revoke');
      const [json] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: w.json }).click()]);
      await page.getByText(w.exported).waitFor();
      const lines = readFileSync(await json.path(), 'utf8').trimEnd().split('\n').map((l) => JSON.parse(l));
      assert.ok(lines.length > 0 && lines.every((e) => e.action === 'apikey_revoke' && e.event_id && e.hash), 'the file holds other entries, or parts of them');
      assert.ok(lines.some((e) => e.details.why === `=cmd ${markup}`));
      const [csv] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: w.csv }).click()]);
      const table = readFileSync(await csv.path(), 'utf8').trimEnd().split('\r\n');
      assert.equal(table.length, lines.length + 1);
      assert.deepEqual(wrong, []);
      await context.close();
    });
  }

  await t.test('older entries come when asked for', async () => {
    const { page, context } = await open(browser, { storageState });
    await page.route('**/api/audit?*', (r) => r.continue({ url: r.request().url().replace('limit=100', 'limit=2') }));
    await page.goto(`${base}/audit`);
    await rows(page).nth(2).waitFor();
    const more = page.getByRole('button', { name: 'Show more' });
    await more.click();
    await rows(page).nth(4).waitFor();
    const seqs = await page.locator('.audit-members').evaluateAll((all) => all.map((d) => Number([...d.children].find((x) => x.firstChild.textContent === 'seq').lastChild.textContent)));
    assert.deepEqual(seqs, [...seqs].sort((a, b) => b - a));
    assert.equal(new Set(seqs).size, seqs.length, 'an entry is shown twice');
    await page.unrouteAll({ behavior: 'ignoreErrors' });
    await context.close();
  });

  for (const [name, options] of looks) {
    await t.test(`axe finds nothing serious (${name})`, async () => {
      const { page, context } = await auditPage(options);
      await assertFits(page, name);
      await assertAccessible(page, `audit log, ${name}`);
      await context.close();
    });
  }
});
