// Text to take away: shown as it is, with a button that copies it.
import { useRef, useState } from 'react';
import { useManageText } from '../text/manage';
import './manage.css';

interface CopyTextProps {
  text: string;
  /** What it is, for the button and for screen readers. */
  name: string;
  onCopied?: () => void;
}

export function CopyText({ text, name, onCopied }: CopyTextProps) {
  const t = useManageText();
  const shown = useRef<HTMLElement>(null);
  const [said, say] = useState('');
  const copy = async () => {
    const done = (await writeClipboard(text)) || copySelected(shown.current);
    say(done ? t.copied : t.copyByHand);
    if (done) onCopied?.();
  };
  return (
    <div className="copy">
      {/* Can be focused, so that what does not fit can be scrolled with keys. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <code ref={shown} className="copy-text" tabIndex={0} role="group" aria-label={name}>
        {text.split(' ').map((word, i) => (
          // A word moves to the next line whole where it can: an option must not look like two.
          <span key={i}>
            {i > 0 && ' '}
            <span className="copy-word">{word}</span>
          </span>
        ))}
      </code>
      <button type="button" className="button" aria-label={t.copyOf(name)} onClick={() => void copy()}>
        {t.copy}
      </button>
      <span role="status" className="copy-said small">
        {said}
      </span>
    </div>
  );
}

async function writeClipboard(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // without TLS there is no clipboard, or its use was refused
  }
}

/** Selects what is shown and asks the browser the old way; if that fails, the selection is left for Ctrl-C. */
function copySelected(element: HTMLElement | null): boolean {
  const selection = window.getSelection();
  if (!element || !selection) return false;
  selection.selectAllChildren(element);
  try {
    return document.execCommand('copy');
  } catch {
    return false;
  }
}
