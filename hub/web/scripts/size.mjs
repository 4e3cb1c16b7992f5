// Says how much script the page loads before it shows anything, compressed as the hub sends it, and
// fails above the limit. Run after a build.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const limit = 150_000; // bytes
const dist = join(dirname(fileURLToPath(import.meta.url)), '../../internal/webui/dist/app');

let html;
try {
  html = readFileSync(join(dist, 'index.html'), 'utf8');
} catch {
  console.error('size: the page is not built; run npm run build first');
  process.exit(1);
}
if (/<script(?![^>]*\ssrc=)/.test(html)) {
  console.error('size: index.html holds an inline script, which the hub’s policy forbids');
  process.exit(1);
}
const entries = [...html.matchAll(/(?:src|href)="\/([^"]+\.js)"/g)].map((m) => m[1]);
// What those import without being asked loads as well, named in index.html or not.
const files = new Set();
const add = (name) => {
  if (files.has(name)) return;
  files.add(name);
  const code = readFileSync(join(dist, name), 'utf8');
  for (const m of code.matchAll(/(?:^|[;}])\s*(?:import|export)\s*(?:[^"'()]*?from\s*)?["']\.\/([^"']+\.js)["']/g)) {
    add(`assets/${m[1]}`);
  }
};
entries.forEach(add);
let total = 0;
for (const name of [...files].sort()) {
  const size = gzipSync(readFileSync(join(dist, name)), { level: 6 }).length;
  total += size;
  console.log(`size: ${String(size).padStart(7)} ${name}`);
}
console.log(`size: ${String(total).padStart(7)} of ${limit} bytes of compressed script at first load`);
if (entries.length === 0 || total > limit) process.exit(1);

// The page "Verify" is one document that loads nothing: it goes on working when the hub is stopped, and from a disk.
const verifyLimit = 50_000; // bytes
const verify = readFileSync(join(dist, 'verify/index.html'), 'utf8');
const [script, ...others] = [...verify.matchAll(/<script>(.*?)<\/script>/gs)].map((m) => m[1]);
const loads = verify.replace(script ?? '', '').match(/<script [^>]*>|<link (?![^>]*href="data:)[^>]*>|@import|url\((?!data:)/g) ?? [];
if (script === undefined || others.length > 0 || loads.length > 0 || /\bimport\s*\(|(?:^|[;}])\s*import\b/.test(script)) {
  console.error(`size: verify/index.html must hold one script and load nothing, it loads ${loads.join(', ') || 'more'}`);
  process.exit(1);
}
const size = gzipSync(verify, { level: 6 }).length;
console.log(`size: ${String(size).padStart(7)} of ${verifyLimit} bytes in verify, compressed`);
if (size > verifyLimit) process.exit(1);
