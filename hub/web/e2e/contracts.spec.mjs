// Contracts through the page: made, filled with miners, looked at slot by slot, excused, and seen by their customer alone. No month comes to an end
// and hardly an hour while these tests run: most slots are still open, and the one statement that is looked at is an answer put in the hub's place.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ask, assertAccessible, assertFits, base, eventually, launch, looks, open, signedIn, signedInWith, skip } from './page.mjs';

const markup = '<img src=x onerror=alert(1)>';
// What is made stays: each run has its own.
const run = Math.random().toString(36).slice(2, 8);

const words = {
  'en-US': {
    addCustomer: 'Add a customer', name: 'Name', add: 'Add', make: 'Make a contract', customer: 'Customer', rate: /^Contracted hashrate/, target: /^Target/, makeDo: 'Make contract', assign: 'Assign miners', assignDo: 'Assign',
    search: /^Search address/, all: /^Choose all \d/, from: 'From (UTC)', slots: 'Slot map', sla: 'Service level', terms: 'Terms', why: 'Why?', close: 'Close', asTable: 'Show as table', amend: 'Record a new version', amendDo: 'Record version', changed: /Changed against the version before: Target/,
    announce: 'Announce maintenance', announceDo: 'Announce', order: 'Order curtailment', orderDo: 'Order', note: 'Note', end: /^End .* early/, endDo: 'End it', honoured: 'honoured', notHonoured: 'not honoured', calledOff: 'called off', available: /Availability/, provisional: 'Provisional', openState: /Unknown, still open|Up|Down|Degraded|Curtailed/, wrong: /These cannot be read: Contracted hashrate/,
    showMiners: 'Show by miner', monthOf: /^Slot map of /, chooseOne: /^Choose /, endMiners: 'End chosen…', endMinersDo: 'End them', noStatement: /No statement has been issued/,
  },
  'zh-CN': {
    addCustomer: '添加客户', name: '名称', add: '添加', make: '新建合同', customer: '客户', rate: /^单台矿机的合同算力/, target: /^目标/, makeDo: '建立合同', assign: '分配矿机', assignDo: '分配',
    search: /^搜索地址/, all: /^全选/, from: '开始（UTC）', slots: '时隙图', sla: '服务水平', terms: '条款', why: '原因？', close: '关闭', asTable: '以表格显示', amend: '记录新版本', amendDo: '记录版本', changed: /与上一版本相比有变: 目标/,
    announce: '公告维护', announceDo: '公告', order: '下达限电', orderDo: '下达', note: '备注', end: /^提前结束 /, endDo: '结束', honoured: '有效', notHonoured: '无效', calledOff: '已取消', available: /可用率/, provisional: '暂定', openState: /未知，待定|正常|停机|降级|限电/, wrong: /以下内容无法识别：单台矿机的合同算力/,
    showMiners: '按矿机显示', monthOf: / 的时隙图$/, chooseOne: /^选择 /, endMiners: '结束所选…', endMinersDo: '结束', noStatement: /尚未出具结算单/,
  },
};

