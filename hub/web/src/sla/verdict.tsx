// Whether a target is met, with a mark besides the colour.
import { useContractText } from '../text/contracts';
import { Mark } from '../ui/parts';

export function Verdict({ met }: { met: boolean | undefined }) {
  const t = useContractText();
  if (met === undefined) return <span className="quiet">{t.sla.unsure}</span>;
  return (
    <span className={met ? 'verdict-met' : 'bad'}>
      <Mark shape={met ? 'ok' : 'faulty'} /> {met ? t.sla.met : t.sla.missed}
    </span>
  );
}
