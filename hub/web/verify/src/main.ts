// The one script of "Verify", which stands in the document itself: the page, and in a worker that the page starts with the same text, the check.
import '../../src/ui/base.css';
import '../../src/ui/shell.css';
import './verify.css';
import { start } from './page';
import { serve } from './work';

if (typeof document === 'undefined') serve();
else start(document.currentScript?.textContent ?? undefined);
