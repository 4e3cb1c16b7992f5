// Where a site's way in begins.
import { useState } from 'react';
import type { Site } from '../api/types';
import { useManageText } from '../text/manage';
import { ConnectDialog } from './connect';
import '../ui/manage.css';

export default function ConnectButton({ sites }: { sites: readonly Site[] }) {
  const t = useManageText();
  const [open, setOpen] = useState(false);
  return (
    <>
      <button type="button" className="button button-main page-do" onClick={() => setOpen(true)}>
        {t.join.connect}
      </button>
      {open && <ConnectDialog sites={sites} onClose={() => setOpen(false)} />}
    </>
  );
}
