// A dialog over the page: the browser keeps the focus in it, closes it with Escape and gives the focus back.
import { useId, useLayoutEffect, useRef, type ReactNode } from 'react';
import './manage.css';

interface DialogProps {
  title: string;
  onClose: () => void;
  /** False while what it shows would be lost: then only its own buttons close it. */
  mayClose?: boolean;
  children: ReactNode;
}

export function Dialog({ title, onClose, mayClose = true, children }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  // A layout effect: its end runs while the element is still there, and close() gives the focus back.
  useLayoutEffect(() => {
    const d = element.current;
    d?.showModal();
    return () => d?.close();
  }, []);
  return (
    <dialog
      ref={element}
      className="dialog"
      aria-labelledby={id}
      onCancel={(e) => {
        e.preventDefault();
        if (mayClose) onClose();
      }}
      onClose={() => {
        if (!element.current?.open) onClose(); // closed by the browser, which insists after some Escapes
      }}
    >
      <h2 id={id}>{title}</h2>
      {children}
    </dialog>
  );
}

/** A label, its field and what helps to fill it. */
export function Field({ label, htmlFor, hint, hintId, children }: { label: string; htmlFor: string; hint?: string; hintId?: string; children: ReactNode }) {
  return (
    <div className="field">
      <label htmlFor={htmlFor}>{label}</label>
      {children}
      {hint && (
        <p id={hintId} className="quiet small">
          {hint}
        </p>
      )}
    </div>
  );
}
