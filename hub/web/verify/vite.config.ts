// The page "Verify" is built by itself, after the operator's page: one document, which holds its script and its style and needs nothing else, so that whoever
// does not trust the hub can keep it on a disk of his own. Its policy names both by their hashes; the hub sends the same again.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';

const here = (p: string) => fileURLToPath(new URL(p, import.meta.url));

const hashOf = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

/** What the document may do, wherever it came from: run its script, also in a worker, and ask the chain's endpoints that its reader types. */
const policy = (script: string, style: string): string =>
  `default-src 'none'; script-src ${hashOf(script)}; style-src ${hashOf(style)}; img-src data:; worker-src blob:; connect-src https: http://127.0.0.1:* http://localhost:*; object-src 'none'; base-uri 'none'; form-action 'none'`;

const oneFile: Plugin = {
  name: 'one-file',
  enforce: 'post',
  generateBundle(_, bundle) {
    const all = Object.values(bundle);
    const chunk = all.find((x) => x.type === 'chunk');
    const sheet = all.find((x) => x.type === 'asset' && x.fileName.endsWith('.css'));
    const page = all.find((x) => x.type === 'asset' && x.fileName.endsWith('.html'));
    if (chunk?.type !== 'chunk' || sheet?.type !== 'asset' || page?.type !== 'asset' || all.length !== 3) {
      throw new Error(`verify is one script, one style sheet and one document, not ${Object.keys(bundle).join(', ')}`);
    }
    const [script, style] = [chunk.code, String(sheet.source)];
    // An element ends at the first end tag, whatever that stands in, and whoever reads the document turns these line ends into others.
    if (/<\/(script|style)|<!--|[\r\0]/i.test(script + style)) throw new Error('verify holds what cannot stand within an element');
    page.source = String(page.source)
      .replace(/\s*<script [^>]*src=[^>]*><\/script>/, '')
      .replace(/\s*<link rel="stylesheet"[^>]*>/, '')
      .replace('<meta charset="utf-8" />', (m) => `${m}\n    <meta http-equiv="Content-Security-Policy" content="${policy(script, style)}" />`)
      .replace('</head>', () => `  <link rel="icon" href="data:image/svg+xml,${encodeURIComponent(readFileSync(here('../public/mark.svg'), 'utf8').trim())}" />\n    <style>${style}</style>\n  </head>`)
      .replace('</body>', () => `  <script>${script}</script>\n  </body>`);
    for (const { fileName } of [chunk, sheet]) Reflect.deleteProperty(bundle, fileName);
  },
};

export default defineConfig({
  root: here('..'),
  base: '/',
  publicDir: false,
  plugins: [oneFile],
  build: {
    outDir: here('../../internal/webui/dist/app'),
    emptyOutDir: false, // the operator's page is there already
    assetsInlineLimit: 0,
    modulePreload: false,
    cssCodeSplit: false, // with it, a plain script would write its style into the document, which the policy forbids
    rollupOptions: {
      input: { verify: here('./index.html') },
      output: { format: 'iife' },
    },
  },
});
