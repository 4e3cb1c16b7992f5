// One contract: its service level, its slots, its miners, its terms and its statements, each at an address of its own.
import { lazy, Suspense, useEffect, type ReactNode } from 'react';
import { ApiError } from '../api/client';
import type { ContractDetail } from '../api/types';
import { useMay, type Permission } from '../app/may';
import { contractParts, contractPath, Link, type ContractPart } from '../app/router';
import { useContractText } from '../text/contracts';
import { useText } from '../text/text';
import { ErrorBoundary, Problem } from '../ui/parts';
import { boundText } from './amounts';
import { Area, Utc } from './area';
import { MinersView } from './miners-view';
import { useContract } from './queries';
import { TermsView } from './terms-view';

// The chart, and the map: not needed to read terms.
const SlaView = lazy(() => import('../sla/sla-view'));
const SlotsView = lazy(() => import('../sla/slots-view'));
const StatementList = lazy(() => import('../statements/statement-list'));

const needed: Partial<Record<ContractPart, Permission>> = { sla: 'sla:read', slots: 'sla:read', statements: 'statements:read' };

export default function ContractPage({ id, part }: { id: string; part: ContractPart }) {
  const t = useContractText();
  const text = useText();
  const may = useMay();
  const contract = useContract(id);
  const name = contract.data?.name;
  useEffect(() => {
    if (name) document.title = text.title(name);
  }, [name, text]);

  if (contract.isPending) return <p className="quiet">{text.loading}</p>;
  if (!contract.data) {
    if (contract.error instanceof ApiError && (contract.error.status === 404 || contract.error.status === 422)) {
      return (
        <div className="notice">
          <p>{t.notFound}</p>
          <Link to="/contracts">{t.nav.contracts}</Link>
        </div>
      );
    }
    return <Problem title={t.loadError} error={contract.error} onRetry={() => void contract.refetch()} />;
  }
  const c = contract.data;
  const shown = contractParts.filter((p) => needed[p] === undefined || may(needed[p]));
  // A key that may not read months still reads terms: the address without a part leads it there.
  const here = shown.includes(part) ? part : 'terms';
  return (
    <Area
      here="contracts"
      title={c.name}
      note={
        <>
          {c.customer_name} · {t.contracts.target} {boundText(c.target_ppm)} · {t.contracts.since} <Utc at={c.from} />
        </>
      }
    >
      <nav className="tabs tabs-inner" aria-label={t.contracts.tabs.label}>
        {shown.map((p) => (
          <Link key={p} to={contractPath(id, p)} className="tab" aria-current={p === here ? 'page' : undefined}>
            {t.contracts.tabs[p]}
          </Link>
        ))}
      </nav>
      <ErrorBoundary title={text.error.title} area={`${id} ${here}`}>
        <Suspense fallback={<p className="quiet">{text.loading}</p>}>{view(c, here)}</Suspense>
      </ErrorBoundary>
    </Area>
  );
}

function view(c: ContractDetail, part: ContractPart): ReactNode {
  switch (part) {
    case 'sla': return <SlaView contract={c} />;
    case 'slots': return <SlotsView contract={c} />;
    case 'miners': return <MinersView contract={c} />;
    case 'terms': return <TermsView contract={c} />;
    case 'statements': return <StatementList contract={c.id} />;
  }
}
