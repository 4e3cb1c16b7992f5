// Measures what checking a month's bundle costs in a browser: time, whether the page answers meanwhile, and memory. The floor is node's own SHA-256 over
// the same lengths, in the same run. Run after a build, with a file that Go wrote:
//
//   (cd ../../pkg && HSI_PROOF_MONTH=/tmp/month.hsproof go test -count=1 -run TestMonthForOtherCheckers ./proof/)
//   HSI_PROOF_MONTH=/tmp/month.hsproof npm run bench:verify
import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const file = process.env.HSI_PROOF_MONTH ?? '';
const runs = Number(process.env.HSI_BENCH_RUNS ?? 3);
const dist = fileURLToPath(new URL('../../internal/webui/dist/app', import.meta.url));
if (file === '') {
  console.error('verify-bench: HSI_PROOF_MONTH names no file: see the first lines of this script for how to make one');
  process.exit(1);
}
const bytes = statSync(file).size;
const median = (a) => [...a].sort((x, y) => x - y)[a.length >> 1];
const mb = (n) => Math.round(n / (1 << 20));

/** Seconds of hashing, for each leaf, 480 bytes and twice 65: what no checker can leave out. */
function floor(leaves) {
  const b = Buffer.alloc(480);
  const begin = process.hrtime.bigint();
  for (let i = 0; i < leaves; i++) {
    createHash('sha256').update(b).digest();
    for (let n = 0; n < 2; n++) createHash('sha256').update(b.subarray(0, 65)).digest();
  }
  return Number(process.hrtime.bigint() - begin) / 1e9;
}

/** Seconds of hashing the same number of bytes in one piece, which has no calls in it. */
function stream(leaves) {
  const b = Buffer.alloc(1 << 20);
  const h = createHash('sha256');
  const begin = process.hrtime.bigint();
  for (let left = leaves * 12 * 64; left > 0; left -= b.length) h.update(b);
  h.digest();
  return Number(process.hrtime.bigint() - begin) / 1e9;
}

/** The most memory that the processes of the browser's pages have held. */
async function pageMemory(cdp) {
  const { processInfo } = await cdp.send('SystemInfo.getProcessInfo');
  const held = processInfo
    .filter((p) => p.type === 'renderer')
    .map((p) => Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${p.id}/status`, 'utf8'))?.[1] ?? 0) * 1024);
  return Math.max(...held);
}

const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const server = createServer((req, res) => {
  try {
    const name = req.url === '/verify' ? '/verify/index.html' : req.url;
    const body = readFileSync(join(dist, name));
    res.writeHead(200, { 'Content-Type': types[extname(name)] ?? 'application/octet-stream' }).end(body);
  } catch {
    res.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const browser = await chromium.launch({
  executablePath: process.env.HSI_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
const seconds = [];
const blocked = [];
const memory = [];
let leaves = 0;
try {
  for (let i = 0; i < runs; i++) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/verify`);
    // The longest time in which the page could not have answered.
    await page.evaluate(() => {
      let last = performance.now();
      window.longest = 0;
      window.setInterval(() => {
        const now = performance.now();
        window.longest = Math.max(window.longest, now - last);
        last = now;
      }, 10);
    });
    const begin = performance.now();
    await page.locator('input[type=file]').setInputFiles(file);
    await page.locator('#result').waitFor({ timeout: 600_000 });
    seconds.push((performance.now() - begin) / 1000);
    blocked.push(await page.evaluate(() => window.longest));
    memory.push(await pageMemory(await browser.newBrowserCDPSession()));
    const bad = await page.locator('[data-step]:not([data-step=anchor]):not([data-step=sla]):not([data-state=ok])').evaluateAll((all) => all.map((x) => x.dataset.step));
    if (bad.length > 0) throw new Error(`not everything of the file holds: ${bad.join(', ')}`);
    leaves = Number((await page.locator('dd').filter({ hasText: /^[\d,]{5,}$/ }).last().innerText()).replaceAll(',', ''));
    await context.close();
  }
} finally {
  await browser.close();
  server.close();
}
const floors = Array.from({ length: runs }, () => floor(leaves));
const streams = Array.from({ length: runs }, () => stream(leaves));
const f = (a, digits = 1) => a.map((x) => x.toFixed(digits)).join(' ');
console.log(`verify-bench: ${mb(bytes)} MB, ${leaves} leaves, ${runs} runs`);
console.log(`verify-bench: browser        ${f(seconds)} s, ${Math.round(bytes / 1e6 / median(seconds))} MB/s of file`);
console.log(`verify-bench: node's SHA-256 ${f(floors)} s in the same pieces, ${f(streams)} s in one; browser / pieces ${(median(seconds) / median(floors)).toFixed(2)}, / one ${(median(seconds) / median(streams)).toFixed(2)}`);
console.log(`verify-bench: page blocked for at most ${f(blocked, 0)} ms; page's process held at most ${memory.map(mb).join(' ')} MB`);