// What the hub sends with every answer of its API, which is never shown in a frame.
const apiHeaders = { 'X-Frame-Options': 'DENY', 'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'" };

const utcField = (ms) => new Date(ms).toISOString().slice(0, 16);

test('contracts', { skip }, async (t) => {
  let browser;
  let storageState;
  before(async () => {
    browser = await launch();
    storageState = await signedIn(browser);
  });
  after(() => browser?.close());

  const at = async (path, options) => {
    const opened = await open(browser, { storageState, ...options });
    await opened.page.goto(`${base}${path}`);
    await opened.page.getByRole('heading', { level: 1 }).waitFor();
    return opened;
  };
  const made = {};

  for (const locale of Object.keys(words)) {
    const w = words[locale];
    const customer = `${run} ${locale} ${markup}`;
    const name = `hall ${run} ${locale}`;

    await t.test(`a customer and a contract are made, and miners assigned (${locale})`, async () => {
      const { page, context, wrong } = await at('/customers', { locale });
      const dialog = page.getByRole('dialog');
      await page.getByRole('button', { name: w.addCustomer, exact: true }).click();
      await dialog.getByLabel(w.name, { exact: true }).fill(customer);
      await dialog.getByRole('button', { name: w.add, exact: true }).click();
      await dialog.waitFor({ state: 'detached' });
      await page.getByRole('row').filter({ hasText: customer }).waitFor();
      assert.equal(await page.locator('img[src="x"]').count(), 0, 'the name became markup');

      await page.goto(`${base}/contracts`);
      await page.getByRole('button', { name: w.make, exact: true }).click();
      await dialog.getByLabel(w.name, { exact: true }).fill(name);
      await dialog.getByLabel(w.customer, { exact: true }).selectOption({ label: customer });
      await dialog.getByLabel(w.rate).fill('many');
      await assertAccessible(page, `making a contract, ${locale}`);
      await dialog.getByRole('button', { name: w.makeDo }).click();
      await dialog.getByText(w.wrong).waitFor();
      await dialog.getByLabel(w.rate).fill('95.5');
      await dialog.getByLabel(w.target).first().fill('99');
      await dialog.getByRole('button', { name: w.makeDo }).click();
      await dialog.waitFor({ state: 'detached' });
      await page.getByRole('heading', { level: 1, name }).waitFor();
      await page.waitForURL((u) => /^\/contracts\/[^/]+/.test(u.pathname));
      const id = new URL(page.url()).pathname.split('/')[2];
      made[locale] = { id, customer, name };

      await page.getByRole('button', { name: w.assign, exact: true }).click();
      await dialog.getByRole('checkbox').nth(4).waitFor();
      // A miner has one contract at a time: those of other contracts, of runs that broke off too, are left alone.
      const now = Date.now();
      const taken = new Set();
      for (const c of (await ask('GET', '/api/contracts?limit=500')).items) {
        for (const a of (await ask('GET', `/api/contracts/${c.id}/miners?limit=1000`)).items) if (!a.to || Date.parse(a.to) > now - 35 * 60_000) taken.add(a.address);
      }
      let free = [];
      await eventually(async () => {
        const labels = await dialog.locator('.miner-choice li').evaluateAll((all) => all.map((li) => li.querySelector('span').textContent));
        free = labels.filter((x) => !taken.has(x)).slice(0, 3);
        return free.length === 3 || labels;
      }, 'three miners without a contract');
      for (const address of free) await dialog.locator('.miner-choice li').filter({ has: page.getByText(address, { exact: true }) }).getByRole('checkbox').check();
      const monthStart = Date.UTC(new Date(now).getUTCFullYear(), new Date(now).getUTCMonth(), 1);
      await dialog.getByLabel(w.from, { exact: true }).fill(utcField(Math.max(monthStart, now - 30 * 60_000)));
      await assertAccessible(page, `assigning, ${locale}`);
      await dialog.getByRole('button', { name: w.assignDo, exact: true }).click();
      await dialog.waitFor({ state: 'detached' });
      await eventually(async () => (await page.getByRole('checkbox', { name: w.chooseOne }).count()) === 3 || 'rows', 'the miners that were assigned');
      assert.deepEqual(wrong, []);
      await context.close();
    });
  }

  // Made first, all of them, so that one run of the hub's judging is enough.
  for (const locale of Object.keys(words)) {
    const w = words[locale];

    await t.test(`the slot map fills, and says why with mouse and keyboard (${locale})`, async () => {
      const { page, context, wrong } = await at(`/contracts/${made[locale].id}/slots`, { locale });
      // The hub judges touched days within a minute or two.
      await eventually(
        async () => {
          const rows = await page.getByRole('grid').getByRole('row').count().catch(() => 0);
          if (rows < 4) await page.reload();
          else {
            const states = await page.locator('.slots-body [role=gridcell].slots-strip').first().getAttribute('aria-label');
            if (w.openState.test(states ?? '')) return true;
          }
          await page.waitForTimeout(2_000);
          return rows;
        },
        'three miners with judged slots',
        240_000,
      );
      const grid = page.getByRole('grid');
      await grid.focus();
      // The slot that runs, or at its beginning the one before: miners are polled in it, however young the hub is.
      // The page shows the day that has just begun, where one has.
      const day = 86_400_000;
      const now = Date.now();
      const slot = Math.floor((Math.max(now - 40_000, now - (now % day)) % day) / 300_000);
      await page.keyboard.press('Home');
      for (let i = 0; i < Math.max(0, slot); i++) await page.keyboard.press('ArrowRight');
      const cell = page.locator(`#${await grid.getAttribute('aria-activedescendant').then((x) => x.replaceAll(':', '\\:'))}`);
      await eventually(async () => {
        const told = await cell.innerText();
        return /\d\d:\d\d–\d\d:\d\d UTC: ./.test(told) || told;
      }, 'the active slot is told');
      await page.keyboard.press('Enter');
      const why = page.getByRole('region', { name: w.why });
      await why.locator('.why-verdict').waitFor();
      await eventually(() => page.evaluate(() => document.activeElement?.tagName === 'H2' || document.activeElement?.tagName), 'the answer has the focus');
      // Its polls come from the batches, before any hour is signed.
      await why.locator('.why-polls tbody tr').first().waitFor();
      await assertAccessible(page, `why, ${locale}`);
      await page.keyboard.press('Escape');
      await why.waitFor({ state: 'detached' });
      await eventually(() => page.evaluate(() => document.activeElement?.getAttribute('role') === 'grid' || document.activeElement?.tagName), 'the focus comes back');

      const strip = page.locator('.slots-strip[role=gridcell]').first();
      const box = await strip.boundingBox();
      await strip.click({ position: { x: (box.width * (Math.max(0, slot) + 0.5)) / 288, y: 7 } });
      await why.locator('.why-verdict').waitFor();
      await why.getByRole('button', { name: w.monthOf }).click();
      await page.getByRole('rowheader').filter({ hasText: /^\d{4}-\d\d-\d\d$/ }).first().waitFor();
      await page.goBack();

      await page.getByRole('button', { name: w.asTable }).click();
      await page.getByRole('table').first().waitFor();
      assert.deepEqual(wrong, []);
      await context.close();
    });

    await t.test(`the month so far, by miner too (${locale})`, async () => {
      const { page, context, wrong } = await at(`/contracts/${made[locale].id}`, { locale });
      await page.getByText(w.provisional, { exact: true }).waitFor();
      await page.getByText(w.available).first().waitFor();
      await page.getByRole('button', { name: w.showMiners }).click();
      await eventually(async () => (await page.locator('section').last().getByRole('row').count()) === 4 || 'rows', 'a row for each miner');
      assert.deepEqual(wrong, []);
      await context.close();
    });

    await t.test(`a later version shows what it changes (${locale})`, async () => {
      const { page, context, wrong } = await at(`/contracts/${made[locale].id}/terms`, { locale });
      await page.getByRole('button', { name: w.amend }).click();
      const dialog = page.getByRole('dialog');
      await dialog.getByLabel(w.target).first().fill('99,5');
      await dialog.getByRole('button', { name: w.amendDo }).click();
      await dialog.waitFor({ state: 'detached' });
      await page.getByText(w.changed).waitFor();
      await page.locator('.fact-changed').filter({ hasText: '99.5 %' }).waitFor();
      assert.deepEqual(wrong, []);
      await context.close();
    });

    await t.test(`maintenance is announced, curtailment ordered, and what came too late is not honoured (${locale})`, async () => {
      const { page, context, wrong } = await at('/excuses', { locale });
      const dialog = page.getByRole('dialog');
      const note = (what) => `${what} ${run} ${locale} ${markup}`;
      const now = Date.now();
      const record = async (button, doIt, from, to, what) => {
        await page.getByRole('button', { name: button, exact: true }).click();
        await dialog.getByLabel(w.from, { exact: true }).fill(utcField(from));
        await dialog.locator('input[type=datetime-local]').nth(1).fill(utcField(to));
        await dialog.getByLabel(w.note, { exact: true }).fill(note(what));
        await dialog.getByRole('button', { name: doIt, exact: true }).click();
        await dialog.waitFor({ state: 'detached' });
      };
      // What the hub lists is of one month: windows that begin in it.
      await record(w.order, w.orderDo, now - 5 * 60_000, now + 10 * 60_000, 'in time');
      await record(w.order, w.orderDo, now - 20 * 60_000, now + 10 * 60_000, 'late');
      await record(w.announce, w.announceDo, now + 25 * 3_600_000, now + 26 * 3_600_000, 'planned');
      const lookAt = (ms) => page.goto(`${base}/excuses?month=${new Date(ms).toISOString().slice(0, 7)}`);
      await lookAt(now - 5 * 60_000);
      const row = (what) => page.getByRole('row').filter({ hasText: note(what) });
      const contract = made[locale].name;
      await row('in time').getByRole('listitem').filter({ hasText: contract }).getByText(w.honoured, { exact: true }).waitFor();
      await lookAt(now - 20 * 60_000);
      await row('late').getByRole('listitem').filter({ hasText: contract }).getByText(w.notHonoured, { exact: true }).waitFor();
      await assertAccessible(page, `excuses, ${locale}`);
      await lookAt(now + 25 * 3_600_000);
      await row('planned').getByRole('button', { name: w.end }).click();
      await dialog.getByRole('button', { name: w.endDo, exact: true }).click();
      await dialog.waitFor({ state: 'detached' });
      await row('planned').getByText(w.calledOff).waitFor();
      assert.equal(await page.locator('img[src="x"]').count(), 0, 'a note became markup');
      assert.deepEqual(wrong, []);
      await context.close();
    });
  }

  const fileAnswer = (name) => ({ status: 200, headers: { 'Content-Type': 'application/vnd.hashinsight.proof', 'Content-Disposition': `attachment; filename="${name}"`, ...apiHeaders }, body: 'hsi/proof/v1\0' });

  await t.test('an hour that site and hub agree on has its proof beside it', async () => {
    const { page, context, wrong } = await open(browser, { storageState });
    const spool = '0f'.repeat(16).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
    let asked;
    // No hour comes to an end while this runs: what the hub says of it is put into its answer.
    await page.route('**/api/contracts/*/why?*', async (r) => {
      asked = new URL(r.request().url()).searchParams;
      const why = await (await r.fetch()).json();
      await r.fulfill({ json: { ...why, hour: { ...why.hour, state: 'agreed', spool, seq: 7 } } });
    });
    await page.route('**/api/proofs/hours/**', (r) => r.fulfill(fileAnswer('hour-7.hsproof')));
    await page.goto(`${base}/contracts/${made['en-US'].id}/slots`);
    const grid = page.getByRole('grid');
    await grid.getByRole('row').nth(1).waitFor();
    await grid.focus();
    await page.keyboard.press('Home');
    await page.keyboard.press('Enter');
    const link = page.getByRole('region', { name: 'Why?' }).getByRole('link', { name: 'Download the proof of this hour' });
    await link.waitFor();
    const hour = Math.floor(Date.parse(asked.get('at')) / 3_600_000);
    assert.equal(await link.getAttribute('href'), `/api/proofs/hours/${asked.get('site_id')}/${asked.get('miner_id')}/${hour}?spool_id=${spool}`);
    const [file] = await Promise.all([page.waitForEvent('download'), link.click()]);
    assert.equal(file.suggestedFilename(), 'hour-7.hsproof');
    await page.getByText('Saved as hour-7.hsproof.').waitFor();
    await assertAccessible(page, 'an hour with its proof');
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('a customer’s key sees its own contracts and nothing else', async () => {
    const { items } = await ask('GET', '/api/customers?limit=500');
    const mine = items.find((c) => c.name === made['en-US'].customer);
    const key = await ask('POST', '/api/apikeys', { name: `browser test ${run}`, permissions: ['contracts:read', 'sla:read', 'statements:read'], customer_id: mine.id, expires_in_days: 1 });
    const { page, context, wrong } = await open(browser);
    await page.goto(`${base}/`);
    await page.getByLabel('API key').fill(key.key);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('heading', { level: 1, name: 'Contracts' }).waitFor();
    await eventually(async () => {
      const links = (await page.getByRole('navigation', { name: 'Main' }).getByRole('link').allInnerTexts()).join();
      return links === 'Contracts,Log,Verify,API reference' || links;
    }, 'what a customer is led to');
    await page.getByRole('link', { name: made['en-US'].name }).waitFor();
    assert.equal(await page.getByText(made['zh-CN'].name).count(), 0, 'another customer’s contract is listed');
    assert.equal(await page.getByRole('button', { name: /Make|Assign|Announce|Order|Record/ }).count(), 0);
    await page.goto(`${base}/contracts/${made['zh-CN'].id}`);
    await page.getByText('There is no such contract for this key.').waitFor();
    await page.goto(`${base}/contracts/${made['en-US'].id}/slots`);
    await page.getByRole('grid').waitFor();
    await page.goto(`${base}/statements`);
    await page.getByText(words['en-US'].noStatement).waitFor();
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('the keys dialog makes a customer’s key, which may do no more', async () => {
    const { page, context, wrong } = await at('/keys');
    const dialog = page.getByRole('dialog');
    await page.getByRole('button', { name: 'Make a key' }).click();
    await dialog.getByLabel('Name', { exact: true }).fill(`browser test portal ${run}`);
    await dialog.getByLabel('For', { exact: true }).selectOption({ label: made['en-US'].customer });
    await dialog.getByRole('checkbox', { name: /^statements:read/ }).and(dialog.locator(':checked')).waitFor();
    const offered = await dialog.getByRole('checkbox').evaluateAll((all) => all.map((c) => [c.closest('label').querySelector('code').textContent, c.checked]));
    assert.deepEqual(offered, [['contracts:read', true], ['sla:read', true], ['statements:read', true]]);
    await assertAccessible(page, 'a customer’s key');
    await dialog.getByRole('button', { name: 'Make key' }).click();
    await dialog.getByRole('group', { name: 'API key', exact: true }).waitFor();
    await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: base });
    await dialog.getByRole('button', { name: 'Copy: API key' }).click();
    await dialog.getByRole('button', { name: 'Done' }).click();
    await page.getByRole('row').filter({ hasText: `portal ${run}` }).getByText(`of customer ${made['en-US'].customer}`).waitFor();
    assert.deepEqual(wrong, []);
    await context.close();
  });

  await t.test('who may only read is shown nothing to do', async () => {
    const state = await signedInWith(browser, ['contracts:read', 'sla:read', 'miners:read', 'sites:read']);
    for (const path of ['/contracts', `/contracts/${made['en-US'].id}/miners`, `/contracts/${made['en-US'].id}/terms`, '/excuses']) {
      const { page, context } = await at(path, { storageState: state });
      await page.locator('main .panel').first().waitFor();
      assert.equal(await page.getByRole('button', { name: /Make|Assign|Announce|Order|Record|End/ }).count(), 0, path);
      await context.close();
    }
  });

  // A month does not pass while a test runs.
  const hash = 'ab'.repeat(32);
  const statement = () => ({
    hash, contract_id: made['en-US'].id, contract_name: `hall ${markup}`, month: '2026-10', seq: 2, issued_at: '2026-11-04T00:02:00Z', key_id: '0123456789abcdef', supersedes: 'cd'.repeat(32), reason: `late evidence ${markup}`,
    availability_ppm: 949_999, met: false, credit: { bp: 2_500, minor: 312_500, currency: 'USD', below_ppm: 950_000 }, engine: 1, public_key: 'ef'.repeat(32), signature: '01'.repeat(64), bytes_length: 4_321,
    statement: { totals: { target_ppm: 990_000 }, terms: [{}], assignments: [{}, {}], excuses: [], hours: [{}] },
  });
  await t.test('a statement says in words what it holds, never rounded up, and what it took the place of', async () => {
    const { page, context, wrong } = await open(browser, { storageState });
    await page.route(`**/api/statements/${hash}`, (r) => r.fulfill({ contentType: 'application/json', body: JSON.stringify(statement()) }));
    await page.goto(`${base}/statements/${hash}`);
    await page.getByText('availability was 94.9999 % (rounded down)').waitFor();
    await page.getByText('the credit is 25.00 %, 3,125.00 USD').waitFor();
    assert.equal(await page.getByRole('link', { name: 'cdcdcdcd' }).getAttribute('href'), `/statements/${'cd'.repeat(32)}`);
    assert.equal(await page.getByRole('link', { name: 'Download the signed bytes' }).getAttribute('href'), `/api/statements/${hash}/download`);
    assert.equal(await page.locator('img[src="x"]').count(), 0, 'a reason became markup');
    await assertAccessible(page, 'a statement');
    assert.deepEqual(wrong, []);
    await context.close();
  });

  const proofWords = {
    'en-US': { panel: 'Proof', statement: 'Download the statement’s proof', saved: 'Saved as statement-x.hsproof.', bundle: 'Download the month’s bundle', steps: 'How to check it', final: 'It is on the chain for good.', here: /^This hub says that it anchors at 0x/, browser: 'Or check a file in the browser', busy: 'Too many bundles are being sent at the moment.', when: /^Try again in 120 seconds/, none: 'There are no files yet.', waits: 'In the log' },
    'zh-CN': { panel: '证明', statement: '下载结算单的证明', saved: '已保存为 statement-x.hsproof。', bundle: '下载当月的证明包', steps: '如何核验', final: '已永久在链上。', here: /^此中心称其锚定地址为 0x/, browser: '或在浏览器中核验文件', busy: '目前正在发送的证明包过多。', when: /^请在 120 秒后/, none: '尚无文件。', waits: '已入日志' },
  };
  for (const [locale, p] of Object.entries(proofWords)) {
    await t.test(`a statement has its proof and its bundle, and says how to check them without this hub (${locale})`, async () => {
      const { page, context, wrong } = await open(browser, { storageState, locale });
      const contract = `0x${'ab'.repeat(20)}`;
      let state = { hash, stage: 'logged', ready: false, final: false, log_index: 41, text: '' };
      let busy = true;
      await page.route(`**/api/statements/${hash}`, (r) => r.fulfill({ json: statement() }));
      await page.route('**/proof/status', (r) => r.fulfill({ json: state }));
      await page.route('**/api/anchors/status', (r) => r.fulfill({ json: { driver: 'log-contract', contract, overdue: false, endpoints: 1, interval_s: 3600, log_size: 50, vanished: 0 } }));
      await page.route(`**/api/statements/${hash}/proof`, (r) => r.fulfill(fileAnswer('statement-x.hsproof')));
      await page.route(`**/api/statements/${hash}/bundle`, (r) =>
        r.fulfill(
          busy
            ? { status: 429, headers: { 'Content-Type': 'application/problem+json', 'Retry-After': '120', ...apiHeaders }, body: JSON.stringify({ status: 429, code: 'API_001', detail: '2 <b>bundles</b> are being sent' }) }
            : fileAnswer('bundle-x.hsproof'),
        ),
      );
      await page.goto(`${base}/statements/${hash}`);
      const panel = page.getByRole('region', { name: p.panel, exact: true });
      await panel.getByText(p.none).waitFor();
      assert.equal(await panel.getByRole('link', { name: p.bundle }).count(), 0, 'a file that is not there is offered');
      await panel.locator('[aria-current=step]').filter({ hasText: p.waits }).waitFor();

      state = { ...state, stage: 'finalized', ready: true, final: true };
      await page.reload();
      await panel.getByText(p.final, { exact: true }).waitFor();
      const [file] = await Promise.all([page.waitForEvent('download'), panel.getByRole('link', { name: p.statement }).click()]);
      assert.equal(file.suggestedFilename(), 'statement-x.hsproof');
      await panel.getByText(p.saved).waitFor();
      await panel.getByRole('heading', { name: p.steps }).waitFor();
      assert.equal(await panel.getByRole('listitem').and(panel.locator('.proof-steps li')).count(), 3);
      await panel.getByText(`hashinsight-verify bundle bundle-2026-10-${hash.slice(0, 12)}.hsproof --rpc URL --contract ADDRESS`).waitFor();
      await panel.getByText(p.here).waitFor();
      assert.equal(await panel.getByRole('link', { name: p.browser }).getAttribute('href'), '/verify/');
      await assertAccessible(page, `the proof of a statement, ${locale}`);
      assert.deepEqual(wrong, []);

      // Refused because of many others: says so, and when to come again; then it comes, through the browser's own saving.
      await panel.getByRole('link', { name: p.bundle }).click();
      const refused = panel.getByRole('alert');
      await refused.getByText(p.busy).waitFor();
      await refused.getByText(p.when).waitFor();
      await refused.getByText('2 <b>bundles</b> are being sent').waitFor();
      await assertAccessible(page, `a refused bundle, ${locale}`);
      busy = false;
      const [bundle] = await Promise.all([page.waitForEvent('download'), panel.getByRole('link', { name: p.bundle }).click()]);
      assert.equal(bundle.suggestedFilename(), 'bundle-x.hsproof');
      await refused.waitFor({ state: 'detached' });
      await context.close();
    });
  }

  await t.test('an area that does not load says so in its own place', async () => {
    const { page, context } = await open(browser, { storageState });
    await page.route('**/api/disputes*', (r) => r.fulfill({ status: 403, contentType: 'application/problem+json', body: JSON.stringify({ status: 403, code: 'AUTH_002', detail: 'not <b>yours</b>' }) }));
    await page.goto(`${base}/disputes`);
    await page.getByRole('alert').filter({ hasText: 'not <b>yours</b>' }).waitFor();
    await page.getByRole('link', { name: 'Excuses', exact: true }).click();
    await page.getByRole('heading', { level: 1, name: 'Excuses' }).waitFor();
    await context.close();
  });

  for (const [name, options] of looks) {
    await t.test(`axe finds nothing serious (${name})`, async () => {
      const id = made['en-US'].id;
      const { page, context } = await at('/contracts', options);
      for (const path of ['/contracts', `/contracts/${id}`, `/contracts/${id}/slots`, `/contracts/${id}/miners`, `/contracts/${id}/terms`, `/contracts/${id}/statements`, '/excuses', '/statements', '/disputes', '/customers']) {
        await page.goto(`${base}${path}`);
        await page.getByRole('heading', { level: 1 }).waitFor();
        await eventually(async () => (await page.locator('main').getByText(/^(Loading…|加载中…)$/).count()) === 0 || 'loading', `${path} loads`);
        await assertFits(page, `${path}, ${name}`);
        await assertAccessible(page, `${path}, ${name}`);
      }
      await context.close();
    });
  }

  await t.test('miners are ended through the page, and what the tests made is ended', async () => {
    for (const locale of Object.keys(words)) {
      const w = words[locale];
      const { page, context } = await at(`/contracts/${made[locale].id}/miners`, { locale });
      await page.getByRole('checkbox', { name: w.chooseOne }).first().waitFor();
      await page.getByRole('button', { name: w.all }).click();
      await page.getByRole('button', { name: w.endMiners }).click();
      await page.getByRole('dialog').getByRole('button', { name: w.endMinersDo, exact: true }).click();
      await page.getByRole('dialog').waitFor({ state: 'detached' });
      await context.close();
    }
    const now = new Date().toISOString();
    for (const x of (await ask('GET', '/api/excuses?limit=500')).items) {
      if (x.note.includes(` ${run} `) && !x.ended_at && x.to > now) await ask('POST', `/api/excuses/${x.id}/end`, { at: now });
    }
    for (const k of (await ask('GET', '/api/apikeys?limit=500')).items) {
      if (k.name.startsWith('browser test ') && k.state !== 'revoked') await ask('DELETE', `/api/apikeys/${k.id}?why=test`);
    }
  });
});
