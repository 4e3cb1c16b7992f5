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

// The page "Verify" goes on working when the hub is stopped: everything it needs is in its one script, which the page above does not load.
const verifyLimit = 50_000; // bytes
const verify = readFileSync(join(dist, 'verify/index.html'), 'utf8');
const scripts = [...verify.matchAll(/<script[^>]*\ssrc="\/([^"]+\.js)"/g)].map((m) => m[1]);
if (scripts.length !== 1 || /<script(?![^>]*\ssrc=)/.test(verify) || files.has(scripts[0])) {
  console.error(`size: verify/index.html must load one script of its own, it loads ${scripts.join(', ') || 'none'}`);
  process.exit(1);
}
const code = readFileSync(join(dist, scripts[0]), 'utf8');
if (/\bimport\s*\(|(?:^|[;}])\s*import\b/.test(code)) {
  console.error('size: the script of verify/index.html loads others');
  process.exit(1);
}
const size = gzipSync(code, { level: 6 }).length;
console.log(`size: ${String(size).padStart(7)} of ${verifyLimit} bytes of compressed script in verify`);
if (size > verifyLimit) process.exit(1);
