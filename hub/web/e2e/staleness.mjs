// Measures how old a sample is when the page has painted it: from the agent's clock at the end of the
// poll to the frame that shows it, all on one machine's clock. Prints the result and, where HSI_BENCH
// names a file, puts it into that list in place of an earlier one.
import { readFileSync, writeFileSync } from 'node:fs';
import { launch, open, openFleet, signedIn, skip } from './page.mjs';

const watchMs = 60_000;
const allowanceMs = 5_000; // beyond one poll interval

const intervalMs = Number(process.env.HSI_POLL_INTERVAL_MS);
if (skip || !(intervalMs > 0)) {
  console.error(`staleness: ${skip || 'HSI_POLL_INTERVAL_MS is not set: give the site’s poll interval in ms'}`);
  process.exit(1);
}

const browser = await launch();
let delays;
try {
  const { page } = await open(browser, { storageState: await signedIn(browser) });
  await openFleet(page, '?age=fresh');
  await page.locator('tbody tr[data-at]').first().waitFor();
  delays = await page.evaluate(async (forMs) => {
    const seen = [];
    const observer = new MutationObserver((changes) => {
      const rows = new Set(changes.map((c) => c.target));
      // The frame after this callback is the one that shows the change; the task after it has been painted.
      window.requestAnimationFrame(() => {
        const channel = new window.MessageChannel();
        channel.port1.onmessage = () => {
          for (const row of rows) if (row.isConnected) seen.push(Date.now() - Number(row.getAttribute('data-at')));
        };
        channel.port2.postMessage(0);
      });
    });
    observer.observe(document.querySelector('tbody'), { subtree: true, attributes: true, attributeFilter: ['data-at'] });
    await new Promise((resolve) => setTimeout(resolve, forMs));
    observer.disconnect();
    return seen;
  }, watchMs);
} finally {
  await browser.close();
}
if (delays.length === 0) {
  console.error(`staleness: no sample was painted within ${watchMs / 1000} s`);
  process.exit(1);
}

const sorted = delays.map((ms) => ms / 1000).sort((a, b) => a - b);
const median = sorted[sorted.length >> 1];
const worst = sorted.at(-1);
const limit = (intervalMs + allowanceMs) / 1000;
const result = {
  id: 'P18',
  what: `staleness: from a sample's time at the agent to its paint on the page, worst of ${sorted.length} against one poll interval + ${allowanceMs / 1000} s`,
  floor: limit,
  value: median,
  unit: 's',
  ratio: worst / limit,
  target: '≤ 1.0 × (poll interval + 5 s)',
  met: worst <= limit,
  samples: { paint: sorted, worst: [worst] },
};
console.log(
  `${result.id}  ${result.what}: median ${median.toFixed(2)} s, worst ${worst.toFixed(2)} s, limit ${limit} s: ${result.met ? 'met' : 'missed'}`,
);
const file = process.env.HSI_BENCH;
if (file) {
  let results = [];
  try {
    results = JSON.parse(readFileSync(file, 'utf8'));
  } catch (err) {
    if (err.code !== 'ENOENT') throw err;
  }
  results = results.filter((r) => r.id !== result.id).concat(result);
  results.sort((a, b) => a.id.length - b.id.length || (a.id < b.id ? -1 : 1));
  writeFileSync(file, JSON.stringify(results, null, 2) + '\n', { mode: 0o600 });
}
