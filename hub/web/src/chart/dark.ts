// Whether the page is dark: what is drawn on a canvas must be drawn again when that changes.
const query = '(prefers-color-scheme: dark)';

export const subscribeDark = (listener: () => void): (() => void) => {
  const media = window.matchMedia(query);
  media.addEventListener('change', listener);
  return () => media.removeEventListener('change', listener);
};

export const isDark = (): boolean => window.matchMedia(query).matches;
