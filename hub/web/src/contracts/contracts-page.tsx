// The contracts: whose, since when, what they promise and how many miners they hold.
import { useState } from 'react';
import { useMay } from '../app/may';
import { contractPath, Link, useSearch } from '../app/router';
import { useContractText } from '../text/contracts';
import { useText } from '../text/text';
import { Problem } from '../ui/parts';
import { boundText } from './amounts';
import { Area, Utc } from './area';
import { MakeContract } from './make-contract';
import { useContracts, useCustomers } from './queries';

export default function ContractsPage() {
  const t = useContractText();
  const text = useText();
  const may = useMay();
  const list = useContracts();
  const customers = useCustomers(may('customers:read'));
  const [making, setMaking] = useState(false);
  const customer = new URLSearchParams(useSearch()).get('customer');
  const items = (list.data?.items ?? []).filter((c) => customer === null || c.customer_id === customer);
  const mayMake = may('contracts:write') && may('customers:read');
  return (
    <Area
      here="contracts"
      title={t.contracts.title}
      note={list.data && t.contracts.count(items.length)}
      actions={
        mayMake &&
        (customers.data?.items.length ?? 0) > 0 && (
          <button type="button" className="button button-main" onClick={() => setMaking(true)}>
            {t.contracts.make}
          </button>
        )
      }
    >
      {list.isPending && <p className="quiet">{text.loading}</p>}
      {list.error && <Problem title={t.contracts.loadError} error={list.error} onRetry={() => void list.refetch()} />}
      {mayMake && customers.data?.items.length === 0 && <p className="notice">{t.contracts.noCustomer}</p>}
      {list.data && (
        <section className="panel" aria-label={t.contracts.title}>
          {items.length === 0 ? (
            <p className="quiet">{mayMake ? t.contracts.noneYet : t.contracts.none}</p>
          ) : (
            <table className="list">
              <thead>
                <tr>
                  <th scope="col">{t.contracts.name}</th>
                  <th scope="col">{t.contracts.customer}</th>
                  <th scope="col" className="numeric">
                    {t.contracts.target}
                  </th>
                  <th scope="col" className="numeric">
                    {t.contracts.miners}
                  </th>
                  <th scope="col" className="numeric">
                    {t.contracts.version}
                  </th>
                  <th scope="col">{t.contracts.since}</th>
                </tr>
              </thead>
              <tbody>
                {items.map((c) => (
                  <tr key={c.id}>
                    <td>
                      <Link to={contractPath(c.id)}>
                        <strong>{c.name}</strong>
                      </Link>
                    </td>
                    <td data-name={t.contracts.customer}>{c.customer_name}</td>
                    <td data-name={t.contracts.target} className="numeric">
                      {boundText(c.target_ppm)}
                    </td>
                    <td data-name={t.contracts.miners} className="numeric">
                      {c.miners.toLocaleString('en')}
                    </td>
                    <td data-name={t.contracts.version} className="numeric">
                      {c.version}
                    </td>
                    <td data-name={t.contracts.since}>
                      <Utc at={c.from} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </section>
      )}
      {making && <MakeContract customers={customers.data?.items ?? []} customer={customer} onClose={() => setMaking(false)} />}
    </Area>
  );
}
