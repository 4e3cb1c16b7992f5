import react from '@vitejs/plugin-react';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const here = (p: string) => fileURLToPath(new URL(p, import.meta.url));

// The hub that `npm run dev` talks to.
const hub = process.env.HSI_DEV_HUB ?? 'http://127.0.0.1:5000';
const toHub = { target: hub, changeOrigin: true };

export default defineConfig({
  plugins: [react()],
  // Deep links such as /miners/… are served with the same index.html, so every address is absolute.
  base: '/',
  build: {
    // Beside the committed placeholder, never over it: a build must not change what git tracks.
    outDir: here('../internal/webui/dist/app'),
    emptyOutDir: true,
    // The hub's content security policy allows only its own files: nothing becomes a data: address.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 2000,
    rollupOptions: {
      input: { page: here('./index.html'), docs: here('./docs/index.html') },
    },
  },
  server: {
    proxy: { '/api': toHub, '/health': toHub, '/openapi.json': toHub },
  },
  test: {
    include: ['src/**/*.test.ts', 'src/**/*.test.tsx', 'verify/**/*.test.ts'],
    environment: 'node',
  },
});
