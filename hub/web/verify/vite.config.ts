// The page "Verify" is built by itself, after the operator's page: one script and one style sheet, which share no piece with that page. The script is a
// plain one, not a module, so that the document also works when it was saved to a disk.
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';

const here = (p: string) => fileURLToPath(new URL(p, import.meta.url));

const plainScript: Plugin = {
  name: 'plain-script',
  transformIndexHtml: {
    order: 'post',
    handler: (html) => html.replace(/<script type="module" crossorigin/, '<script defer').replace(/<link rel="stylesheet" crossorigin/, '<link rel="stylesheet"'),
  },
};

export default defineConfig({
  root: here('..'),
  base: '/',
  publicDir: false,
  plugins: [plainScript],
  build: {
    outDir: here('../../internal/webui/dist/app'),
    emptyOutDir: false, // the operator's page is there already
    assetsInlineLimit: 0,
    modulePreload: false,
    cssCodeSplit: false, // with it, a plain script would write its style into the document, which the policy forbids
    rollupOptions: {
      input: { verify: here('./index.html') },
      output: { format: 'iife', assetFileNames: 'assets/verify-[hash][extname]' },
    },
  },
});
